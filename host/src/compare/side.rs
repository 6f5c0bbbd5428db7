//! One side of a comparison: a run's records, by sample.

pub use crate::run::store::pair_key::Key;
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// Words that many records share, each kept once.
#[derive(Debug, Default)]
pub struct Words(HashSet<Arc<str>>);

impl Words {
    pub fn shared(&mut self, word: &str) -> Arc<str> {
        match self.0.get(word) {
            Some(known) => known.clone(),
            None => {
                let word: Arc<str> = word.into();
                self.0.insert(word.clone());
                word
            }
        }
    }
}

/// A few things by name, stored compactly, since there is one for each record.
#[derive(Debug, Clone, PartialEq)]
pub struct Few<V>(Box<[(Arc<str>, V)]>);

impl<V> Default for Few<V> {
    fn default() -> Self {
        Few(Box::default())
    }
}

impl<V> FromIterator<(Arc<str>, V)> for Few<V> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, V)>>(named: I) -> Self {
        Few(named.into_iter().collect())
    }
}

impl<V> Few<V> {
    pub fn get(&self, name: &str) -> Option<&V> {
        self.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &V)> {
        self.0.iter().map(|(name, value)| (&**name, value))
    }
}

/// The contribution of one sample to a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// A number whose mean is the figure.
    Mean(f64),
    /// The sample's share of two sums whose ratio is the figure, as in a micro-averaged F1.
    Ratio(f64, f64),
}

/// The parts of a record that are compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// By `metric` or `scorer.metric`; empty where the record is unscored or failed.
    pub values: Few<Part>,
    /// Why the task gave no value: `failed` or `unscored`.
    pub missing: Option<&'static str>,
    /// Judges that left it unscored.
    pub unscored: Box<[Arc<str>]>,
    /// The beginning of the prompt's hash.
    pub prompt: u128,
    pub cluster: Option<Arc<str>>,
    pub groups: Few<Arc<str>>,
    /// What the model said, for the list of flips.
    pub text: Box<str>,
    pub answer: Option<Box<str>>,
    pub target: Value,
    pub latency_ms: f64,
    pub generated_tokens: u32,
}

impl Entry {
    /// Whether the model answered but has no score of this name.
    pub fn is_unscored(&self, name: &str) -> bool {
        self.judge_left(name) || self.missing == Some(UNSCORED)
    }

    /// Whether a judge of this name left it unscored.
    pub fn judge_left(&self, name: &str) -> bool {
        self.unscored.iter().any(|judge| &**judge == name)
    }
}

/// Why a record has no values: its scorer could not tell.
pub const UNSCORED: &str = "unscored";

/// The parts of a run that are compared.
#[derive(Debug, Clone, Default, PartialEq)]
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
    pub entries: BTreeMap<Key, Entry>,
}
