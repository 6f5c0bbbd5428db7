//! `qwen3` from outside, as one binary, so that it is linked once.

mod answers;
mod bad_files;
mod common;
mod loras;
mod parity;
mod passes;
