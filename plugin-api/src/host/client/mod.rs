//! The host's side of the vocabulary: typed calls to an adapter, wherever it runs.
//!
//! It lives here and not in the host, so that each envelope is written and read in one crate and its two ends
//! can't drift apart. Plugin authors need none of it, except in their tests.

mod judge;
mod model;
mod task;

pub use crate::training::Teacher;
pub use judge::{JudgeClient, Judging, NextCase};
#[doc(hidden)] // its former name
pub use model::NextJob as Given;
pub use model::{teaching, EstimateClient, ModelClient, NextJob, Serving};
pub use task::{FilesClient, Pages, TaskClient};

use std::time::Duration;

/// The longest time that the host lets a pull wait. The plugin pulls again; meanwhile the end of its process is
/// noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

/// Whether something that a plugin emits is the result of finished work: an answer, or a verdict. A long call that
/// emits one is getting somewhere.
pub fn is_result(what: &str) -> bool {
    matches!(crate::wire::verb(what), "reply" | "verdict")
}
