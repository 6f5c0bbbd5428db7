//! q4_k: eight small blocks of 32 values, each with a scale and a minimum of six bits.

use super::{LANES, LARGE, Lanes, by_candle, byte, choose, code, mask, nearest, side_by_side};
use candle_core::Result;
use candle_core::quantized::GgmlDType;
use half::f16;
use pulp::NullaryFnOnce;

/// Values of a small block.
const SIZE: usize = 32;
/// Small blocks of a block.
const PARTS: usize = LARGE / SIZE;
/// The largest code.
const MOST: f32 = 15.0;
/// How often scale and minimum are refined.
const TRIES: usize = 5;
/// Bytes of a block: two scales of fp16, twelve bytes of six-bit scales, and codes.
const BYTES: usize = 4 + 12 + LARGE / 2;

pub(super) struct Blocks<'a> {
    pub values: &'a [f32],
    pub out: &'a mut [u8],
}

impl NullaryFnOnce for Blocks<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Result<()> {
        let together = LANES / PARTS;
        let some = self.values.chunks(together * LARGE);
        for (values, out) in some.zip(self.out.chunks_mut(together * BYTES)) {
            let (scales, leasts) = search(&side_by_side(values));
            let (blocks, _) = values.as_chunks::<LARGE>();
            let (places, _) = out.as_chunks_mut::<BYTES>();
            let parts = scales.chunks(PARTS).zip(leasts.chunks(PARTS));
            for ((values, place), (scales, leasts)) in blocks.iter().zip(places).zip(parts) {
                match scales.iter().chain(leasts).all(|number| number.is_finite()) {
                    true => write(values, scales, leasts, place),
                    false => place.copy_from_slice(&by_candle(values, GgmlDType::Q4K)?),
                }
            }
        }
        Ok(())
    }
}

/// The scale of each small block, and how far its minimum is below zero.
#[inline(always)]
fn search(x: &[Lanes; SIZE]) -> (Lanes, Lanes) {
    let (mut least, mut largest) = (x[0], x[0]);
    for line in x {
        for lane in 0..LANES {
            least[lane] = if line[lane] < least[lane] {
                line[lane]
            } else {
                least[lane]
            };
            largest[lane] = if line[lane] > largest[lane] {
                line[lane]
            } else {
                largest[lane]
            };
        }
    }
    let (mut scale, mut per_scale) = ([0f32; LANES], [0f32; LANES]);
    // Masks of blocks that are still searched; a block of equal values never is.
    let mut goes_on = [0u32; LANES];
    for lane in 0..LANES {
        goes_on[lane] = mask(largest[lane] != least[lane]);
        least[lane] = if least[lane] < 0.0 { least[lane] } else { 0.0 };
        per_scale[lane] = MOST / (largest[lane] - least[lane]);
    }
    // For a block of equal values the minimum does not matter.
    let mut below = [0f32; LANES];
    let mut codes = [[0f32; LANES]; SIZE];
    for _ in 0..TRIES {
        let (mut products, mut squares, mut changed) = ([0f32; LANES], [0f32; LANES], [0u32; LANES]);
        for (line, codes) in x.iter().zip(&mut codes) {
            for lane in 0..LANES {
                let above = line[lane] - least[lane];
                let found = code(per_scale[lane] * above, 0.0, MOST);
                changed[lane] |= mask(found != codes[lane]);
                codes[lane] = found;
                products[lane] += above * found;
                squares[lane] += found * found;
            }
        }
        // The value with which the standard library begins sums.
        let mut sums = [std::iter::empty::<f32>().sum::<f32>(); LANES];
        let mut better = [0f32; LANES];
        for lane in 0..LANES {
            better[lane] = products[lane] / squares[lane];
        }
        for (line, codes) in x.iter().zip(&codes) {
            for lane in 0..LANES {
                sums[lane] += line[lane] - better[lane] * codes[lane];
            }
        }
        for lane in 0..LANES {
            let mean = sums[lane] / SIZE as f32;
            let mean = if mean > 0.0 { 0.0 } else { mean };
            scale[lane] = choose(goes_on[lane], better[lane], scale[lane]);
            least[lane] = choose(goes_on[lane], mean, least[lane]);
            below[lane] = choose(goes_on[lane], -mean, below[lane]);
            per_scale[lane] = 1.0 / scale[lane];
            goes_on[lane] &= changed[lane];
        }
        if goes_on == [0; LANES] {
            break;
        }
    }
    (scale, below)
}

#[inline(always)]
fn write(values: &[f32; LARGE], scales: &[f32], leasts: &[f32], out: &mut [u8; BYTES]) {
    let most = |numbers: &[f32]| numbers.iter().fold(0.0f32, |most, number| number.max(most));
    let (most_scale, most_least) = (most(scales), most(leasts));
    let per = |most: f32| if most > 0.0 { 63.0 / most } else { 0.0 };
    let (per_scale, per_least) = (per(most_scale), per(most_least));
    let [d, dmin] = [most_scale, most_least].map(|most| f16::from_f32(most / 63.0));
    out[..2].copy_from_slice(&d.to_le_bytes());
    out[2..4].copy_from_slice(&dmin.to_le_bytes());
    let (d, dmin) = (d.to_f32(), dmin.to_f32());
    let (sixes, packed) = out[4..].split_at_mut(12);
    sixes.fill(0);
    for part in 0..PARTS {
        let scale = nearest(per_scale * scales[part]).min(63) as u8;
        let least = nearest(per_least * leasts[part]).min(63) as u8;
        if part < 4 {
            sixes[part] = scale;
            sixes[part + 4] = least;
        } else {
            sixes[part + 4] = (scale & 15) | ((least & 15) << 4);
            sixes[part - 4] |= (scale >> 4) << 6;
            sixes[part] |= (least >> 4) << 6;
        }
    }
    let mut codes = [0u8; LARGE];
    let (parts, _) = values.as_chunks::<SIZE>();
    for (part, (values, codes)) in parts.iter().zip(codes.as_chunks_mut::<SIZE>().0).enumerate() {
        let (scale, least) = match part < 4 {
            true => (sixes[part] & 63, sixes[part + 4] & 63),
            false => (
                (sixes[part + 4] & 15) | ((sixes[part - 4] >> 6) << 4),
                (sixes[part + 4] >> 4) | ((sixes[part] >> 6) << 4),
            ),
        };
        let (scale, least) = (d * f32::from(scale), dmin * f32::from(least));
        if scale != 0.0 {
            for (to, value) in codes.iter_mut().zip(values) {
                *to = byte(code((value + least) / scale, 0.0, MOST));
            }
        }
    }
    for (two, packed) in codes
        .as_chunks::<{ 2 * SIZE }>()
        .0
        .iter()
        .zip(packed.as_chunks_mut::<SIZE>().0)
    {
        for place in 0..SIZE {
            packed[place] = two[place] | (two[place + SIZE] << 4);
        }
    }
}
