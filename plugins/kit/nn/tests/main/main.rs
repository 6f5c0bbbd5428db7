//! The crate from outside. One binary, so that it is linked once.

mod same_bits;
