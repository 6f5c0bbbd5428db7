//! Training: the engine that computes gradients and updates, and the run around it.
//!
//! [`Engine`] takes batches of tokenised [`Row`]s, adds up gradients, and steps an optimiser; it does not know epochs,
//! schedules, files of rows or processes. [`run`] drives it.
//!
//! The decision a newcomer would question: the engine does not differentiate `nn`'s layers, and uses no graph of
//! operations. It reads the same checkpoint, described by a [`nn::Blueprint`], and has its own backward pass for each
//! kind of layer. So it can choose which activations to keep or recompute, the head computes learnt positions only,
//! and frozen weights stay as they are stored: they are widened a panel at a time, in the processor's cache.

mod backward;
pub mod engine;
mod lora;
mod nf4;
mod optim;
pub mod parity;
mod products;
pub mod run;

pub use engine::{
    Counted, Engine, EngineSettings, Facts, LoraSettings, MemoryPlan, Method, OptimSettings, Optimiser, Parameter,
    Precision, Row, Sound, StepReport, Sums, Trainer, not_learnt,
};
