//! Checkpoints on disk: safetensors, files that PyTorch saved, GGUF; how they are read, written and measured.
//!
//! Layers ask [`Weights`] for tensors by name and shape. What the folder holds, which type a matrix is converted to and
//! whether it stays in the blocks of its file is settled here, one tensor at a time, so that loading needs little more
//! memory than its result.
//!
//! Every file here is a stranger's: lengths are checked before anything is allocated by them, names of Python functions
//! are compared and never called, and no `unsafe` code but the mapping of files in `mapped` is allowed.
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
mod pickle;
mod rope_config;
mod weights;
mod writer;

pub use config::{positive, read_config, read_json, within};
pub use error::{Error, Result};
pub use mapped::Mapped;
pub use pickle::Pickle;
pub use rope_config::{Llama3, LongRope, RopeConfig, RopeScaling, Yarn};
pub use weights::{KNOWN, Weights, mapped, plain_name};
pub use writer::{Copied, write_weights};
