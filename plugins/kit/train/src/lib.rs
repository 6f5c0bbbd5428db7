//! Training: the engine that computes gradients and updates, and the run around it.
//!
//! [`Engine`] takes batches of tokenised [`Row`]s, adds up gradients, and steps an optimiser; it knows nothing of epochs,
//! schedules, files of rows or processes. [`run`] drives it.
//!
//! The decision a newcomer would question: the engine does not differentiate `nn`'s layers, and uses no graph of
//! operations. It reads the same checkpoint by a [`nn::Blueprint`], which is plain data, and has one backward pass of
//! its own for each kind of layer. So activations are kept or computed again by choice, the head sees learnt positions
//! alone, and weights that are not learnt stay as they are stored: they are widened a panel at a time, in the cache.

mod backward;
pub mod engine;
mod lora;
mod nf4;
mod optim;
pub mod parity;
mod products;
pub mod run;

pub use engine::{
    Engine, EngineSettings, Facts, LoraSettings, MemoryPlan, Method, OptimSettings, Optimiser, Parameter, Precision,
    Row, Sound, StepReport, Sums, Trainer,
};
