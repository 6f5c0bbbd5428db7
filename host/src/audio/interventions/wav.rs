//! Clips as files that players read.

use std::io;
use std::path::Path;

/// Writes mono 32-bit floating point samples: nothing that a model heard is cut off.
pub fn write_wav(path: &Path, rate: u32, samples: &[f32]) -> io::Result<()> {
    let data = u32::try_from(samples.len() * 4).map_err(|_| io::Error::other("the clip is too long for a WAV file"))?;
    let mut bytes = Vec::with_capacity(samples.len() * 4 + 58);
    bytes.extend(b"RIFF");
    bytes.extend((50 + data).to_le_bytes());
    bytes.extend(b"WAVEfmt ");
    bytes.extend(18_u32.to_le_bytes());
    // IEEE floating point, one channel.
    bytes.extend(3_u16.to_le_bytes());
    bytes.extend(1_u16.to_le_bytes());
    bytes.extend(rate.to_le_bytes());
    bytes.extend(rate.saturating_mul(4).to_le_bytes());
    bytes.extend(4_u16.to_le_bytes());
    bytes.extend(32_u16.to_le_bytes());
    bytes.extend(0_u16.to_le_bytes());
    bytes.extend(b"fact");
    bytes.extend(4_u32.to_le_bytes());
    bytes.extend((data / 4).to_le_bytes());
    bytes.extend(b"data");
    bytes.extend(data.to_le_bytes());
    samples.iter().for_each(|sample| bytes.extend(sample.to_le_bytes()));
    std::fs::write(path, bytes)
}

#[cfg(test)]
mod tests {
    use crate::audio::{Source, Wanted, decode};

    #[test]
    fn what_is_written_is_read_back_to_the_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip.wav");
        let samples = [0.0, 0.25, -1.5, 1e-7];
        super::write_wav(&path, 22_050, &samples).unwrap();
        let clip = decode(Source::File(&path), &Wanted::default()).unwrap();
        assert_eq!((clip.rate, clip.samples()), (22_050, &samples[..]));
    }
}
