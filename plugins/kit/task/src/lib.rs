//! What tasks share: settings with one of several words, the split of a file, worked examples, seeded draws, the
//! length of answers, and lessons of a question and its answer.
//!
//! The decision a newcomer would question: what is drawn for a question, such as worked examples, depends only on the
//! seed and the question's id, not on its position. So a limited, sharded or resumed run asks exactly what the whole
//! run asks.

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

/// The row of a sample that the host hands back. Any worker process may get it, so a task keeps no rows.
pub fn row_of(sample: &Sample) -> Row {
    Row::new(sample.doc.clone(), Place::Sample(sample.id.clone()))
}
