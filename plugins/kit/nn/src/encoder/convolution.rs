//! Convolutions over three frames, as products of matrices.
//!
//! The three frames of a window form a row, so a convolution is a product like that of any other layer. Rows are
//! computed when the product reads them: stored, they would take three times the memory of the frames.

use super::Block;
use crate::{Linear, Matrix, Result, Weights};
use candle_core::Tensor;
use kernels::epilogue::Epilogue;
use kernels::product_input::ProductInput;
use kernels::rowwise::{self, Held};
use std::ops::Range;

/// Frames under one output.
const SEEN: usize = 3;

pub(super) struct Convolution {
    product: Linear,
    inputs: usize,
    /// Frames from one window to the next.
    step: usize,
}

/// The frames of a block, among those of all blocks.
pub(super) struct Frames {
    all: Range<usize>,
    /// The number of windows. The first is centred on the first frame. Beyond both ends of the block there are zeros.
    windows: usize,
}

impl Frames {
    /// The frames and windows of consecutive blocks.
    pub fn of(blocks: &[Block], counts: impl Fn(&Block) -> (usize, usize)) -> Vec<Frames> {
        let mut end = 0;
        let frames = blocks.iter().map(counts).map(|(frames, windows)| {
            end += frames;
            let all = end - frames..end;
            Frames { all, windows }
        });
        frames.collect()
    }
}

impl Convolution {
    /// Checkpoints store (out, in, 3); rows here are three frames of `inputs` channels each.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, step: usize) -> Result<Convolution> {
        let weight = weights.get("weight", &[outputs, inputs, SEEN])?;
        let weight = weight
            .transpose(1, 2)?
            .contiguous()?
            .reshape((outputs, SEEN * inputs))?;
        let matrix = Matrix::new(weight.to_dtype(weights.products())?)?;
        let product = Linear::over(matrix, weights.path(""));
        Ok(Convolution {
            product: product.with_bias(weights.get("bias", &[outputs])?),
            inputs,
            step,
        })
    }

    /// x (frames of all blocks, in) to (windows of all blocks, out), with an epilogue.
    pub fn forward(&self, x: &Tensor, blocks: &[Frames], after: Epilogue) -> candle_core::Result<Tensor> {
        let (frames, inputs) = x.dims2()?;
        if inputs != self.inputs || blocks.iter().any(|block| block.all.end > frames) {
            candle_core::bail!(
                "{frames} frames of {inputs} channels, the encoder takes {}",
                self.inputs
            );
        }
        if rowwise::suits(&[x]) && x.is_contiguous() {
            let held = Held::of(x);
            let values = held.all()?;
            let windows = self.windows(blocks);
            let make = |row: usize, out: &mut [f32]| {
                let (middle, block) = &windows[row];
                for (out, frame) in out.chunks_exact_mut(inputs).zip(middle - 1..) {
                    match block.contains(&frame) {
                        true => out.copy_from_slice(&values[frame as usize * inputs..][..inputs]),
                        false => out.fill(0.0),
                    }
                }
            };
            let given = ProductInput::Made {
                rows: windows.len(),
                inputs: SEEN * inputs,
                make: &make,
            };
            if let Some(y) = self.product.forward_given(given, after)? {
                return Ok(y);
            }
        }
        self.product.forward_then(&self.laid_out(x, blocks)?, after)
    }

    /// The middle frame of each window, and the frames of its block.
    fn windows(&self, blocks: &[Frames]) -> Vec<(isize, Range<isize>)> {
        let of_block = |block: &Frames| {
            let all = block.all.start as isize..block.all.end as isize;
            let middles = (all.start..).step_by(self.step).take(block.windows);
            middles.map(move |middle| (middle, all.clone()))
        };
        blocks.iter().flat_map(of_block).collect()
    }

    /// All windows (windows, 3 * in), by candle's operations.
    fn laid_out(&self, x: &Tensor, blocks: &[Frames]) -> candle_core::Result<Tensor> {
        // The frames of a block between zeros; of these, the ones in the first, second or third place of a window.
        let zeros = |count: usize| Tensor::zeros((count, self.inputs), x.dtype(), x.device());
        let all = blocks.iter().map(|block| {
            let behind = (self.step * block.windows + SEEN).saturating_sub(block.all.len() + 1);
            let between = [
                zeros(1)?,
                x.narrow(0, block.all.start, block.all.len())?,
                zeros(behind)?,
            ];
            let between = Tensor::cat(&between, 0)?;
            let place = |place: usize| {
                let some = between.narrow(0, place, self.step * block.windows)?;
                some.reshape((block.windows, self.step * self.inputs))?
                    .narrow(1, 0, self.inputs)
            };
            let places = (0..SEEN).map(place).collect::<candle_core::Result<Vec<_>>>()?;
            Tensor::cat(&places, 1)
        });
        Tensor::cat(&all.collect::<candle_core::Result<Vec<_>>>()?, 0)
    }
}
