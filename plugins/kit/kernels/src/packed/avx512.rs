//! The tile with AVX-512.
#![allow(unsafe_code)] // the processor's instructions, on lines and words whose number is checked

use super::rows::{SomeRows, Words};
use super::{Line, MOST_ROWS, PANEL};

pub fn has_f32() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return has_f32() && std::arch::is_x86_feature_detected!("avx512bf16");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Computes `tile` (rows, 32) from some groups of a panel and as many words of x.
pub fn tile(x: SomeRows, lines: &[Line], tile: &mut [[f32; PANEL]]) {
    let (rows, stride) = (tile.len(), x.stride);
    let groups = x.groups(lines, rows, MOST_ROWS);
    #[cfg(target_arch = "x86_64")]
    {
        let lines = lines.as_ptr();
        macro_rules! with_rows {
            ($($count:literal)*) => {
                match (x.words, rows) {
                    $(
                        // SAFETY: this kernel is chosen only if the processor has the instructions; `groups` checked
                        // that there are a word for each row and group and two lines for each group; `tile` has this
                        // many rows.
                        (Words::F32(words), $count) => unsafe {
                            x86::f32_tile::<$count>(groups, words.as_ptr().cast(), stride, lines, tile)
                        },
                        // SAFETY: the same.
                        (Words::Bf16(words), $count) => unsafe {
                            x86::bf16_tile::<$count>(groups, words.as_ptr(), stride, lines, tile)
                        },
                    )*
                    _ => {}
                }
            };
        }
        with_rows!(1 2 3 4 5 6 7 8 9 10 11 12);
    }
    #[cfg(not(target_arch = "x86_64"))]
    super::portable::tile(x, lines, tile);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Line, PANEL};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch: memory takes as long as some dozen lines to answer.
    const AHEAD: usize = 32;

    macro_rules! tile {
        ($name:ident, $features:literal, $sum:expr) => {
            /// # Safety
            /// The processor has the features. Each row has `groups` words, rows are `stride` apart, and
            /// there are two `lines` for each group.
            #[target_feature(enable = $features)]
            pub unsafe fn $name<const COUNT: usize>(
                groups: usize,
                words: *const u32,
                stride: usize,
                lines: *const Line,
                tile: &mut [[f32; PANEL]],
            ) {
                let mut sums = [[_mm512_setzero_ps(); 2]; COUNT];
                for group in 0..groups {
                    // SAFETY: `group` is below `groups`, so both lines and the words of all rows exist. Prefetches may
                    // be out of bounds.
                    let (low, high) = unsafe {
                        let line = lines.add(2 * group);
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                        _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD + 1).cast());
                        (
                            _mm512_load_si512(line.cast()),
                            _mm512_load_si512(line.add(1).cast()),
                        )
                    };
                    for row in 0..COUNT {
                        // SAFETY: the same.
                        let x = _mm512_set1_epi32(unsafe { *words.add(row * stride + group) } as i32);
                        sums[row][0] = $sum(sums[row][0], low, x);
                        sums[row][1] = $sum(sums[row][1], high, x);
                    }
                }
                for (tile, sums) in tile.iter_mut().zip(sums) {
                    // SAFETY: a row of the tile holds two registers.
                    unsafe {
                        _mm512_storeu_ps(tile.as_mut_ptr(), sums[0]);
                        _mm512_storeu_ps(tile.as_mut_ptr().add(16), sums[1]);
                    }
                }
            }
        };
    }

    tile!(f32_tile, "avx512f", |sum, weights, x| _mm512_fmadd_ps(
        _mm512_castsi512_ps(weights),
        _mm512_castsi512_ps(x),
        sum
    ));
    // SAFETY: all three are plain bits, read as pairs of bf16.
    tile!(
        bf16_tile,
        "avx512f,avx512bf16",
        |sum, weights: __m512i, x: __m512i| unsafe {
            _mm512_dpbf16_ps(
                sum,
                std::mem::transmute::<__m512i, __m512bh>(weights),
                std::mem::transmute::<__m512i, __m512bh>(x),
            )
        }
    );
}
