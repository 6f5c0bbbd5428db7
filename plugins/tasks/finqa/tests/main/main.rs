//! `finqa` from outside, as one binary, so that it is linked once.

mod common;
mod official;
mod prediction_files;
mod prompts;
mod rows;
mod scorer;
mod scores;
