//! The trials that a baseline has, and how they are cut into parts.

use super::{Expectation, File};
use crate::import::{Part, Trial};
use crate::space::fields;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

/// Sentences that the restricted setting allows.
const RESTRICTED: RangeInclusive<usize> = 1..=6;

/// What matters of a chain.
#[derive(Debug, Clone)]
pub(super) struct Chain {
    pub trial: Trial,
    /// The words of each sentence.
    pub sentences: Vec<usize>,
}

pub(super) struct Baseline {
    chains: Vec<Chain>,
    ids: Vec<String>,
    /// The questions of each part of a baseline that is itself in parts.
    parts: BTreeMap<Part, BTreeSet<String>>,
    known: bool,
    malformed: usize,
}

impl Baseline {
    pub(super) fn of(files: &[&File], restricted: bool, expectation: Expectation) -> Baseline {
        let mut places: BTreeMap<Trial, usize> = BTreeMap::new();
        let mut chains: Vec<Chain> = Vec::new();
        let mut ids = Vec::new();
        let mut seen = BTreeSet::new();
        for row in files.iter().flat_map(|file| &file.rows) {
            let text = row.sanitized.as_deref().unwrap_or_default();
            let sentences = expectation
                .splitter
                .split(text)
                .into_iter()
                .map(|sentence| fields(sentence).count());
            let chain = Chain {
                trial: row.trial(),
                sentences: sentences.collect(),
            };
            let place = *places.entry(row.trial()).or_insert(chains.len());
            match chains.get_mut(place) {
                Some(known) => *known = chain,
                None => chains.push(chain),
            }
            if seen.insert(&row.id) {
                ids.push(row.id.clone());
            }
        }
        let part_of = |file: &&&File| Some((file.name.part?, file.rows.iter().map(|row| row.id.clone()).collect()));
        let parts = files.iter().filter_map(|file| part_of(&file)).collect();
        Baseline {
            chains: select(chains, restricted, expectation.chains),
            ids,
            parts,
            known: !files.is_empty(),
            malformed: files.iter().map(|file| file.malformed).sum(),
        }
    }

    /// Whether there is a baseline at all.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    pub(super) fn malformed(&self) -> usize {
        self.malformed
    }

    pub(super) fn part_numbers(&self) -> impl Iterator<Item = usize> {
        self.parts.keys().filter_map(|part| part.number())
    }

    /// Whether the baseline is in parts and this one is not among them.
    pub(super) fn lacks(&self, part: Option<Part>) -> bool {
        part.is_some_and(|part| !self.parts.is_empty() && !self.parts.contains_key(&part))
    }

    /// The chains of a part.
    pub(super) fn chains(&self, part: Option<Part>, parts: usize) -> impl Iterator<Item = &Chain> {
        let questions = self.questions(part, parts);
        self.chains
            .iter()
            .filter(move |chain| questions.contains(chain.trial.id.as_str()))
    }

    fn questions(&self, part: Option<Part>, parts: usize) -> BTreeSet<&str> {
        if let Some(own) = part.and_then(|part| self.parts.get(&part)) {
            return own.iter().map(String::as_str).collect();
        }
        let range = match part {
            None => 0..self.ids.len(),
            Some(Part::Range(start, end)) => start.min(self.ids.len())..end.min(self.ids.len()),
            Some(Part::Numbered(number)) => {
                let ranges = array_split(self.ids.len(), parts);
                ranges.get(number.wrapping_sub(1)).cloned().unwrap_or_default()
            }
        };
        self.ids
            .get(range)
            .unwrap_or_default()
            .iter()
            .map(String::as_str)
            .collect()
    }
}

/// The chains that take part: the first ones of each question, and of the restricted setting those of 1 to 6 sentences.
fn select(mut chains: Vec<Chain>, restricted: bool, count: Option<u64>) -> Vec<Chain> {
    if !restricted {
        chains.retain(|chain| count.is_none_or(|count| chain.trial.chain < count));
        return chains;
    }
    chains.retain(|chain| RESTRICTED.contains(&chain.sentences.len()));
    let mut kept: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for chain in &chains {
        kept.entry(&chain.trial.id).or_default().push(chain.trial.chain);
    }
    let first: BTreeSet<Trial> = kept
        .into_iter()
        .flat_map(|(id, mut numbers)| {
            numbers.sort_unstable();
            numbers.truncate(count.map_or(usize::MAX, |count| count as usize));
            numbers.into_iter().map(|chain| Trial {
                id: id.to_owned(),
                chain,
            })
        })
        .collect();
    chains.retain(|chain| first.contains(&chain.trial));
    chains
}

/// Things cut into parts as `numpy.array_split` cuts them: 10 in 4 parts are 3, 3, 2, 2.
pub fn array_split(count: usize, parts: usize) -> Vec<Range<usize>> {
    let (size, more) = (count / parts.max(1), count % parts.max(1));
    let mut start = 0;
    (0..parts)
        .map(|index| {
            let end = start + size + usize::from(index < more);
            std::mem::replace(&mut start, end)..end
        })
        .collect()
}
