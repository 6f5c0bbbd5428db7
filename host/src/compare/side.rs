//! One side of a comparison: the figures of a run's records, by sample, and where each record lies.
//!
//! There is an entry for each record of a run, so an entry holds numbers only: ids and figures of all records lie in one
//! text and one list, and what many records have in common is kept once. What a model said is read where it lies.

use crate::run::recorded::Recorded;
pub use crate::run::store::pair_key::Key;
use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

/// The contribution of one sample to a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// A number whose mean is the figure.
    Mean(f64),
    /// The sample's share of two sums whose ratio is the figure, as in a micro-averaged F1.
    Ratio(f64, f64),
}

/// The parts of a record that are compared.
#[derive(Debug, Clone, Default)]
pub struct Figures {
    /// Where the record lies in `samples.jsonl`.
    pub place: u64,
    /// By `metric` or `scorer.metric`; empty where the record is unscored or failed.
    pub values: BTreeMap<String, Part>,
    /// Why the task gave no value: `failed` or `unscored`.
    pub missing: Option<&'static str>,
    /// Judges that left it unscored.
    pub unscored: Vec<String>,
    /// The beginning of the prompt's hash.
    pub prompt: [u8; 16],
    pub cluster: Option<String>,
    pub groups: BTreeMap<String, String>,
    pub latency_ms: f64,
    pub generated_tokens: u32,
}

/// Why a record has no values: its scorer could not tell.
pub const UNSCORED: &str = "unscored";

/// Things that many records share, each kept once.
#[derive(Debug)]
struct Shared<T>(HashSet<Arc<T>>);

impl<T: Eq + Hash> Shared<T> {
    fn get(&mut self, thing: T) -> Arc<T> {
        match self.0.get(&thing) {
            Some(known) => known.clone(),
            None => {
                let thing = Arc::new(thing);
                self.0.insert(thing.clone());
                thing
            }
        }
    }
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared(HashSet::new())
    }
}

/// What a record says besides its numbers.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    variant: String,
    /// The names of its values, and whether each is a ratio.
    values: Vec<(String, bool)>,
    missing: Option<&'static str>,
    unscored: Vec<String>,
    groups: Vec<(String, String)>,
}

/// One record.
#[derive(Debug)]
struct Entry {
    place: u64,
    /// Where its sample's id begins in all ids, and its first value in all values.
    id: usize,
    values: usize,
    latency_ms: f64,
    prompt: [u8; 16],
    kind: Arc<Kind>,
    cluster: Option<Arc<String>>,
    id_length: u32,
    chain: u32,
    generated_tokens: u32,
}

/// The parts of a run that are compared.
#[derive(Default)]
pub struct Side {
    /// Its name in tables.
    pub name: String,
    /// The run's directory as it was given.
    pub path: String,
    /// What must agree, by name: `task`, `task-version`, `data`, `scorer`, `judges`.
    pub facts: BTreeMap<String, String>,
    /// False for metrics where lower is better.
    pub higher_is_better: BTreeMap<String, bool>,
    /// The order in which the task names its metrics.
    pub order: Vec<String>,
    pub finished: bool,
    pub entries: Entries,
    /// The run, to read records where they lie.
    pub run: Option<Recorded>,
}

/// The records of a side.
#[derive(Default)]
pub struct Entries {
    list: Vec<Entry>,
    ids: String,
    values: Vec<f64>,
    kinds: Shared<Kind>,
    clusters: Shared<String>,
}

impl Entries {
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// The record at this place in the order of keys.
    pub fn at(&self, index: usize) -> Seen<'_> {
        self.seen(&self.list[index])
    }

    fn seen<'a>(&'a self, entry: &'a Entry) -> Seen<'a> {
        Seen { all: self, entry }
    }

    /// For so many records.
    pub fn of(count: usize) -> Entries {
        Entries {
            list: Vec::with_capacity(count),
            ..Entries::default()
        }
    }

    /// Adds a record. [`Entries::sort`] ends a series of them.
    pub fn add(&mut self, key: Key, figures: Figures) {
        let kind = Kind {
            variant: key.variant,
            values: figures
                .values
                .iter()
                .map(|(name, part)| (name.clone(), matches!(part, Part::Ratio(..))))
                .collect(),
            missing: figures.missing,
            unscored: figures.unscored,
            groups: figures.groups.into_iter().collect(),
        };
        self.list.push(Entry {
            place: figures.place,
            id: self.ids.len(),
            values: self.values.len(),
            latency_ms: figures.latency_ms,
            prompt: figures.prompt,
            kind: self.kinds.get(kind),
            cluster: figures.cluster.map(|cluster| self.clusters.get(cluster)),
            id_length: key.sample.len() as u32,
            chain: key.chain,
            generated_tokens: figures.generated_tokens,
        });
        self.ids += &key.sample;
        for part in figures.values.into_values() {
            match part {
                Part::Mean(value) => self.values.push(value),
                Part::Ratio(above, below) => self.values.extend([above, below]),
            }
        }
    }

    /// Brings the records into the order of their keys. Of several with the same key, the last counts.
    pub fn sort(&mut self) {
        let mut list = std::mem::take(&mut self.list);
        list.sort_by(|a, b| self.seen(a).key().cmp(&self.seen(b).key()));
        list.dedup_by(|later, kept| {
            let same = self.seen(later).key() == self.seen(kept).key();
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
        self.list = list;
    }
}

/// One record among all of a side.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    all: &'a Entries,
    entry: &'a Entry,
}

impl<'a> Seen<'a> {
    /// The sample, the variant and the chain, by which records are paired and put in order.
    pub fn key(self) -> (&'a str, &'a str, u32) {
        let Entry { id, id_length, .. } = *self.entry;
        let sample = &self.all.ids[id..id + id_length as usize];
        (sample, &self.entry.kind.variant, self.entry.chain)
    }

    /// The key in words.
    pub fn name(self) -> String {
        match self.key() {
            (sample, "", 0) => sample.to_owned(),
            (sample, variant, chain) => format!("{sample} {variant} chain {chain}"),
        }
    }

    pub fn place(self) -> u64 {
        self.entry.place
    }

    /// The names of its values.
    pub fn names(self) -> impl Iterator<Item = &'a str> {
        self.entry.kind.values.iter().map(|(name, _)| name.as_str())
    }

    pub fn value(self, name: &str) -> Option<Part> {
        let mut at = self.entry.values;
        for (known, ratio) in &self.entry.kind.values {
            let values = &self.all.values[at..];
            match ratio {
                true if known == name => return Some(Part::Ratio(values[0], values[1])),
                false if known == name => return Some(Part::Mean(values[0])),
                _ => at += 1 + usize::from(*ratio),
            }
        }
        None
    }

    pub fn missing(self) -> Option<&'static str> {
        self.entry.kind.missing
    }

    /// Whether the model answered but has no score of this name.
    pub fn is_unscored(self, name: &str) -> bool {
        self.judge_left(name) || self.missing() == Some(UNSCORED)
    }

    /// Whether a judge of this name left it unscored.
    pub fn judge_left(self, name: &str) -> bool {
        self.entry.kind.unscored.iter().any(|judge| judge == name)
    }

    pub fn prompt(self) -> [u8; 16] {
        self.entry.prompt
    }

    pub fn cluster(self) -> Option<&'a str> {
        self.entry.cluster.as_deref().map(String::as_str)
    }

    /// Its groups, and the member that it is of each.
    pub fn groups(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let groups = self.entry.kind.groups.iter();
        groups.map(|(group, member)| (group.as_str(), member.as_str()))
    }

    pub fn latency_ms(self) -> f64 {
        self.entry.latency_ms
    }

    pub fn generated_tokens(self) -> u32 {
        self.entry.generated_tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(sample: &str, chain: u32) -> Key {
        Key {
            sample: sample.to_owned(),
            variant: String::new(),
            chain,
        }
    }

    #[test]
    fn records_come_back_in_the_order_of_keys_and_the_last_of_a_key_counts() {
        let mut all = Entries::default();
        let values = |acc: f64| {
            BTreeMap::from([
                ("acc".to_owned(), Part::Mean(acc)),
                ("f1".to_owned(), Part::Ratio(acc, 4.0)),
            ])
        };
        for (place, (sample, chain)) in [("b", 1), ("b", 0), ("a", 0), ("b", 1), ("", 7)]
            .into_iter()
            .enumerate()
        {
            let figures = Figures {
                place: place as u64,
                values: values(place as f64),
                ..Figures::default()
            };
            all.add(key(sample, chain), figures);
        }
        all.sort();
        let places: Vec<u64> = (0..all.count()).map(|index| all.at(index).place()).collect();
        assert_eq!(places, [4, 2, 1, 3]);
        let last = all.at(3);
        assert_eq!((last.key(), last.value("acc")), (("b", "", 1), Some(Part::Mean(3.0))));
        assert_eq!(
            (last.value("f1"), last.value("f2")),
            (Some(Part::Ratio(3.0, 4.0)), None)
        );
    }

    /// What a comparison of ten million records stands on.
    #[test]
    fn a_record_takes_eighty_bytes_its_id_and_its_numbers() {
        assert_eq!(size_of::<Entry>(), 80);
    }
}
