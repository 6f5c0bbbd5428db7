//! Training: what a model learns from, how, and what it says meanwhile.

mod lesson;
mod lessons;

pub use lesson::{Every, LearnEvent, Learnt, Lesson, LessonTokens, Piece, Plan, PromptTokens, Turn};
pub use lessons::{Lessons, Split};
#[cfg(feature = "host")]
pub(crate) use lessons::TeacherCallbacks;
#[cfg(feature = "host")]
pub use lessons::Teacher;
