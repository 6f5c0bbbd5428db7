//! `slurp` from outside, as one binary, so that it is linked once.

mod common;
mod metrics;
mod official;
mod prediction_files;
mod prompts;
mod samples;
mod scores;
