//! A run: one model on one task, from samples to records to results.
//!
//! Samples are prepared ahead on a few threads, models pull prompts from a bounded queue, replies are scored on other
//! threads, and one writer appends records. Memory is bounded by what is prepared and at work; of a finished sample only
//! its key and its numbers stay. Everything a record depends on is in its key, so the same command goes on where any
//! earlier one stopped.

mod clips;
pub(crate) mod conclude;
pub mod ears;
mod execute;
pub mod graded;
mod hearing_test;
mod listening;
mod pipeline;
pub mod progress;
pub mod prompts;
mod queue;
pub(crate) mod report;
pub mod results;
pub mod roles;
mod seats;
pub mod select;
pub mod statistics;
pub mod store;
pub mod tally;

pub use execute::{execute, task_identity};
pub use store::{directory, record};

use crate::catalog::Resolved;
use crate::failure::Failure;
use crate::plugin::WorkerControl;
use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::{LoraUse, ModelCard, TaskCard};
use results::Summary;
use select::Limit;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// How a run is to be done.
#[derive(Clone)]
pub struct Options {
    pub limit: Option<Limit>,
    pub limit_text: Option<String>,
    pub sample_ids: Vec<String>,
    /// Where random draws start. There is always one, or a run that was cut short would not equal one that was not.
    pub seed: u64,
    /// Answers to each question, each drawn from a seed of its own.
    pub chains: u32,
    /// Which of the LoRAs that the model holds answer.
    pub lora: LoraUse,
    /// Prompts at work at once; none leaves it to the model.
    pub batch_size: Option<usize>,
    pub out: PathBuf,
    pub fresh: bool,
    pub retry_errors: bool,
    pub quiet: bool,
    pub demo: bool,
    /// Leaves the scoring to a later command.
    pub predict_only: bool,
    /// Whether a model that says it hears is put to the test.
    pub hearing_test: bool,
    /// The time after which nothing more is begun.
    pub until: Option<Instant>,
    pub stop: Arc<AtomicBool>,
    /// Models that the task may ask while it scores.
    pub roles: Arc<roles::Roles>,
    /// The model that hears for models that can't.
    pub ears: Option<Arc<ears::Ears>>,
    /// What `run.toml` repeats this run with.
    pub repeat: Value,
}

/// A loaded model. Several instances of one model share a queue.
pub struct Model {
    pub name: String,
    pub resolved: Resolved,
    pub card: ModelCard,
    pub instances: Vec<Instance>,
    pub deadline: Option<Duration>,
}

/// One copy of a model.
pub struct Instance {
    pub client: ModelClient,
    pub control: Option<Arc<dyn WorkerControl>>,
}

/// A loaded task.
pub struct Task {
    pub name: String,
    pub resolved: Resolved,
    pub card: TaskCard,
    pub client: TaskClient,
}

/// What became of a run.
pub struct Outcome {
    pub summary: Summary,
    pub results: Value,
    pub directory: PathBuf,
    pub finished: u64,
    pub failed: u64,
    pub selected: usize,
    /// Where the records of this selection lie in the run's `samples.jsonl`.
    pub places: Vec<u64>,
    /// Answers to each question.
    pub chains: u32,
    /// Why the run is not whole, when it is not.
    pub cut_short: Option<Failure>,
}
