//! Products, attention, norms and activations on processors, and how weights are packed for them.
//!
//! All unsafe code of the tensor crates is here. A [`Matrix`] hides what weights are stored as and which loop
//! multiplies them; [`attention`] computes all texts of a pass at once; [`rowwise`], [`gelu`] and [`exponential`] are
//! the operations between products.
//!
//! The decision a newcomer would question: no caller asks for an instruction set. Each kernel asks
//! [`device::own_kernels`] whether it may run, and picks the fastest loop of this processor. Otherwise candle does the
//! work, as it does for GPUs and gradients.
//!
//! ```
//! use candle_core::{Device, Tensor};
//! use kernels::Matrix;
//!
//! let weight = Matrix::new(Tensor::new(&[[1f32, 2.0], [3.0, 4.0], [5.0, 6.0]], &Device::Cpu)?)?; // (outputs, inputs)
//! let x = Tensor::new(&[[1f32, 1.0]], &Device::Cpu)?;
//! assert_eq!(weight.product(&x)?.to_vec2::<f32>()?, [[3.0, 7.0, 11.0]]);
//! # Ok::<(), candle_core::Error>(())
//! ```

pub mod device;
pub mod epilogue;
pub mod exponential;
pub mod gelu;
pub mod kernel;
mod matrix;
pub mod memory;
pub mod packed;
pub mod precision;
pub mod product_input;
mod quantise;
pub mod rowwise;
pub mod tile;
mod turn;

/// Errors are candle's, except that readers of rows bring their own.
pub type Result<T, E = candle_core::Error> = std::result::Result<T, E>;

pub use matrix::{Matrix, RowsOf, fitting};
pub use packed::attention;
pub use turn::turn;
