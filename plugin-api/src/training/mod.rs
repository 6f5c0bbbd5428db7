//! Training: lessons, plans, and events.

mod lesson;
mod lessons;

pub use lesson::{Every, LearnEvent, Learnt, Lesson, LessonTokens, Piece, Plan, PromptTokens, Turn};
#[cfg(feature = "host")]
pub use lessons::Teacher;
#[cfg(feature = "host")]
pub(crate) use lessons::TeacherCallbacks;
pub use lessons::{Lessons, Split};
