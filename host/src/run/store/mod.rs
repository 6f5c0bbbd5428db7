//! A run on disk: records that are appended and never rewritten, and later scores in a file of their own.
//!
//! `samples.jsonl` holds one record for each key. A record's `scores` map names everybody who scored it. Scores that
//! came after the record was written (of a run with `--predict-only`, of another version of the scorer, of a judge) lie
//! in `scores.jsonl`, each under the record's key and the scorer's name. [`Records`] reads both as one.

pub mod directory;
pub mod hash;
pub mod pair_key;
pub mod places;
pub mod record;
pub mod score;
pub mod scores;

pub use scores::{Records, Scores};
