//! The figures of an experiment, by one of two references.

pub mod area;
pub mod causes;
pub mod curve;
pub mod errors;
mod measures;

pub use measures::{Judged, Measures, Reference, Used, judge, measure};
