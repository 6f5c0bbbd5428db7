//! The figures of an experiment, by one of two references.

pub mod area;
pub mod causes;
pub mod curve;
mod measures;
pub mod statistics;

pub use measures::{Judged, Measures, Reference, Used, judge, measure};
