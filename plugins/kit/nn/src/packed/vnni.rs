//! The tile of whole numbers, with AVX-512's product of four bytes.
#![allow(unsafe_code)] // the processor's own instructions, on lines and words that `tile` counts beforehand
#![allow(clippy::needless_range_loop)] // rows of several arrays at once

use super::blocks::{BLOCK, Kind, MOST_ROWS, Some8};
use super::{LANES, Line};

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f") && std::arch::is_x86_feature_detected!("avx512vnni");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Makes `tile` (rows, 16) of a panel and some rows of x.
pub fn tile(kind: Kind, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
    let (units, rows) = (lines.len() / kind.lines(), tile.len());
    let blocks = units * kind.inputs() / BLOCK;
    let counts = [x.words.len() / (BLOCK / 4), x.scales.len(), x.sums.len()];
    assert!(
        has() && rows <= MOST_ROWS && counts == [blocks * rows; 3],
        "words that don't fit the tile"
    );
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! with_rows {
            ($($count:literal)*) => {
                match (kind, rows) {
                    $(
                        // SAFETY: the processor has the instructions, and all lines, words, scales and sums that so
                        // many units and rows take are there, as just checked.
                        (Kind::Q8_0, $count) => unsafe { x86::q8_0::<$count>(units, lines, x, tile) },
                        // SAFETY: the same.
                        (Kind::Q4K, $count) => unsafe { x86::q4_k::<$count>(units, lines, x, tile) },
                    )*
                    _ => {}
                }
            };
        }
        with_rows!(1 2 3 4 5 6 7 8);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{BLOCK, Kind, LANES, Line, Some8};
    use std::arch::x86_64::*;

    /// Lines that are asked for ahead of their use.
    const AHEAD: usize = 34;

    /// # Safety
    /// The processor has the features; there are `lines` and `x` for so many units and COUNT rows.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub unsafe fn q8_0<const COUNT: usize>(units: usize, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
        let mut totals = [_mm512_setzero_ps(); COUNT];
        for unit in 0..units {
            // SAFETY: each unit has its lines, two blocks with words, scales and sums of all rows, and what is asked for
            // ahead need not be there.
            unsafe {
                let first = lines.as_ptr().add(unit * Kind::Q8_0.lines());
                for block in 0..2 {
                    let at = 2 * unit + block;
                    let scales = _mm512_cvtph_ps(_mm256_load_si256(first.cast::<__m256i>().add(block)));
                    let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                    let mut sums = [_mm512_setzero_si512(); COUNT];
                    for row in 0..COUNT {
                        // Weights are 128 above their own: what that adds to the sum is taken off beforehand.
                        sums[row] = _mm512_set1_epi32(-128 * *x.sums.as_ptr().add(at * COUNT + row));
                    }
                    for step in 0..8 {
                        let line = first.add(1 + 8 * block + step);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                        let weights = _mm512_load_si512(line.cast());
                        for row in 0..COUNT {
                            let four = _mm512_set1_epi32(*words.add(step * COUNT + row) as i32);
                            sums[row] = _mm512_dpbusd_epi32(sums[row], weights, four);
                        }
                    }
                    for row in 0..COUNT {
                        let scale = _mm512_set1_ps(*x.scales.as_ptr().add(at * COUNT + row));
                        let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row]), scale);
                        totals[row] = _mm512_fmadd_ps(sum, scales, totals[row]);
                    }
                }
            }
        }
        for (tile, total) in tile.iter_mut().zip(totals) {
            // SAFETY: a row of the tile has room for one register.
            unsafe { _mm512_storeu_ps(tile.as_mut_ptr(), total) };
        }
    }

    /// # Safety
    /// The processor has the features; there are `lines` and `x` for so many units and COUNT rows.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub unsafe fn q4_k<const COUNT: usize>(units: usize, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
        let mut totals = [_mm512_setzero_ps(); COUNT];
        let low = _mm512_set1_epi32(0x0f0f_0f0f);
        for unit in 0..units {
            // SAFETY: each unit has its lines, eight blocks with words, scales and sums of all rows, and what is asked
            // for ahead need not be there.
            unsafe {
                let first = lines.as_ptr().add(unit * Kind::Q4K.lines());
                let scale_of_scales = _mm512_cvtph_ps(_mm256_load_si256(first.cast()));
                let scale_of_mins = _mm512_cvtph_ps(_mm256_load_si256(first.cast::<__m256i>().add(1)));
                for block in 0..8 {
                    let at = 8 * unit + block;
                    let parts = first.add(1).cast::<__m128i>().add(2 * block);
                    let wide = |bytes| _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
                    let scales = _mm512_mul_ps(wide(_mm_load_si128(parts)), scale_of_scales);
                    let mins = _mm512_mul_ps(wide(_mm_load_si128(parts.add(1))), scale_of_mins);
                    let words = x.words.as_ptr().add(at * BLOCK / 4 * COUNT);
                    let mut sums = [_mm512_setzero_si512(); COUNT];
                    for step in 0..4 {
                        let line = first.add(5 + 4 * block + step);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                        let both = _mm512_load_si512(line.cast());
                        let lower = _mm512_and_si512(both, low);
                        let upper = _mm512_and_si512(_mm512_srli_epi32::<4>(both), low);
                        for row in 0..COUNT {
                            let four = _mm512_set1_epi32(*words.add(step * COUNT + row) as i32);
                            let later = _mm512_set1_epi32(*words.add((step + 4) * COUNT + row) as i32);
                            sums[row] = _mm512_dpbusd_epi32(sums[row], lower, four);
                            sums[row] = _mm512_dpbusd_epi32(sums[row], upper, later);
                        }
                    }
                    for row in 0..COUNT {
                        let scale = *x.scales.as_ptr().add(at * COUNT + row);
                        let all = *x.sums.as_ptr().add(at * COUNT + row) as f32 * scale;
                        let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(sums[row]), _mm512_set1_ps(scale));
                        totals[row] = _mm512_fmadd_ps(sum, scales, totals[row]);
                        totals[row] = _mm512_fnmadd_ps(_mm512_set1_ps(all), mins, totals[row]);
                    }
                }
            }
        }
        for (tile, total) in tile.iter_mut().zip(totals) {
            // SAFETY: a row of the tile has room for one register.
            unsafe { _mm512_storeu_ps(tile.as_mut_ptr(), total) };
        }
    }
}
