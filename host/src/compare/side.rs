//! One side of a comparison: what a run's records say, by sample.

pub use crate::run::store::pair_key::Key;
use serde_json::Value;
use std::collections::BTreeMap;

/// What one sample adds to a figure.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// A number whose mean is the figure.
    Mean(f64),
    /// The sample's share of two sums whose ratio is the figure, as in a micro-averaged F1.
    Ratio(f64, f64),
}

/// One record, as far as it is compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Entry {
    /// By `metric` or `scorer.metric`; empty where the record is unscored or failed.
    pub values: BTreeMap<String, Part>,
    /// Why there are no values: `failed`, `unscored`.
    pub missing: Option<String>,
    pub prompt_hash: String,
    pub cluster: Option<String>,
    pub groups: BTreeMap<String, String>,
    /// What the model said, for the list of flips.
    pub text: String,
    pub answer: Option<String>,
    pub target: Value,
    pub latency_ms: f64,
    pub generated_tokens: u32,
}

/// A run, as far as it is compared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Side {
    /// What the tables call it.
    pub name: String,
    /// The run's directory as it was given.
    pub path: String,
    /// What must agree, by name: `task`, `task-version`, `data`, `scorer`, `judges`.
    pub facts: BTreeMap<String, String>,
    /// False for metrics of which less is better.
    pub higher_is_better: BTreeMap<String, bool>,
    /// The order in which the task names its metrics.
    pub order: Vec<String>,
    pub finished: bool,
    pub entries: BTreeMap<Key, Entry>,
}
