//! `gemma` from outside, as one binary, so that it is linked once.

mod parity;
mod refusals;
