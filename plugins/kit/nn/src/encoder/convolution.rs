//! Convolutions over three frames, as products of matrices.

use super::Block;
use crate::after::After;
use crate::{Linear, Matrix, Result, Weights};
use candle_core::{Device, Tensor};

/// Frames that one output looks at.
const SEEN: usize = 3;

/// A convolution whose windows are laid out as rows, so that it is the same product as any other layer's.
pub(super) struct Convolution(Linear);

impl Convolution {
    /// Checkpoints have (out, in, 3); rows here are three frames of `inputs` channels each.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize) -> Result<Convolution> {
        let weight = weights.get("weight", &[outputs, inputs, SEEN])?;
        let weight = weight
            .transpose(1, 2)?
            .contiguous()?
            .reshape((outputs, SEEN * inputs))?;
        let matrix = Matrix::new(weight.to_dtype(weights.products())?)?;
        let product = Linear::over(matrix, weights.path(""));
        Ok(Convolution(product.with_bias(weights.get("bias", &[outputs])?)))
    }

    /// Windows (count, 3 * in) to (count, out), and what follows.
    pub fn forward(&self, windows: &Tensor, after: After) -> candle_core::Result<Tensor> {
        self.0.forward_then(windows, after)
    }
}

/// Frames of the first convolution that the second one looks at.
fn looked_at(block: &Block) -> usize {
    block.frames.min(2 * block.steps)
}

/// For each frame of all blocks, itself between its neighbours; beyond a block's ends there are zeros.
pub(super) fn windows_of_frames(blocks: &[Block], bins: usize, device: &Device) -> candle_core::Result<Tensor> {
    let count: usize = blocks.iter().map(looked_at).sum();
    let mut windows = Vec::with_capacity(count * SEEN * bins);
    for block in blocks {
        if block.rows.len() != block.frames * bins {
            candle_core::bail!("frames of another width than the encoder's {bins} bins");
        }
        let mut between = vec![0f32; bins];
        between.extend_from_slice(&block.rows);
        between.resize((block.frames + 2) * bins, 0.0);
        for frame in 0..looked_at(block) {
            windows.extend_from_slice(&between[frame * bins..][..SEEN * bins]);
        }
    }
    Tensor::from_vec(windows, (count, SEEN * bins), device)
}

/// The same of every other row, for outputs of the first convolution.
pub(super) fn windows_of_pairs(x: &Tensor, blocks: &[Block]) -> candle_core::Result<Tensor> {
    let width = x.dim(1)?;
    let zeros = |count: usize| Tensor::zeros((count, width), x.dtype(), x.device());
    let mut windows = Vec::with_capacity(blocks.len());
    let mut start = 0;
    for block in blocks {
        let (steps, rows) = (block.steps, looked_at(block));
        let between = [zeros(1)?, x.narrow(0, start, rows)?, zeros(2 * steps - rows)?];
        let between = Tensor::cat(&between, 0)?; // (1 + 2 * steps, width)
        // The window of step n is rows 2n to 2n + 2: a pair, and the second half of the pair that begins one later.
        let pairs = between.narrow(0, 0, 2 * steps)?.reshape((steps, 2 * width))?;
        let shifted = between.narrow(0, 1, 2 * steps)?.reshape((steps, 2 * width))?;
        windows.push(Tensor::cat(&[pairs, shifted.narrow(1, width, width)?], 1)?);
        start += rows;
    }
    Tensor::cat(&windows, 0)
}
