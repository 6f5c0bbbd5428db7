//! `arc` from outside, as one binary, so that it is linked once.

mod common;
mod likelihood_files;
mod prompts;
mod rows;
mod scores;
