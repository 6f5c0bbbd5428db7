//! Layers, the building blocks of a model's `architecture.rs`.
//!
//! A model file builds its layers from [`Weights`] and implements [`Decoder`]; the crates `generate` and `model` do
//! the rest. Two interfaces hide what may change without touching a model file: [`Linear`] (stored types, kernels,
//! adapters) and [`Step::attend`] (masks, caches, shared heads, windows).
//!
//! The decision a newcomer would question: tensors have no batch dimension. A pass takes the tokens of all rows
//! concatenated, (tokens, hidden), and a [`Step`] knows where each text begins and what it attends to. So there is no
//! padding to compute or mask, and a prompt, a next token and an option to be scored can share a pass.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use nn::{Attention, KvCache, Past, Rope, RopeScaling, Segment, Step};
//!
//! // Three tokens of a conversation, and two of another text, of which nothing is kept.
//! let mut cache = KvCache::default();
//! let segments = vec![Segment { tokens: 3, past: Past::Row(0) }, Segment { tokens: 2, past: Past::Nothing }];
//! let mut step = Step::new(segments, vec![&mut cache])?;
//! step.enter(0, &Attention::plain(Rope::new(8, 1e4, RopeScaling::Default), 8), DType::F32, &Device::Cpu)?;
//! let x = Tensor::ones((5, 2, 8), DType::F32, &Device::Cpu)?; // (tokens, heads, head size)
//! let q = step.rope(&x)?;
//! assert_eq!(step.attend(&q, &q, &x)?.dims(), [5, 16]);
//! step.finish();
//! assert_eq!(cache.len(), 3);
//! # Ok::<(), candle_core::Error>(())
//! ```

mod attend;
mod blueprint;
mod cache;
mod decoder;
pub mod dense;
pub mod encoder;
mod extractor;
mod layers;
mod linear;
pub mod lora;
mod norms;
mod rope;
mod step;

pub use blueprint::{AudioBlueprint, Blueprint, Ears, HeadNorms, Hearing, NormNames, ProjectorLayer};
pub use cache::KvCache;
pub use decoder::{
    AudioChunk, AudioChunks, AudioEmbeds, Decoder, Input, PendingAudio, Sound, clips, common_beginning, is_same_clip,
};
pub use extractor::Extractor;
pub use layers::{Activation, Embedding, Heads, Mlp, Qkv, softcap};
pub use linear::Linear;
pub use lora::{Entered, Factors, LoraPlan, LoraSet, Loras};
pub use norms::{LayerNorm, RmsNorm, residual};
pub use rope::Rope;
pub use step::{Attention, Past, Segment, Step};

// Re-exported so that a model file needs this crate only.
pub use checkpoint::{
    Error, Llama3, LongRope, Pickle, Result, RopeConfig, RopeScaling, Weights, Yarn, positive, read_config, read_json,
    within,
};
pub use kernels::{Matrix, device, packed::kernel_class, rowwise::Pairs};
