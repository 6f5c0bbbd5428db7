//! Rotary position embedding, the variant that turns the first half of a head against the second.

use crate::RopeScaling;
use candle_core::{DType, Device, Tensor};
use kernels::rowwise;
use std::sync::Arc;

/// The frequencies of one rotary embedding. Models with several kinds of layer have several.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Arc<Vec<f32>>, // one for each pair of channels
    /// What cosines and sines are multiplied by; attention scores grow by its square.
    attention_factor: f32,
}

impl Rope {
    pub fn new(head_size: usize, theta: f64, scaling: RopeScaling) -> Rope {
        Rope {
            frequencies: Arc::new(scaling.frequencies(head_size, theta)),
            attention_factor: scaling.attention_factor(),
        }
    }

    /// Cosines and sines at these positions, each (positions, head size / 2).
    pub(crate) fn angles(&self, positions: &[u32], dtype: DType, device: &Device) -> candle_core::Result<Angles> {
        let angles = positions
            .iter()
            .flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let turned = |angle: f32| (angle.cos() * self.attention_factor, angle.sin() * self.attention_factor);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(turned).unzip();
        let shape = (positions.len(), self.frequencies.len());
        Ok(Angles {
            cos: Tensor::from_vec(cos, shape, device)?.to_dtype(dtype)?,
            sin: Tensor::from_vec(sin, shape, device)?.to_dtype(dtype)?,
        })
    }

    /// By how much each pair of channels turns from one position to the next.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// What cosines and sines are multiplied by.
    pub fn attention_factor(&self) -> f32 {
        self.attention_factor
    }

    /// Whether both are one: made once and shared.
    pub fn is(&self, other: &Rope) -> bool {
        Arc::ptr_eq(&self.frequencies, &other.frequencies)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Angles {
    cos: Tensor,
    sin: Tensor,
}

impl Angles {
    /// Turns (tokens, heads, head size).
    pub(crate) fn turn(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if x.track_op() {
            // The fused kernel has no gradient.
            let halves = x.chunk(2, 2)?;
            let (cos, sin) = (self.cos.unsqueeze(1)?, self.sin.unsqueeze(1)?);
            let first = (halves[0].broadcast_mul(&cos)? - halves[1].broadcast_mul(&sin)?)?;
            let second = (halves[1].broadcast_mul(&cos)? + halves[0].broadcast_mul(&sin)?)?;
            return Tensor::cat(&[first, second], 2);
        }
        if rowwise::suits(&[x, &self.cos, &self.sin]) {
            return rowwise::turn(x, &self.cos, &self.sin);
        }
        candle_nn::rotary_emb::rope_thd(&x.contiguous()?.unsqueeze(0)?, &self.cos, &self.sin)?.squeeze(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RopeConfig;
    use serde_json::Value;

    #[test]
    fn every_scaling_is_the_references() {
        let recorded: Vec<Value> = serde_json::from_str(include_str!("../golden/rope.json")).unwrap();
        assert!(recorded.len() > 10);
        for case in recorded {
            let config: RopeConfig = serde_json::from_value(case["config"].clone()).unwrap();
            let head_size = case["head_size"].as_u64().unwrap() as usize;
            let rope = Rope::new(head_size, config.theta(f64::NAN), config.scaling(131_072).unwrap());
            let close = |got: f32, expected: &Value| {
                let expected = expected.as_f64().unwrap();
                let off = (f64::from(got) / expected - 1.0).abs();
                assert!(off < 1e-6, "{got} where {expected} is recorded: {}", case["config"]);
            };
            close(rope.attention_factor, &case["attention_factor"]);
            let frequencies = case["frequencies"].as_array().unwrap();
            assert_eq!(rope.frequencies.len(), frequencies.len());
            rope.frequencies
                .iter()
                .zip(frequencies)
                .for_each(|(&got, expected)| close(got, expected));
        }
    }
}
