//! Clips as WAV files in base64, as services take them. The samples are the host's, so the hash in the record is that
//! of the sent samples, and no engine resamples.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plugin_api::{Clip, Code, Error, Result};

/// The sample format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AudioFormat {
    /// 16-bit integers: the rounding error is at most 1.5e-5.
    #[default]
    Wav16,
    /// The fp32 samples, unchanged.
    Wav32,
}

impl AudioFormat {
    pub fn parse(word: &str) -> Result<AudioFormat> {
        match word {
            "wav16" => Ok(AudioFormat::Wav16),
            "wav32" => Ok(AudioFormat::Wav32),
            other => Err(Error::new(
                Code::SETTINGS,
                format!("unknown audio format `{other}`; expected `wav16` or `wav32`"),
            )),
        }
    }
}

/// Bytes in base64.
pub fn base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// A clip as a WAV file in base64.
pub fn encode_clip(clip: &Clip, format: AudioFormat) -> String {
    STANDARD.encode(wav(clip, format))
}

fn wav(clip: &Clip, format: AudioFormat) -> Vec<u8> {
    let (kind, bytes): (u16, u16) = match format {
        AudioFormat::Wav16 => (1, 2),
        AudioFormat::Wav32 => (3, 4),
    };
    let channels = u16::try_from(clip.channels.max(1)).unwrap_or(1);
    let size = u32::try_from(clip.samples().len())
        .unwrap_or(u32::MAX / 8)
        .saturating_mul(u32::from(bytes));
    let mut file = Vec::with_capacity(44 + size as usize);
    file.extend_from_slice(b"RIFF");
    file.extend((36 + size).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend(16_u32.to_le_bytes());
    file.extend(kind.to_le_bytes());
    file.extend(channels.to_le_bytes());
    file.extend(clip.rate.to_le_bytes());
    file.extend((clip.rate * u32::from(channels) * u32::from(bytes)).to_le_bytes());
    file.extend((channels * bytes).to_le_bytes());
    file.extend((bytes * 8).to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend(size.to_le_bytes());
    for sample in clip.samples() {
        match format {
            // Multiplied by 32768, since decoders divide by it; +1.0, the one value that does not fit, is clamped.
            AudioFormat::Wav16 => {
                file.extend(((sample * 32768.0).round().clamp(-32768.0, 32767.0) as i16).to_le_bytes())
            }
            AudioFormat::Wav32 => file.extend(sample.to_le_bytes()),
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_arrive_as_they_are() {
        let samples = vec![0.0, 0.5, -0.25, 1.0, -1.0];
        let clip = Clip::new(16_000, samples.clone());
        let file = wav(&clip, AudioFormat::Wav32);
        assert_eq!(
            (&file[..4], &file[8..16], file.len()),
            (&b"RIFF"[..], &b"WAVEfmt "[..], 44 + 20)
        );
        let read: Vec<f32> = file[44..]
            .chunks(4)
            .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
            .collect();
        assert_eq!(read, samples);
        let file = wav(&clip, AudioFormat::Wav16);
        let read: Vec<i16> = file[44..]
            .chunks(2)
            .map(|two| i16::from_le_bytes(two.try_into().unwrap()))
            .collect();
        assert_eq!(read, [0, 16384, -8192, 32767, -32768]);
        assert_eq!(encode_clip(&clip, AudioFormat::Wav16).len(), 54_usize.div_ceil(3) * 4);
    }
}
