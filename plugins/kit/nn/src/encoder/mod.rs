//! The audio encoder of Whisper: two convolutions, positions, and layers in which every step sees all others.
//!
//! Models differ in how they divide a clip, in where positions come from and in what follows the layers; the rest is
//! here once. As everywhere in this crate there is no padding: blocks of any lengths are concatenated, and each
//! attends only to itself. A reference that pads and masks computes the same numbers, since masked weights are zero;
//! padding that its convolutions see is in the features of a [`Block`].

mod config;
mod convolution;

use crate::attend::attend_to_all;
use crate::layers::select_rows;
use crate::{LayerNorm, Linear, Result, Weights};
use audio::LogMel;
use candle_core::{DType, Device, Tensor};
pub use config::{EncoderConfig, EncoderFields};
use convolution::{Convolution, Frames};
use kernels::epilogue::Epilogue;

/// Steps computed at a time: many short blocks together, but of long ones no more than fits into a processor's caches.
const AT_ONCE: usize = 1536;

/// The epsilon of all its norms.
pub const EPS: f64 = 1e-5;

/// Frames that see each other.
#[derive(Debug, Clone, PartialEq)]
pub struct Block {
    rows: Vec<f32>, // (frames, bins)
    frames: usize,
    steps: usize,
}

impl Block {
    /// The sound of a clip without padding; the last steps may see the beginning of the padding.
    pub fn heard(mel: &LogMel) -> Block {
        Block::first(mel, steps(mel.heard()))
    }

    /// A clip with all its padding.
    pub fn padded(mel: &LogMel) -> Block {
        Block::first(mel, steps(mel.frames()))
    }

    fn first(mel: &LogMel, steps: usize) -> Block {
        // The last step depends on two frames and one on either side.
        let rows = mel.rows(2 * steps + 1).into_owned();
        Block {
            frames: rows.len() / mel.bins().max(1),
            rows,
            steps,
        }
    }

    /// Frames (count, bins) with nothing after them.
    pub fn alone(rows: Vec<f32>, bins: usize) -> Block {
        let frames = rows.len() / bins.max(1);
        Block {
            rows,
            frames,
            steps: steps(frames),
        }
    }

    /// Outputs of the first convolution that the second one uses.
    fn looked_at(&self) -> usize {
        self.frames.min(2 * self.steps)
    }

    /// Steps that come out.
    pub fn steps(&self) -> usize {
        self.steps
    }
}

/// The fewest samples that become a token if steps are pooled in pairs.
pub const LEAST_SAMPLES: usize = 2 * audio::HOP + 1;

/// The steps of a number of frames: the second convolution has a stride of two.
pub fn steps(frames: usize) -> usize {
    frames.div_ceil(2)
}

/// The steps of a number of samples, without padding.
pub fn steps_of(samples: usize) -> usize {
    steps(audio::frames(samples))
}

/// The mean of each two consecutive steps within a block; an odd last step is dropped.
pub fn pool_pairs(x: &Tensor, blocks: &[usize]) -> candle_core::Result<Tensor> {
    let width = x.dim(1)?;
    let mut pooled = Vec::with_capacity(blocks.len());
    let mut start = 0;
    for &steps in blocks {
        if steps >= 2 {
            let pairs = x.narrow(0, start, steps / 2 * 2)?.reshape((steps / 2, 2, width))?;
            pooled.push(pairs.mean(1)?);
        }
        start += steps;
    }
    match pooled.is_empty() {
        true => Tensor::zeros((0, width), x.dtype(), x.device()),
        false => Tensor::cat(&pooled, 0),
    }
}

/// Splits a tensor's rows into several tensors, by their numbers of rows.
pub fn split_rows(x: &Tensor, counts: impl Iterator<Item = usize>) -> candle_core::Result<Vec<Tensor>> {
    let mut start = 0;
    let part = |count: usize| {
        start += count;
        x.narrow(0, start - count, count)
    };
    counts.map(part).collect()
}

pub struct Encoder {
    conv1: Convolution,
    conv2: Convolution,
    embed_positions: Tensor, // (positions, width)
    layers: Vec<Layer>,
    config: EncoderConfig,
    dtype: DType,
    device: Device,
}

struct Layer {
    self_attn_layer_norm: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    final_layer_norm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
    products: DType,
}

impl Encoder {
    pub fn load(config: &EncoderConfig, weights: &Weights) -> Result<Encoder> {
        let width = config.width;
        let embed_positions = match config.stored_positions {
            true => weights
                .at("embed_positions")
                .get("weight", &[config.positions, width])?,
            false => sinusoids(config.positions, width, weights.device())?.to_dtype(weights.dtype())?,
        };
        Ok(Encoder {
            conv1: Convolution::load(&weights.at("conv1"), config.bins, width, 1)?,
            conv2: Convolution::load(&weights.at("conv2"), width, width, 2)?,
            embed_positions,
            layers: (0..config.layers)
                .map(|index| Layer::load(config, &weights.at("layers").at(index)))
                .collect::<Result<_>>()?,
            config: config.clone(),
            dtype: weights.dtype(),
            device: weights.device().clone(),
        })
    }

    pub fn config(&self) -> &EncoderConfig {
        &self.config
    }

    /// The steps of all blocks, (steps, width), after the last layer.
    pub fn forward(&self, blocks: &[Block]) -> candle_core::Result<Tensor> {
        if let Some(block) = blocks.iter().find(|block| block.steps > self.config.positions) {
            let (steps, most) = (block.steps, self.config.positions);
            candle_core::bail!("a block of {steps} steps, the encoder has positions for {most}");
        }
        let mut done = Vec::new();
        let mut rest = blocks;
        while !rest.is_empty() {
            let mut steps = 0;
            let fits = |block: &&Block| {
                steps += block.steps;
                steps <= AT_ONCE
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (now, later) = rest.split_at(count);
            done.push(self.layers(now)?);
            rest = later;
        }
        match done.is_empty() {
            true => Tensor::zeros((0, self.config.width), self.dtype, &self.device),
            false => Tensor::cat(&done, 0),
        }
    }

    fn layers(&self, blocks: &[Block]) -> candle_core::Result<Tensor> {
        let heard = Frames::of(blocks, |block| (block.frames, block.looked_at()));
        let x = self.conv1.forward(&self.frames(blocks)?, &heard, Epilogue::GELU)?;
        let heard = Frames::of(blocks, |block| (block.looked_at(), block.steps));
        let positions = self.positions(blocks)?;
        let plus = Some(&positions);
        let mut x = self.conv2.forward(&x, &heard, Epilogue { plus, ..Epilogue::GELU })?;
        for layer in &self.layers {
            x = layer.forward(&x, blocks)?;
        }
        Ok(x)
    }

    /// The frames of all blocks, (frames, bins).
    fn frames(&self, blocks: &[Block]) -> candle_core::Result<Tensor> {
        let bins = self.config.bins;
        if blocks.iter().any(|block| block.rows.len() != block.frames * bins) {
            candle_core::bail!("the frames do not have the encoder's {bins} bins");
        }
        let rows = blocks.iter().map(|block| &block.rows[..]).collect::<Vec<_>>().concat();
        Tensor::from_vec(rows, ((), bins), &self.device)?.to_dtype(self.dtype)
    }

    /// The position of each step in its block, (steps, width).
    fn positions(&self, blocks: &[Block]) -> candle_core::Result<Tensor> {
        let numbers: Vec<u32> = blocks.iter().flat_map(|block| 0..block.steps as u32).collect();
        select_rows(&self.embed_positions, &numbers)
    }
}

impl Layer {
    fn load(config: &EncoderConfig, weights: &Weights) -> Result<Layer> {
        let (width, inner) = (config.width, config.inner);
        let attention = weights.at("self_attn");
        let square = |name: &str, bias| Linear::load(&attention.at(name), width, width, bias);
        Ok(Layer {
            self_attn_layer_norm: LayerNorm::load(&weights.at("self_attn_layer_norm"), width, EPS)?,
            q_proj: square("q_proj", true)?,
            k_proj: square("k_proj", false)?,
            v_proj: square("v_proj", true)?,
            out_proj: square("out_proj", true)?,
            final_layer_norm: LayerNorm::load(&weights.at("final_layer_norm"), width, EPS)?,
            fc1: Linear::load(&weights.at("fc1"), width, inner, true)?,
            fc2: Linear::load(&weights.at("fc2"), inner, width, true)?,
            heads: config.heads,
            products: weights.products(),
        })
    }

    fn forward(&self, x: &Tensor, blocks: &[Block]) -> candle_core::Result<Tensor> {
        let qkv = [&self.q_proj, &self.k_proj, &self.v_proj];
        let [q, k, v] = Linear::forward_all_normed(qkv, &self.self_attn_layer_norm, x)?;
        let blocks: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let heard = attend_to_all(&q, &k, &v, self.heads, &blocks, self.products)?;
        let x = self.out_proj.forward_then(&heard, Epilogue::adding(x))?;
        let after = [Epilogue::GELU, Epilogue::adding(&x)];
        Linear::forward_two_normed([&self.fc1, &self.fc2], &self.final_layer_norm, &x, after)
    }
}

fn sinusoids(positions: usize, width: usize, device: &Device) -> candle_core::Result<Tensor> {
    Tensor::from_vec(sinusoid_values(positions, width), (positions, width / 2 * 2), device)
}

/// Sines, then cosines, of positions, with wavelengths from 2π to 10,000 times that.
pub fn sinusoid_values(positions: usize, width: usize) -> Vec<f32> {
    let half = width / 2;
    let slower = 10_000f64.ln() / (half.max(2) - 1) as f64;
    let mut values = Vec::with_capacity(positions * width);
    for position in 0..positions {
        // Each step in fp32, as in the tables that models were trained with.
        let angle = |n: usize| position as f32 * (-(slower as f32) * n as f32).exp();
        values.extend((0..half).map(|n| angle(n).sin()));
        values.extend((0..half).map(|n| angle(n).cos()));
    }
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(dtype: DType, blocks: &[Block]) -> Vec<f32> {
        let config = EncoderConfig {
            bins: 16,
            width: 96,
            layers: 3,
            heads: 6,
            inner: 200,
            positions: 60,
            stored_positions: true,
        };
        let encoder = Encoder::load(&config, &Weights::random(dtype, &Device::Cpu).unwrap()).unwrap();
        let steps = encoder.forward(blocks).unwrap();
        steps.flatten_all().unwrap().to_vec1().unwrap()
    }

    fn blocks() -> Vec<Block> {
        let rows = |frames: usize| (0..frames * 16).map(|n| ((n * n) as f32 * 0.37).sin()).collect();
        [113, 1, 40, 2].map(|frames| Block::alone(rows(frames), 16)).into()
    }

    #[test]
    fn blocks_do_not_feel_each_other() {
        for dtype in [DType::F32, DType::BF16] {
            let together = heard(dtype, &blocks());
            let alone: Vec<f32> = blocks().chunks(1).flat_map(|block| heard(dtype, block)).collect();
            assert_eq!(together, alone, "{dtype:?}");
        }
    }

    #[test]
    fn bf16_is_near_fp32_by_a_bound() {
        let (exact, rounded) = (heard(DType::F32, &blocks()), heard(DType::BF16, &blocks()));
        let size = |values: &mut dyn Iterator<Item = f32>| values.map(|x| f64::from(x * x)).sum::<f64>().sqrt();
        let apart = size(&mut exact.iter().zip(&rounded).map(|(a, b)| a - b)) / size(&mut exact.iter().copied());
        assert!(apart < 0.005 && apart > 0.0, "{apart}");
    }

    /// Without this crate's kernels, steps are computed by one operation after the other.
    #[test]
    fn it_is_the_same_in_many_steps() {
        let here = heard(DType::F32, &blocks());
        let _elsewhere = kernels::device::elsewhere();
        let apart = here
            .iter()
            .zip(heard(DType::F32, &blocks()))
            .map(|(a, b)| (a - b).abs());
        let largest = apart.fold(0f32, f32::max);
        assert!(largest < 1e-4, "{largest}");
    }
}
