//! The contract between `host` and its plugins.
//!
//! A plugin is a shared library that holds Models, Tasks or Judges. Its author implements a plain trait, registers it,
//! and calls [`export_plugin!`] once:
//!
//! ```
//! use plugin_api::{export_plugin, register_model, Call, Model, ModelCard, Prompt, Reply, Result};
//!
//! struct Echo;
//!
//! impl Model for Echo {
//!     fn card(&self) -> ModelCard {
//!         ModelCard::text("echo")
//!     }
//!
//!     fn reply(&mut self, prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
//!         Ok(Reply::text(prompt.last_user_text()))
//!     }
//! }
//!
//! register_model!("echo", "Repeats the last user message", |_settings| Ok(Echo));
//! export_plugin!();
//! # fn main() {}
//! ```
//!
//! The boundary has two layers. A tiny binary one (`abi.rs`, the only file with `unsafe` or with a word of
//! `abi_stable`) that never changes within a major version, and this vocabulary of plain `serde` data, which grows:
//! new fields have defaults, unknown fields are ignored, unknown kinds of part read as `Unknown`. So a plugin built
//! against an older minor version works in a newer host, and the other way round. The README of this crate has the policy.
//!
//! The one decision a newcomer would question: calls carry JSON. It costs microseconds where a model takes
//! milliseconds, and it is what lets the same call go to another process, and both sides grow apart in peace.
//! Samples of sound travel beside it, shared and not copied.
#![deny(missing_docs)]

mod abi;
mod adapter;
mod call;
mod card;
/// The host's side: typed calls to adapters.
pub mod client;
mod error;
mod estimate;
mod files;
mod judge;
mod lesson;
mod lessons;
mod log;
mod model;
mod parcel;
mod prompt;
mod register;
mod reply;
mod sample;
mod secret;
mod settings;
mod task;
mod verdict;

pub use adapter::Adapter;
pub use call::{Answers, Call, Callbacks, Job, Jobs, Pulled, Rows, Silent};
pub use card::{Constraint, JudgeCard, Kind, MetricCard, ModelCard, Reads, TaskCard};
pub use error::{Code, Context, Error, Result};
pub use estimate::{make_estimate, Estimate, MakeTrainingEstimate, TrainingEstimate, Workload};
pub use files::{make_files, FileAnswers, FileKind, FileScores, FilesCard, Output, TaskFiles};
pub use judge::{Cases, Judge, Pending, Verdicts};
pub use lesson::{Every, LearnEvent, Learnt, Lesson, LessonTokens, Piece, Plan, PromptTokens, Turn};
pub use lessons::{Lessons, Split};
pub use log::{log, Level, LogNote};
pub use model::{Commander, LessonCutter, Model};
pub use parcel::{Clip, Parcel};
pub use prompt::{LoraUse, Message, Part, Prompt, Role, Sampling, Want};
pub use register::{make, AdapterNote, EstimateNote, FilesNote, NoteRecord, NOTE_SECTION};
pub use reply::{Alternative, Finish, Memory, OptionScore, Reply, Timing, TokenScore, Usage};
pub use sample::{ClipSource, Metric, Row, Sample, Score, Status};
pub use secret::{hide, is_variable_name, redacted, Secret};
pub use settings::{named_folders, OptionSpec, OptionType, Settings};
pub use task::{Next, Task};
pub use verdict::{Case, Cost, Ruling, Verdict};

pub use serde;
pub use serde_json;

/// This version of the contract.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The compiler that built this copy of the crate.
pub const RUSTC: &str = env!("PLUGIN_API_RUSTC");

/// What a host needs to open a library: the header's type, its symbol, and the check.
pub mod loading {
    pub use crate::abi::{AbiHeaderRef, Plugin, Refusal, PANIC_ON_PURPOSE, ROOT_SYMBOL};
    pub use crate::estimate::WORD as ESTIMATE;
    pub use crate::files::WORD as FILES;
}

/// What the macros expand to. Not part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use crate::abi::{lib_header, LibHeader};
    pub use crate::estimate::EstimateRegistration;
    pub use crate::files::FilesRegistration;
    pub use crate::register::{judge, model, note_bytes, note_len, option_types, task, Registration};
    pub use inventory;
}
