//! The model itself: a table of log-probabilities, one row for each byte that came before.

use candle_core::{Device, Tensor, D};
use plugin_api::{Result, Settings};

/// How likely each byte is after each other one.
pub struct Bigram {
    log_probs: Tensor, // (byte before, byte after)
}

impl Bigram {
    /// Counts the pairs of bytes in the text of the settings.
    pub fn load(settings: &Settings) -> Result<Bigram> {
        let text: String = settings.need("text")?;
        let smoothing = settings.need::<f32>("smoothing")?.max(1e-6); // no log of 0
        let counts = Tensor::full(smoothing, 256 * 256, &Device::Cpu)?;
        let pairs = text.as_bytes().windows(2);
        let places: Vec<u32> = pairs
            .map(|pair| u32::from(pair[0]) * 256 + u32::from(pair[1]))
            .collect();
        let ones = Tensor::new(vec![1f32; places.len()], &Device::Cpu)?;
        let counts = counts.index_add(&indices(places)?, &ones, 0)?.reshape((256, 256))?;
        let log_probs = counts.broadcast_div(&counts.sum_keepdim(D::Minus1)?)?.log()?;
        Ok(Bigram { log_probs })
    }

    /// The log-probability of these bytes after that one, and whether each of them is the likeliest.
    pub fn log_likelihood(&self, before: u8, bytes: &[u8]) -> Result<(f64, bool)> {
        if bytes.is_empty() {
            return Ok((0.0, true));
        }
        let next: Vec<u32> = bytes.iter().map(|byte| u32::from(*byte)).collect();
        let mut previous = vec![u32::from(before)];
        previous.extend(&next[..next.len() - 1]);
        let rows = self.log_probs.index_select(&indices(previous)?, 0)?; // (bytes, 256)
        let greedy = rows.argmax(D::Minus1)?.to_vec1::<u32>()? == next;
        let chosen = rows.gather(&indices(next)?.unsqueeze(1)?, 1)?; // (bytes, 1)
        Ok((f64::from(chosen.sum_all()?.to_scalar::<f32>()?), greedy))
    }

    /// The likeliest byte after that one.
    pub fn likeliest_after(&self, before: u8) -> Result<u8> {
        let next = self.log_probs.get(usize::from(before))?.argmax(0)?.to_scalar::<u32>()?;
        Ok(next as u8) // one of 256 columns
    }
}

fn indices(values: Vec<u32>) -> Result<Tensor> {
    Ok(Tensor::new(values, &Device::Cpu)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_what_is_likely() {
        let settings = plugin_api::serde_json::from_str(r#"{"text": "ababab", "smoothing": 0.5}"#).expect("settings");
        let model = Bigram::load(&settings).expect("a model");
        assert_eq!(model.likeliest_after(b'a').expect("a byte"), b'b');
        let (likely, greedy) = model.log_likelihood(b'a', b"ba").expect("a score");
        let (unlikely, _) = model.log_likelihood(b'a', b"aa").expect("a score");
        assert!(greedy && likely > unlikely);
        // 3 of 3 pairs after `a`, 2 of 2 after `b`, each smoothed by a half for each of 256 bytes.
        let expected = (3.5_f64 / (3.0 + 128.0)).ln() + (2.5_f64 / (2.0 + 128.0)).ln();
        assert!((likely - expected).abs() < 1e-5, "{likely} {expected}");
    }
}
