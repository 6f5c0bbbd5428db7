//! A run: one model on one task, from samples to records to results.
//!
//! Samples are prepared ahead on a few threads, models pull prompts from a bounded queue, replies are scored on other
//! threads, and one writer appends records. Memory is bounded by what is prepared and at work; of a finished sample only
//! its key and its numbers stay. Everything a record depends on is in its key, so the same command goes on where any
//! earlier one stopped.

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

/// How a run is to be done.
#[derive(Clone)]
pub struct Options {
    pub limit: Option<Limit>,
    pub limit_text: Option<String>,
    pub sample_ids: Vec<String>,
    /// The part of the selection that is this run's, when several machines share it.
    pub shard: Option<shard::Shard>,
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
    pub audio_check: bool,
    /// Whether the clips are kept beside the records as they were heard.
    pub keep_audio: bool,
    /// Changes that are made to every clip before the model gets it, in this order.
    pub audio: Vec<Intervention>,
    /// The trackers that get the numbers: `tensorboard`, `wandb`.
    pub report_to: Vec<String>,
    /// The time after which nothing more is begun.
    pub until: Option<Instant>,
    pub stop: Arc<AtomicBool>,
    /// Models that the task may ask while it scores.
    pub roles: Arc<Roles>,
    /// The model that hears for models that can't.
    pub transcriber: Option<Arc<Transcriber>>,
    /// What may be spent on calls that leave this machine.
    pub spending: Arc<calls::Spending>,
    /// What `run.toml` repeats this run with.
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
    /// What trackers say of their files.
    pub tracked: Option<String>,
    /// Why the run is not whole, when it is not.
    pub cut_short: Option<Failure>,
}
