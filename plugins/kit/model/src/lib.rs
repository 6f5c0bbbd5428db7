//! The plugin half of a model: from a checkpoint's folder and its settings to a registered model.
//!
//! A plugin's `lib.rs` opens a [`Checkpoint`], reads its config, builds its decoder from the weights and hands both to
//! a [`GeneratorModel`], which answers every call of the host. [`register_generator!`] announces it with the settings
//! that all such models share.
//!
//! The decision a newcomer would question: this is a crate above `generate` and `parity`, and not part of either. A
//! registered model replays recordings and merges LoRAs besides answering, and both need a generator; below them, the
//! crates would know each other in a circle.

mod generator_model;
mod loading;
pub mod merge;
mod training;

pub use generate::{Defaults, EarlyStop, Generator, Limits};
pub use generator_model::{GeneratorModel, ModelHooks};
pub use kernels::precision::Precision;
pub use loading::Checkpoint;
