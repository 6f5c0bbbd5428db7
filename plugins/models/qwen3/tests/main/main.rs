//! `qwen3` from outside, as one binary, so that it is linked once.

mod bad_files;
mod batches;
mod common;
mod endings;
mod loras;
mod parity;
mod passes;
mod precision;
mod prompts;
mod sampling;
