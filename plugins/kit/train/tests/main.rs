//! The engine as a run uses it.

mod engine;
