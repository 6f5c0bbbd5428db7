//! The registry: which plugins may be loaded, and what their adapters are called.

pub mod spec;
