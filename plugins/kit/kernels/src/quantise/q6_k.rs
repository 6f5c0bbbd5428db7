//! q6_k: sixteen small blocks of 16 values, each with a scale of eight bits.

use super::{LANES, LARGE, Lanes, by_candle, byte, choose, code, mask, nearest, side_by_side};
use candle_core::Result;
use candle_core::quantized::GgmlDType;
use half::f16;
use pulp::NullaryFnOnce;

/// Values of a small block; a block has as many small blocks as there are lanes.
const SIZE: usize = LARGE / LANES;
/// The largest code, and the offset of stored codes.
const MOST: f32 = 31.0;
const ABOVE: f32 = 32.0;
/// How often all codes of a small block are recomputed with a better scale, and how often they are changed one by
/// one.
const WHOLE_TRIES: usize = 3;
const SINGLE_TRIES: usize = 5;
/// Bytes of a block: lower four bits of codes, upper two, scales, and an fp16 scale of the scales.
const BYTES: usize = LARGE / 2 + LARGE / 4 + LANES + 2;

pub(super) struct Blocks<'a> {
    pub values: &'a [f32],
    pub out: &'a mut [u8],
}

impl NullaryFnOnce for Blocks<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn call(self) -> Result<()> {
        let (blocks, _) = self.values.as_chunks::<LARGE>();
        let (places, _) = self.out.as_chunks_mut::<BYTES>();
        for (values, place) in blocks.iter().zip(places) {
            let (scales, codes) = search(&side_by_side(values));
            match scales.iter().all(|scale| scale.is_finite()) {
                true => write(values, &scales, &codes, place),
                false => place.copy_from_slice(&by_candle(values, GgmlDType::Q6K)?),
            }
        }
        Ok(())
    }
}

/// The scale of each small block, and codes with that scale.
#[inline(always)]
fn search(x: &[Lanes; SIZE]) -> (Lanes, [Lanes; SIZE]) {
    let (mut size, mut largest) = ([0f32; LANES], [0f32; LANES]);
    for line in x {
        for lane in 0..LANES {
            let more = mask(line[lane].abs() > size[lane]);
            largest[lane] = choose(more, line[lane], largest[lane]);
            size[lane] = choose(more, line[lane].abs(), size[lane]);
        }
    }
    let mut per_scale = [0f32; LANES];
    for lane in 0..LANES {
        per_scale[lane] = -ABOVE / largest[lane];
    }
    let mut codes = [[0f32; LANES]; SIZE];
    let (mut products, mut squares) = ([0f32; LANES], [0f32; LANES]);
    for (line, codes) in x.iter().zip(&mut codes) {
        for lane in 0..LANES {
            let weight = line[lane] * line[lane];
            let found = code(per_scale[lane] * line[lane], -ABOVE, MOST);
            codes[lane] = found;
            products[lane] += weight * line[lane] * found;
            squares[lane] += weight * found * found;
        }
    }
    all_codes(x, &mut codes, &mut products, &mut squares);
    single_codes(x, &mut codes, &mut products, &mut squares);
    let mut scales = [0f32; LANES];
    for lane in 0..LANES {
        let found = products[lane] / squares[lane];
        scales[lane] = if size[lane] == 0.0 { 0.0 } else { found };
    }
    for codes in &mut codes {
        for lane in 0..LANES {
            // A block of zeros is stored as the least code, not as that of zero.
            codes[lane] = if size[lane] == 0.0 { 0.0 } else { codes[lane] + ABOVE };
        }
    }
    (scales, codes)
}

/// Recomputes all codes of a small block with the best scale of the last ones, as long as that improves it.
#[inline(always)]
fn all_codes(x: &[Lanes; SIZE], codes: &mut [Lanes; SIZE], products: &mut Lanes, squares: &mut Lanes) {
    let mut goes_on = [u32::MAX; LANES];
    for _ in 0..WHOLE_TRIES {
        let (mut per_scale, mut best) = ([0f32; LANES], [0f32; LANES]);
        for lane in 0..LANES {
            let scale = products[lane] / squares[lane];
            best[lane] = scale * products[lane];
            per_scale[lane] = 1.0 / scale;
        }
        let mut others = [[0f32; LANES]; SIZE];
        let (mut other_products, mut other_squares, mut changed) = ([0f32; LANES], [0f32; LANES], [0u32; LANES]);
        for ((line, codes), others) in x.iter().zip(codes.iter()).zip(&mut others) {
            for lane in 0..LANES {
                let weight = line[lane] * line[lane];
                let found = code(per_scale[lane] * line[lane], -ABOVE, MOST);
                changed[lane] |= mask(found != codes[lane]);
                others[lane] = found;
                other_products[lane] += weight * line[lane] * found;
                other_squares[lane] += weight * found * found;
            }
        }
        for lane in 0..LANES {
            let (product, square) = (other_products[lane], other_squares[lane]);
            // As in candle: a comparison with NaN does not end the search.
            let over = square == 0.0 || product * product <= best[lane] * square;
            goes_on[lane] &= changed[lane] & mask(!over);
            products[lane] = choose(goes_on[lane], product, products[lane]);
            squares[lane] = choose(goes_on[lane], square, squares[lane]);
        }
        for (codes, others) in codes.iter_mut().zip(&others) {
            for lane in 0..LANES {
                codes[lane] = choose(goes_on[lane], others[lane], codes[lane]);
            }
        }
        if goes_on == [0; LANES] {
            break;
        }
    }
}

/// Changes one code after the other, if that alone improves the whole.
#[inline(always)]
fn single_codes(x: &[Lanes; SIZE], codes: &mut [Lanes; SIZE], products: &mut Lanes, squares: &mut Lanes) {
    let mut goes_on = [u32::MAX; LANES];
    for _ in 0..SINGLE_TRIES {
        let mut changed = [0u32; LANES];
        for (line, codes) in x.iter().zip(codes.iter_mut()) {
            for lane in 0..LANES {
                let (value, old) = (line[lane], codes[lane]);
                let weight = value * value;
                let product = products[lane] - weight * value * old;
                let square = squares[lane] - weight * old * old;
                let found = code(value * square / product, -ABOVE, MOST);
                let new_product = product + weight * value * found;
                let new_square = square + weight * found * found;
                let better = new_product * new_product * squares[lane] > products[lane] * products[lane] * new_square;
                let moves = mask(product > 0.0) & mask(found != old) & mask(new_square > 0.0);
                let take = goes_on[lane] & moves & mask(better);
                codes[lane] = choose(take, found, old);
                products[lane] = choose(take, new_product, products[lane]);
                squares[lane] = choose(take, new_square, squares[lane]);
                changed[lane] |= take;
            }
        }
        goes_on = changed;
        if goes_on == [0; LANES] {
            break;
        }
    }
}

#[inline(always)]
fn write(values: &[f32; LARGE], scales: &Lanes, codes: &[Lanes; SIZE], out: &mut [u8; BYTES]) {
    let (mut size, mut largest) = (0f32, 0f32);
    for &scale in scales {
        if scale.abs() > size {
            (size, largest) = (scale.abs(), scale);
        }
    }
    let per_scale = -128.0 / largest;
    let (packed, scales_out) = out.split_at_mut(LARGE / 2 + LARGE / 4);
    let (scales_out, d_out) = scales_out.split_at_mut(LANES);
    let d = f16::from_f32(1.0 / per_scale);
    d_out.copy_from_slice(&d.to_le_bytes());
    let mut all = [0u8; LARGE];
    let (parts, _) = values.as_chunks::<SIZE>();
    for (lane, (values, all)) in parts.iter().zip(all.as_chunks_mut::<SIZE>().0).enumerate() {
        let scale = nearest(per_scale * scales[lane]).min(127) as i8;
        scales_out[lane] = scale.cast_unsigned();
        let scale = d.to_f32() * f32::from(scale);
        for place in 0..SIZE {
            all[place] = match scale == 0.0 {
                true => byte(codes[place][lane]),
                false => byte(code(values[place] / scale, -ABOVE, MOST) + ABOVE),
            };
        }
    }
    let (low, high) = packed.split_at_mut(LARGE / 2);
    let (low, high) = (low.as_chunks_mut::<64>().0, high.as_chunks_mut::<32>().0);
    for ((codes, low), high) in all.as_chunks::<128>().0.iter().zip(low).zip(high) {
        for place in 0..32 {
            let [one, two, three, four] = [0, 32, 64, 96].map(|from| codes[place + from]);
            low[place] = (one & 15) | (three << 4);
            low[place + 32] = (two & 15) | (four << 4);
            high[place] = (one >> 4) | ((two >> 4) << 2) | ((three >> 4) << 4) | ((four >> 4) << 6);
        }
    }
}
