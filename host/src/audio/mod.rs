//! Clips: any common audio file in, mono `f32` samples at the rate a model wants out.
//!
//! [`decode`] reads one clip; [`Clips`] shares decoded clips between prompts and threads.
//!
//! What a newcomer would question: a damaged packet of a lossy clip (mp3, aac, vorbis) is
//! replaced by silence of the same length and reported in [`Decoded::warnings`], since every
//! player does so and dropping it would move all that follows. A lossless clip (wav, flac, alac, aiff)
//! with a damaged packet, any clip with fewer frames than its header counts, or an ogg without all of
//! its pages is an error: half a
//! recording scored as if it were whole would be a wrong result that nobody notices. Only mp3 is
//! used as far as it goes, with a warning, as its count is often wrong.
//!
//! Encoder delay and padding are trimmed where the file tells them: LAME's header in mp3, the
//! granule positions of ogg, the edit list of m4a. An mp3 without that header and a bare aac
//! stream keep theirs, as with ffmpeg.
//!
//! ```no_run
//! use host::audio::{Source, Wanted, decode};
//!
//! let wanted = Wanted { rate: Some(16_000), ..Wanted::default() };
//! let clip = decode(Source::File("clip.flac".as_ref()), &wanted)?;
//! println!("{} frames, {:.2} s", clip.samples().len(), clip.seconds);
//! # Ok::<(), host::audio::AudioError>(())
//! ```

mod cache;
mod decode;
mod edits;
mod error;
pub mod interventions;
mod open;
mod pages;
mod resample;
#[cfg(test)]
mod tests;

use std::path::Path;

use plugin_api::Clip;
use sha2::{Digest, Sha256};

pub use cache::Clips;
pub use error::{AudioError, AudioFault};
pub use resample::resample;

/// Where the encoded bytes of a clip are.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    File(&'a Path),
    /// A clip embedded in a data set; the name is what errors call it.
    Bytes {
        name: &'a str,
        bytes: &'a [u8],
    },
}

impl Source<'_> {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Bytes { name, .. } => (*name).to_owned(),
        }
    }
}

/// What is wanted of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Wanted {
    /// Samples per second; `None` keeps the clip's own rate.
    pub rate: Option<u32>,
    /// Where the slice starts, in seconds; `None` is the start of the clip.
    pub start: Option<f64>,
    /// Where the slice ends, in seconds. An end past the clip's end means the clip's end, as the
    /// times in many data sets are rounded up.
    pub end: Option<f64>,
    /// A clip or slice longer than this is refused, so that a small hostile file cannot fill the
    /// memory (flac holds hours of silence in a few kilobytes). At a rate above 48 kHz the limit is
    /// as many frames as that rate has in this time.
    pub max_seconds: f64,
}

impl Default for Wanted {
    fn default() -> Self {
        Wanted {
            rate: None,
            start: None,
            end: None,
            max_seconds: 3600.0,
        }
    }
}

/// A clip as a model gets it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// Samples per second.
    pub rate: u32,
    /// Mono: the mean of the clip's channels. Every prompt that holds the clip shares these samples.
    pub clip: Clip,
    pub seconds: f64,
    pub source_rate: u32,
    pub source_channels: u16,
    /// Sha256 of the rate and the samples, in hex: the clip's identity in a run's records.
    pub sha256: String,
    /// What was wrong with the clip without making it unusable; empty for nearly every clip.
    pub warnings: Vec<String>,
}

impl Decoded {
    pub fn samples(&self) -> &[f32] {
        self.clip.samples()
    }
}

/// Reads one clip.
pub fn decode(source: Source<'_>, wanted: &Wanted) -> Result<Decoded, AudioError> {
    let fail = |fault| AudioError {
        clip: source.name(),
        fault,
    };
    let mono = decode::decode_mono(source, wanted).map_err(fail)?;
    let rate = wanted.rate.unwrap_or(mono.rate);
    let samples = resample(mono.samples, mono.rate, rate).map_err(fail)?;
    Ok(Decoded {
        rate,
        seconds: samples.len() as f64 / f64::from(rate),
        source_rate: mono.rate,
        source_channels: mono.channels,
        sha256: content_hash(rate, &samples),
        clip: Clip::new(rate, samples),
        warnings: mono.warnings,
    })
}

/// How many samples [`decode`] gives, from the clip's header alone; none where the header does not say.
pub fn count(source: Source<'_>, wanted: &Wanted) -> Result<Option<u64>, AudioError> {
    let fail = |fault| AudioError {
        clip: source.name(),
        fault,
    };
    let (rate, frames) = decode::count(source, wanted).map_err(fail)?;
    Ok(frames.map(|frames| resample::resampled(frames, rate, wanted.rate.unwrap_or(rate))))
}

fn content_hash(rate: u32, samples: &[f32]) -> String {
    let mut hasher = Sha256::new();
    hasher.update(rate.to_le_bytes());
    let mut bytes = [0; 4 * 4096];
    for block in samples.chunks(4096) {
        for (place, sample) in bytes.chunks_exact_mut(4).zip(block) {
            place.copy_from_slice(&sample.to_le_bytes());
        }
        hasher.update(&bytes[..4 * block.len()]);
    }
    hex(&hasher.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
