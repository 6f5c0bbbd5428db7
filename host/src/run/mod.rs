//! A run: one model on one task, from samples to records to results.
//!
//! Samples are prepared ahead on a few threads, models pull prompts from a bounded queue, replies are scored on other
//! threads, and one writer appends records. Memory is bounded by the prompts that are prepared or in flight; a finished
//! sample leaves only its key and its numbers in memory. Everything a record depends on is in its key, so the same
//! command resumes where an earlier one stopped.

pub mod calls;
pub mod clips;
pub mod context;
pub(crate) mod finish;
pub mod graded;
pub mod ledger;
pub mod pipeline;
pub mod plan;
pub mod progress;
pub mod prompts;
pub mod recorded;
pub(crate) mod report;
pub mod results;
pub mod sample_clips;
pub mod select;
pub mod session;
pub mod shard;
pub mod statistics;
pub mod store;
pub mod tally;
mod tracked;
mod watchdog;
mod work_item;

pub use store::{directory, record};

use crate::ask::pool::Copy;
use crate::ask::roles::Roles;
use crate::ask::transcriber::Transcriber;
use crate::audio::interventions::Intervention;
use crate::catalog::Resolved;
use crate::failure::Failure;
use plugin_api::client::TaskClient;
use plugin_api::{LoraUse, ModelCard, TaskCard};
use results::Summary;
use select::Limit;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

/// The options of a run.
#[derive(Clone)]
pub struct Options {
    pub limit: Option<Limit>,
    pub limit_text: Option<String>,
    pub sample_ids: Vec<String>,
    /// This run's part of the selection, if several machines share it.
    pub shard: Option<shard::Shard>,
    /// The seed of random draws. There is always one, so that a resumed run equals an uninterrupted one.
    pub seed: u64,
    /// Answers to each question, each drawn from a seed of its own.
    pub chains: u32,
    /// Which of the model's LoRAs to use.
    pub lora: LoraUse,
    /// Prompts in flight at once; none leaves it to the model.
    pub batch_size: Option<usize>,
    pub out: PathBuf,
    pub fresh: bool,
    pub retry_errors: bool,
    pub quiet: bool,
    pub demo: bool,
    /// Leaves the scoring to a later command.
    pub predict_only: bool,
    /// Whether to test that a model that claims to hear does hear.
    pub audio_check: bool,
    /// Whether the clips are kept beside the records as they were heard.
    pub keep_audio: bool,
    /// Changes to every clip before the model gets it, in this order.
    pub audio: Vec<Intervention>,
    /// The trackers that get the numbers: `tensorboard`, `wandb`.
    pub report_to: Vec<String>,
    /// The time after which nothing new is started.
    pub until: Option<Instant>,
    pub stop: Arc<AtomicBool>,
    /// Models that the task may ask when it scores.
    pub roles: Arc<Roles>,
    /// The model that transcribes for models that can't hear.
    pub transcriber: Option<Arc<Transcriber>>,
    /// What may be spent on calls that leave this machine.
    pub spending: Arc<calls::Spending>,
    /// The flags in `run.toml` that repeat this run.
    pub repeat: Value,
}

/// A loaded model. Its copies share the work.
pub struct Model {
    pub name: String,
    pub resolved: Resolved,
    pub card: ModelCard,
    pub copies: Vec<Copy>,
    pub deadline: Option<Duration>,
}

/// A loaded task.
pub struct Task {
    pub name: String,
    pub resolved: Resolved,
    pub card: TaskCard,
    pub client: TaskClient,
}

/// The outcome of a run.
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
    /// What trackers say about their files.
    pub tracked: Option<String>,
    /// Why the run is incomplete, if it is.
    pub cut_short: Option<Failure>,
}
