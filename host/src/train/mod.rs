//! `host train`: which model learns what, from flags to a trained model and its figures.
//!
//! The model learns inside its plugin. What stands here gives it lessons, writes down what it says meanwhile, and tests
//! what came of it.

mod adapter;
mod class;
mod dry_run;
pub mod environment;
pub mod launch;
mod log;
mod memory;
pub mod names;
pub mod options;
mod progress;
mod record;
mod rows;
mod scan;
mod session;
mod settle;
mod show;
mod source;
mod table;
mod task_lessons;
mod tasks;
mod then_run;

pub use options::{Options, Output};
pub use session::run;
