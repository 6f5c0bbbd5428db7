//! `host compare`: two or more runs over the same samples.
//!
//! Runs are paired sample by sample, never compared by their totals: both sides got the same questions, and a test that
//! ignores this needs several times as many. Samples without a partner are counted and listed. The decision a newcomer
//! would question: the kind of metric, and whether samples share a passage or a clip, determine the test. The user
//! can't choose it, so nobody can pick a test after seeing its p.

mod bounds;
mod flips;
pub mod head_to_head;
mod metric;
mod pairing;
mod read;
mod report;
mod side;

pub use bounds::Bounds;
pub use flips::{Flip, Flips};
pub use metric::{Comparison, Decision, Kind, Row, adjust};
pub use pairing::{ACROSS, Across, pair};
pub use report::{Report, Summary, compare};
pub use side::{Key, Side};
