//! Two runs head to head: a judge is shown both answers to each question and says which is better.
//!
//! Verdicts are kept in the second run's directory, one line a pair, so that nothing is asked twice. A verdict is known
//! by the judge, its model, and both answers.

mod contest;
mod rows;
mod tally;

pub use contest::{Contest, PairVerdicts};
pub use rows::{Arms, Files, tally, write_files};
pub use tally::Tally;
