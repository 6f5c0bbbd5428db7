//! Quantises rows to blocks with the same bytes as candle's quantiser, in a fraction of its time.
//!
//! The search for scales sums numbers in sequence, and another order would round differently. So nothing is reordered:
//! [`LANES`] small blocks are searched in parallel, each in candle's order. If a result is not finite, from NaN or
//! from values near the limits of fp32, candle's quantiser is used.

mod q4_k;
mod q6_k;
#[cfg(test)]
mod tests;

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Result, Tensor};
use half::f16;
use pulp::{Arch, NullaryFnOnce};

/// Small blocks that are searched in parallel; a multiple of the width of any vector register.
const LANES: usize = 16;
/// One number of each.
type Lanes = [f32; LANES];

/// Values of a block of q8_0.
const SMALL: usize = 32;
/// Values of a block of the others.
const LARGE: usize = 256;

/// Quantises values, which are whole blocks, to this type.
pub fn quantise(values: &[f32], dtype: GgmlDType) -> Result<Vec<u8>> {
    let blocks = values.len() / dtype.block_size();
    if blocks * dtype.block_size() != values.len() {
        candle_core::bail!("{} values are not whole blocks of {dtype:?}", values.len());
    }
    let mut bytes = vec![0; blocks * dtype.type_size()];
    let out = bytes.as_mut_slice();
    match dtype {
        GgmlDType::Q8_0 => Arch::new().dispatch(Bytes { values, out })?,
        GgmlDType::Q4K => Arch::new().dispatch(q4_k::Blocks { values, out })?,
        GgmlDType::Q6K => Arch::new().dispatch(q6_k::Blocks { values, out })?,
        _ => return by_candle(values, dtype),
    }
    Ok(bytes)
}

fn by_candle(values: &[f32], dtype: GgmlDType) -> Result<Vec<u8>> {
    let values = Tensor::from_slice(values, values.len(), &Device::Cpu)?;
    Ok(QTensor::quantize(&values, dtype)?.data()?.into_owned())
}

struct Bytes<'a> {
    values: &'a [f32],
    out: &'a mut [u8],
}

impl NullaryFnOnce for Bytes<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Result<()> {
        let (blocks, _) = self.values.as_chunks::<SMALL>();
        let (places, _) = self.out.as_chunks_mut::<{ 2 + SMALL }>();
        for (block, place) in blocks.iter().zip(places) {
            // The bits of absolute values sort like the values, with NaN last.
            let sizes = block.iter().map(|value| value.abs().to_bits());
            let largest = f32::from_bits(sizes.fold(0, u32::max));
            if largest.is_nan() {
                place.copy_from_slice(&by_candle(block, GgmlDType::Q8_0)?);
                continue;
            }
            let scale = largest / 127.0;
            let per_scale = if scale != 0.0 { 1.0 / scale } else { 0.0 };
            let (head, codes) = place.split_at_mut(2);
            head.copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            for (to, value) in codes.iter_mut().zip(block) {
                *to = byte(code(value * per_scale, -128.0, 127.0));
            }
        }
        Ok(())
    }
}

/// The nearest integer within these bounds, ties away from zero. NaN gives 0, as rounding before clamping does.
#[inline(always)]
fn code(value: f32, least: f32, most: f32) -> f32 {
    let whole = value.round();
    let whole = if whole < least { least } else { whole };
    let whole = if whole > most { most } else { whole };
    // Adding 0 turns -0 into 0.
    if whole.is_nan() { 0.0 } else { whole + 0.0 }
}

/// An integer that fits a byte, signed or not.
#[inline(always)]
fn byte(code: f32) -> u8 {
    // Adding so large a number leaves the integer in the lowest bits.
    (code + 12_582_912.0).to_bits() as u8
}

/// Reads `SIZE` places of each small block into lanes; the blocks are consecutive.
#[inline(always)]
fn side_by_side<const SIZE: usize>(values: &[f32]) -> [Lanes; SIZE] {
    let mut lanes = [[0f32; LANES]; SIZE];
    for (lane, block) in values.as_chunks::<SIZE>().0.iter().enumerate().take(LANES) {
        for (place, value) in block.iter().enumerate() {
            lanes[place][lane] = *value;
        }
    }
    lanes
}

/// Selects the first number where the mask is all ones, the second where it is zero. Written with bit operations: for
/// a conditional, compilers emit masked stores, on which the next load has to wait.
#[inline(always)]
fn choose(mask: u32, one: f32, other: f32) -> f32 {
    f32::from_bits(one.to_bits() & mask | other.to_bits() & !mask)
}

#[inline(always)]
fn mask(condition: bool) -> u32 {
    0u32.wrapping_sub(u32::from(condition))
}

/// Rounds as candle does.
fn nearest(value: f32) -> i32 {
    value.round() as i32
}
