//! `sakura` from outside, as one binary, so that it is linked once.

mod common;
mod prompts;
mod questions;
mod result_files;
mod scores;
