//! Rotary position embedding of all channels of a head or of its first ones, in halves or neighbouring pairs.

use crate::RopeScaling;
use candle_core::{DType, Device, Tensor};
use kernels::rowwise::{self, Pairs};
use std::sync::Arc;

/// The frequencies of one rotary embedding. Models with several kinds of layer have several.
#[derive(Debug, Clone)]
pub struct Rope {
    frequencies: Arc<Vec<f32>>, // one for each pair of channels that is rotated
    /// The factor of cosines and sines; attention scores grow by its square.
    attention_factor: f32,
    pairs: Pairs,
}

impl Rope {
    /// For this many channels of a head, the first ones if it has more.
    pub fn new(channels: usize, theta: f64, scaling: RopeScaling) -> Rope {
        Rope {
            frequencies: Arc::new(scaling.frequencies(channels, theta)),
            attention_factor: scaling.attention_factor(),
            pairs: Pairs::Halves,
        }
    }

    /// For layers without positions: no channel is rotated.
    pub fn none() -> Rope {
        Rope::new(0, 1.0, RopeScaling::Default)
    }

    pub fn with_pairs(self, pairs: Pairs) -> Rope {
        Rope { pairs, ..self }
    }

    /// Which channels are rotated together.
    pub fn pairs(&self) -> Pairs {
        self.pairs
    }

    /// Cosines and sines at these positions, each (positions, pairs).
    pub(crate) fn angles(&self, positions: &[u32], dtype: DType, device: &Device) -> candle_core::Result<Angles> {
        let angles = positions
            .iter()
            .flat_map(|&p| self.frequencies.iter().map(move |f| p as f32 * f));
        let turned = |angle: f32| (angle.cos() * self.attention_factor, angle.sin() * self.attention_factor);
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(turned).unzip();
        let shape = (positions.len(), self.frequencies.len());
        let tensor = |values: Vec<f32>| match values.is_empty() {
            true => Ok(None),
            false => Tensor::from_vec(values, shape, device)?.to_dtype(dtype).map(Some),
        };
        Ok(Angles {
            turns: tensor(cos)?.zip(tensor(sin)?),
            pairs: self.pairs,
        })
    }

    /// The angle of each pair of channels from one position to the next.
    pub fn frequencies(&self) -> &[f32] {
        &self.frequencies
    }

    /// The factor of cosines and sines.
    pub fn attention_factor(&self) -> f32 {
        self.attention_factor
    }

    /// Whether both share the same frequencies.
    pub fn is(&self, other: &Rope) -> bool {
        Arc::ptr_eq(&self.frequencies, &other.frequencies)
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Angles {
    /// Cosines and sines; none if no channel is rotated.
    turns: Option<(Tensor, Tensor)>,
    pairs: Pairs,
}

impl Angles {
    /// Rotates (tokens, heads, head size).
    pub(crate) fn turn(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let Some((cos, sin)) = &self.turns else {
            return Ok(x.clone());
        };
        if !x.track_op() && rowwise::suits(&[x, cos, sin]) {
            return rowwise::turn(x, cos, sin, self.pairs);
        }
        let (size, turned) = (x.dim(2)?, 2 * cos.dim(1)?);
        if turned < size {
            let (first, rest) = (x.narrow(2, 0, turned)?, x.narrow(2, turned, size - turned)?);
            return Tensor::cat(&[self.turn_all(&first, cos, sin)?, rest], 2);
        }
        self.turn_all(x, cos, sin)
    }

    /// Rotates all channels of x, on any device.
    fn turn_all(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> candle_core::Result<Tensor> {
        let (first, second) = match self.pairs {
            // The fused kernel has no gradient.
            Pairs::Halves if !x.track_op() => {
                return candle_nn::rotary_emb::rope_thd(&x.contiguous()?.unsqueeze(0)?, cos, sin)?.squeeze(0);
            }
            Pairs::Halves => {
                let half = x.dim(2)? / 2;
                (x.narrow(2, 0, half)?, x.narrow(2, half, half)?)
            }
            Pairs::Neighbours => {
                let (tokens, heads, size) = x.dims3()?;
                let by_two = x.reshape((tokens, heads, size / 2, 2))?;
                let of = |place| by_two.narrow(3, place, 1)?.squeeze(3);
                (of(0)?, of(1)?)
            }
        };
        let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?);
        let low = (first.broadcast_mul(&cos)? - second.broadcast_mul(&sin)?)?;
        let high = (second.broadcast_mul(&cos)? + first.broadcast_mul(&sin)?)?;
        match self.pairs {
            Pairs::Halves => Tensor::cat(&[low, high], 2),
            Pairs::Neighbours => Tensor::stack(&[low, high], 3)?.flatten_from(2),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RopeConfig;
    use serde_json::Value;

    #[test]
    fn pairs_turn_alike_on_every_path() {
        let x = Tensor::randn(0f32, 1.0, (5, 3, 12), &Device::Cpu).unwrap();
        for (channels, pairs) in [
            (12, Pairs::Halves),
            (12, Pairs::Neighbours),
            (8, Pairs::Halves),
            (6, Pairs::Neighbours),
        ] {
            let rope = Rope::new(channels, 100.0, RopeScaling::Default).with_pairs(pairs);
            let angles = rope.angles(&[0, 1, 2, 7, 100], DType::F32, &Device::Cpu).unwrap();
            let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let here = values(&angles.turn(&x).unwrap());
            let learnt = candle_core::Var::from_tensor(&x).unwrap();
            let elsewhere = {
                let _elsewhere = kernels::device::elsewhere();
                values(&angles.turn(&x).unwrap())
            };
            for other in [values(&angles.turn(learnt.as_tensor()).unwrap()), elsewhere] {
                let apart = here.iter().zip(&other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(apart < 1e-5, "{channels} {pairs:?}: {apart}");
            }
            // The first position, and the channels after the rotated ones, are unchanged.
            assert_eq!(here[..36], values(&x)[..36]);
            assert_eq!(here[48 + channels - 12..48], values(&x)[48 + channels - 12..48]);
        }
        let none = Rope::none().angles(&[3], DType::F32, &Device::Cpu).unwrap();
        assert_eq!(
            none.turn(&x).unwrap().to_vec3::<f32>().unwrap(),
            x.to_vec3::<f32>().unwrap()
        );
    }

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
