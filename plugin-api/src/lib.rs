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
//! The boundary has two layers. A tiny binary one (`wire/abi.rs`) that changes with the wire's version alone, and this
//! vocabulary of plain `serde` data, which grows: new fields have defaults, unknown fields are ignored, unknown kinds
//! of part read as `Unknown`. So a plugin built against an older version works in a newer host of the same wire, and
//! the other way round. The README of this crate has the policy.
//!
//! `model`, `task`, `judge` and `training` are for authors. `wire` is what crosses. The host's half (typed clients, the
//! loader) is there with the feature `host`, which a plugin needs in its tests alone.
//!
//! The one decision a newcomer would question: calls carry JSON. It costs microseconds where a model takes
//! milliseconds, and it is what lets the same call go to another process, and both sides grow apart in peace.
//! Samples of sound travel beside it, shared and not copied.
#![deny(missing_docs)]

mod call;
mod error;
mod export;
mod guard;
#[cfg(feature = "host")]
mod host;
mod judge;
mod kind;
mod log;
mod model;
mod nan;
mod redact;
mod register;
mod secret;
mod settings;
mod task;
mod training;
mod wire;

pub use call::Call;
pub use error::{Code, Context, Error, Result};
#[cfg(feature = "host")]
pub use host::{client, loading};
pub use judge::{Case, Cases, Cost, Judge, JudgeCard, Pending, Ruling, Verdict, Verdicts};
pub use kind::Kind;
pub use log::{log, Level, LogNote};
pub use model::{
    make_estimate, Alternative, Answers, Commander, Constraint, Estimate, Finish, Job, Jobs, LessonCutter, LoraUse,
    MakeTrainingEstimate, Memory, Message, Model, ModelCard, OptionScore, Part, Prompt, Pulled, Reads, Reply, Role,
    Sampling, Timing, TokenScore, TrainingEstimate, Usage, Want, Workload,
};
pub use redact::{hide, redacted};
pub use register::{make, AdapterNote, EstimateNote, FilesNote, NoteRecord, NOTE_SECTION};
pub use secret::{is_variable_name, Secret};
pub use settings::{named_folders, OptionSpec, OptionType, Settings};
pub use task::{
    make_files, ClipSource, FileAnswers, FileKind, FileScores, FilesCard, Metric, MetricCard, Next, OfficialFiles,
    Output, Row, Rows, Sample, Score, Status, Task, TaskCard,
};
pub use training::{Every, LearnEvent, Learnt, Lesson, LessonTokens, Lessons, Piece, Plan, PromptTokens, Split, Turn};
pub use wire::abi::WIRE;
pub use wire::{Adapter, Callbacks, Clip, Envelope, NoCallbacks};

pub use serde;
pub use serde_json;

/// This version of the contract.
pub const VERSION: &str = env!("PLUGIN_API_VERSION");

/// The compiler that built this copy of the crate.
pub const RUSTC: &str = env!("PLUGIN_API_RUSTC");

/// What the macros expand to. Not part of the contract.
#[doc(hidden)]
pub mod __private {
    pub use crate::export::{lib_header, LibHeader};
    pub use crate::model::EstimateRegistration;
    pub use crate::register::{judge, model, note_bytes, note_len, option_types, option_words, task, Registration};
    pub use crate::task::FilesRegistration;
    pub use inventory;
}
