//! A training run: which rows when, at which rate, what is logged, evaluated and saved, and how it goes on after a stop.
//!
//! Everything here depends only on row and step numbers, so that a run that is killed and resumed ends with the same
//! bytes as an uninterrupted one. A model's plugin needs one line: [`learn`].

mod checkpoint;
mod driver;
mod evaluate;
mod generations;
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
pub use student::{Picker, Student};

#[cfg(any(test, feature = "double"))]
pub mod double;
#[cfg(test)]
mod tests;
