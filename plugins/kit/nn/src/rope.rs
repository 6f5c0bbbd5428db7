//! Rotary position embedding, the variant that turns the first half of a head against the second.

use crate::config::RopeScaling;
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// The frequencies of one rotary embedding. Models with several kinds of layer have several.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Arc<Vec<f32>>, // one for each pair of channels
}

impl Rope {
    pub fn new(head_size: usize, theta: f64, scaling: RopeScaling) -> Rope {
        let frequency = |pair: usize| {
            // fp32 all the way, as in the reference: at position 30,000 a sharper angle is another angle.
            let exponent = (2 * pair) as f32 / head_size as f32;
            let plain = 1.0 / (theta as f32).powf(exponent);
            match scaling {
                RopeScaling::Default => plain,
                RopeScaling::Linear(factor) => plain / factor as f32,
            }
        };
        Rope {
            frequencies: Arc::new((0..head_size / 2).map(frequency).collect()),
        }
    }

    /// Cosines and sines at these positions, each (positions, head size / 2).
    pub(crate) fn angles(&self, positions: &[u32], dtype: DType, device: &Device) -> candle_core::Result<Angles> {
        let angles = positions
            .iter()
            .flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        let shape = (positions.len(), self.frequencies.len());
        Ok(Angles {
            cos: Tensor::from_vec(cos, shape, device)?.to_dtype(dtype)?,
            sin: Tensor::from_vec(sin, shape, device)?.to_dtype(dtype)?,
        })
    }

    pub(crate) fn is(&self, other: &Rope) -> bool {
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
        candle_nn::rotary_emb::rope_thd(&x.contiguous()?.unsqueeze(0)?, &self.cos, &self.sin)?.squeeze(0)
    }
}
