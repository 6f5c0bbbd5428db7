//! The keys that an experiment's file should hold.

use super::File;
use super::baseline::{Baseline, Chain};
use crate::experiment::{Experiment, Scale};
use crate::import::{Key, Point, Trial, label};
use std::collections::{BTreeMap, BTreeSet};

/// Sentences with fewer words get no mistake.
const LEAST_WORDS: usize = 3;

#[derive(Debug, Default)]
pub(super) struct Keys {
    pub needed: BTreeMap<Key, String>,
    /// Keys that may be there or not.
    pub allowed: BTreeSet<Key>,
}

impl Keys {
    fn add(&mut self, needed: bool, trial: &Trial, condition: &str, point: Point) {
        let key = Key {
            id: trial.id.clone(),
            chain: trial.chain,
            condition: condition.to_owned(),
            point: point.key(),
        };
        if needed {
            self.needed.insert(key, label(&trial.id, trial.chain, condition, point));
        } else {
            self.allowed.insert(key);
        }
    }
}

/// The keys of a file, from the baseline, or from its own rows if there is none. None where nothing is known.
pub(super) fn of(experiment: Experiment, file: &File, baseline: &Baseline, parts: usize) -> Option<Keys> {
    // Its chains count from 1 and its clips have regions of their own.
    if experiment == Experiment::JascoMasking {
        return None;
    }
    let own;
    let mut chains: Vec<&Chain> = match baseline.is_known() {
        true => baseline.chains(file.name.part, parts).collect(),
        false => {
            own = chains_of_rows(file, experiment)?;
            own.iter().collect()
        }
    };
    if experiment == Experiment::FillerText {
        chains = one_a_question(chains, file);
    }
    let conditions: BTreeSet<&str> = match file.rows.is_empty() {
        true => BTreeSet::from([file.name.condition.as_str()]),
        false => file.rows.iter().map(|row| row.condition.as_str()).collect(),
    };
    let levels = levels(file);
    let mut keys = Keys::default();
    for chain in chains {
        for condition in &conditions {
            add_chain(&mut keys, experiment, chain, condition, &levels);
        }
    }
    Some(keys)
}

fn add_chain(keys: &mut Keys, experiment: Experiment, chain: &Chain, condition: &str, levels: &[Point]) {
    let length = chain.sentences.len();
    // Nothing asks about a chain without a word; a file may hold its rows or not.
    let has_words = length > 0;
    let mut add = |needed, point| keys.add(needed, &chain.trial, condition, point);
    match experiment.scale() {
        Scale::Sentences => (0..=length).for_each(|k| add(has_words, Point::At(k as f64))),
        Scale::Positions => {
            for (index, words) in chain.sentences.iter().enumerate() {
                add(*words >= LEAST_WORDS, Point::At((index + 1) as f64));
            }
        }
        Scale::Percent => {
            let of_text = experiment != Experiment::AudioMasking;
            for percent in experiment.percentages().unwrap_or_default() {
                add(has_words || !of_text, Point::At(f64::from(percent)));
            }
        }
        Scale::Decibels => levels.iter().for_each(|level| add(true, *level)),
        Scale::None => {
            let of_audio = matches!(
                experiment,
                Experiment::Hint | Experiment::Swap | Experiment::NoReasoning
            );
            add(has_words || of_audio, Point::Only);
        }
    }
}

/// The levels of noise: all that a file has anywhere.
fn levels(file: &File) -> Vec<Point> {
    let mut levels: BTreeMap<(u8, u64), Point> = BTreeMap::new();
    levels.extend(file.rows.iter().map(|row| (row.point.key(), row.point)));
    levels.into_values().collect()
}

/// Chains as their own rows tell of them. A chain without a single row is not seen.
fn chains_of_rows(file: &File, experiment: Experiment) -> Option<Vec<Chain>> {
    let counted = matches!(experiment.scale(), Scale::Sentences | Scale::Positions);
    let mut chains: BTreeMap<Trial, u64> = BTreeMap::new();
    for row in &file.rows {
        let length = if counted { row.total? } else { 1 };
        let known = chains.entry(row.trial()).or_default();
        *known = (*known).max(length);
    }
    let whole = |(trial, length): (Trial, u64)| Chain {
        trial,
        sentences: vec![LEAST_WORDS; length as usize],
    };
    Some(chains.into_iter().map(whole).collect())
}

/// The published filler test asks about the longest chain of a question alone: the one in the file, else by words.
fn one_a_question<'a>(chains: Vec<&'a Chain>, file: &File) -> Vec<&'a Chain> {
    let present: BTreeSet<Trial> = file.rows.iter().map(|row| row.trial()).collect();
    let mut best: BTreeMap<&str, &Chain> = BTreeMap::new();
    let rank = |chain: &Chain| (present.contains(&chain.trial), chain.sentences.iter().sum::<usize>());
    for chain in &chains {
        let known = best.entry(chain.trial.id.as_str()).or_insert(chain);
        if rank(chain) > rank(known) {
            *known = chain;
        }
    }
    let several = |chain: &&Chain| present.contains(&chain.trial);
    let asked: BTreeSet<&Trial> = best.values().map(|chain| &chain.trial).collect();
    chains
        .into_iter()
        .filter(|chain| several(chain) || asked.contains(&chain.trial))
        .collect()
}
