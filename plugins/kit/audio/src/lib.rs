//! Audio features for models, as plain numbers.
//!
//! Nothing here names a tensor, so a plugin on any tensor library can use it. The decision a newcomer would question:
//! padding is not computed. The published models were trained on clips padded to 30 seconds, and a frame of padding is
//! the same number everywhere; [`LogMel`] stores that number, so the cost follows the length of the clip.
//!
//! ```
//! use audio::MelExtractor;
//!
//! let second = vec![0.0; 16_000];
//! let mel = MelExtractor::new(128).log_mel(&second, 30 * audio::RATE);
//! assert_eq!((mel.heard(), mel.frames()), (100, 3000));
//! ```

mod check;
mod fbank;
mod filters;
mod lanes;
mod log_mel;
mod logarithm;
mod transform;
mod windows;

pub use check::{Sounds, checked, sounds};
pub use fbank::Fbank;
pub use log_mel::{LogMel, MelExtractor, RATE, frames};
pub use windows::HOP;
