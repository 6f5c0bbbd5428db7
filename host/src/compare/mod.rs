//! `host compare`: two or more runs over the same samples.
//!
//! Runs are paired sample by sample, never compared by their totals: the same questions were asked of both sides, and a
//! test that forgets it needs several times as many of them. What can't be paired is counted and listed. The decision a
//! newcomer would question: which test rules is chosen by the kind of metric and by whether samples share a passage or
//! a clip, not by the user, so that nobody picks the test after seeing its p.

mod bounds;
mod flips;
pub mod head_to_head;
mod metric;
mod pairing;
mod read;
mod report;
mod side;

pub use bounds::Bounds;
pub use flips::Flip;
pub use metric::{Comparison, Decision, Kind, Row};
pub use pairing::{ACROSS, Across, Missing, Pairs, pair};
pub use report::{Report, compare};
pub use side::{Entry, Key, Part, Side};
