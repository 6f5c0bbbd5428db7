//! What tasks have in common around their own questions: settings that are one of several words, the split that a file
//! holds, worked examples, seeded draws, how long an answer may be, and a lesson of one question and its answer.
//!
//! The decision a newcomer would question: what is drawn for a question (worked examples, distractors) depends on the seed
//! and the question's id alone, never on its place in the run. So a limited run, a shard or a resumed run asks exactly what
//! the whole run asks.

mod answering;
mod draws;
mod lesson;
mod one_of;
mod shots;
mod split;

pub use answering::Answering;
pub use draws::Draws;
pub use lesson::lesson;
pub use one_of::{find_one, one_of};
pub use shots::{Shots, shots_data};
pub use split::{agreed, found_or, not_empty};

use data::{Place, Row};
use plugin_api::Sample;

/// The row of a sample that the host hands back. Any of its processes may ask, so a task remembers no row.
pub fn row_of(sample: &Sample) -> Row {
    Row::new(sample.doc.clone(), Place::Sample(sample.id.clone()))
}
