//! A training run: the order of rows, the learning rate, logs, evaluations, checkpoints, and resuming.
//!
//! Everything here depends only on row and step numbers, so that a run that is killed and resumed ends with the same
//! bytes as an uninterrupted one. A model's plugin needs one line: [`learn`].

mod checkpoint;
mod driver;
mod evaluate;
mod generations;
mod mersenne;
mod order;
mod rows;
mod schedule;
mod settings;
mod state;
mod student;
mod tower_cache;

pub use driver::learn;
pub use mersenne::Mersenne;
pub use order::{Order, Steps};
pub use rows::{deaf, expanded};
pub use schedule::{Schedule, warmup_steps};
pub use settings::{Cut, RunSettings, Settings};
pub use student::{Picker, Student};

#[cfg(any(test, feature = "double"))]
pub mod double;
#[cfg(test)]
mod tests;
