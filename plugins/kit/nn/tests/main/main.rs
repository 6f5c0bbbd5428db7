//! Tests of the public interface. One binary, so that it is linked once.

mod same_bits;
