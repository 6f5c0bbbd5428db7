//! Checkpoints on disk: safetensors, PyTorch files and GGUF: reading, writing, and memory estimates.
//!
//! Layers ask [`Weights`] for tensors by name and shape. This crate decides, one tensor at a time, which type a matrix
//! is converted to and whether it stays in the blocks of its file, so that loading needs little more memory than its
//! result.
//!
//! No file is trusted: lengths are checked before allocating, Python functions named in a pickle are never called, and
//! the only `unsafe` code is the mapping of files in `mapped`.
//!
//! ```
//! use candle_core::{DType, Device};
//! use checkpoint::Weights;
//!
//! let weights = Weights::random(DType::F32, &Device::Cpu)?; // as from a folder, without one
//! let matrix = weights.at("model.layers.0.self_attn.q_proj").matrix("weight", 8, 4)?;
//! assert_eq!(matrix.dims(), (8, 4));
//! # Ok::<(), checkpoint::Error>(())
//! ```

mod config;
mod error;
pub mod from_gguf;
pub mod gguf;
mod mapped;
pub mod memory;
pub mod nf4;
mod pickle;
mod rope_config;
mod weights;
mod writer;

pub use config::{positive, read_config, read_json, refuse_unread_quantisation, within};
pub use error::{Error, Result};
pub use mapped::Mapped;
pub use pickle::Pickle;
pub use rope_config::{Llama3, LongRope, RopeConfig, RopeScaling, Yarn};
pub use weights::{FourBits, KNOWN, Weights, mapped, plain_name};
pub use writer::{Copied, write_weights};
