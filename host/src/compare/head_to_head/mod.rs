//! Two runs head to head: a judge sees both answers to each question and says which is better.
//!
//! Verdicts are kept in the second run's directory, one line per pair, so that nothing is asked twice. The judge, its
//! model and both answers identify a verdict.

mod contest;
mod rows;
mod tally;

pub use contest::{Contest, PairVerdicts};
pub use rows::{Arms, Files, tally, write_files};
pub use tally::Tally;
