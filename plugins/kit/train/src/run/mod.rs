//! A training run: which rows when, at which rate, what is logged, evaluated and saved, and how it goes on after a stop.
//!
//! Everything here is told by numbers of rows and steps, so that a run that was killed and goes on from its last checkpoint
//! ends with the same bytes as one that was not. A model's plugin has one line of it: [`learn`].

mod checkpoint;
mod driver;
mod evaluate;
mod hearing;
mod mersenne;
mod order;
mod rows;
mod schedule;
mod settings;
mod state;
mod student;

pub use driver::learn;
pub use mersenne::Mersenne;
pub use order::{Order, Steps};
pub use schedule::{Schedule, warmup_steps};
pub use settings::{Cut, RunSettings, Settings};
pub use student::Student;

#[cfg(any(test, feature = "double"))]
pub mod double;
#[cfg(test)]
mod tests;
