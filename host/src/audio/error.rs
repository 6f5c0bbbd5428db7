//! What can be wrong with a clip.

use thiserror::Error;

pub(super) const MIN_RATE: u32 = 1_000;
pub(super) const MAX_RATE: u32 = 768_000;

/// A clip that cannot be used, and why.
///
/// Cheap to clone and free of other errors inside: the threads that wait for the same clip all
/// get it, and a record keeps its text.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("cannot use clip `{clip}`: {fault}")]
pub struct AudioError {
    /// The path, or the name given with the bytes.
    pub clip: String,
    pub fault: AudioFault,
}

#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum AudioFault {
    #[error("it cannot be read ({0})")]
    Unreadable(String),
    #[error("expected wav, flac, mp3, ogg, m4a, aac or aiff, got {0}")]
    NotAudio(String),
    #[error("{0} is not supported")]
    Unsupported(String),
    #[error("it is damaged ({0})")]
    Damaged(String),
    #[error("it is cut short: its header promises {expected} frames, it holds {got}")]
    CutShort { expected: u64, got: u64 },
    #[error("it is cut short: the page that ends it is missing")]
    NoEnd,
    #[error("it holds no samples")]
    Empty,
    #[error("frame {frame} is not a finite number")]
    NotFinite { frame: u64 },
    #[error("it is longer than {limit} s")]
    TooLong { limit: f64 },
    #[error("expected a slice inside its {seconds:.3} s, got one that starts at {start} s")]
    OutsideClip { start: f64, seconds: f64 },
    #[error("expected 0 <= start < end, got start {start} s and end {end} s")]
    NotASlice { start: f64, end: f64 },
    #[error("expected a sample rate of {MIN_RATE} to {MAX_RATE} Hz, got {0}")]
    Rate(u32),
}

impl AudioError {
    /// The way out, where there is one that is not plain from the message.
    pub fn hint(&self) -> Option<&'static str> {
        match &self.fault {
            AudioFault::NotAudio(got) if got.contains("Git LFS") => Some("fetch the real file with `git lfs pull`"),
            AudioFault::NotAudio(_) | AudioFault::Unsupported(_) => {
                Some("convert it first, for example with `ffmpeg -i CLIP clip.flac`")
            }
            AudioFault::CutShort { .. } | AudioFault::NoEnd => Some("download or copy the file again"),
            _ => None,
        }
    }
}
