//! `slurp` from outside, as one binary, so that it is linked once.

mod official;
mod slurp;
