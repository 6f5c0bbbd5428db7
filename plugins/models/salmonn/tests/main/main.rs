//! `salmonn` from outside, as one binary, so that it is linked once.

mod files;
mod four_bits;
mod hearing;
