//! The tile with AVX2: bf16 is widened in registers, since nothing multiplies it as it is.
#![allow(unsafe_code)] // the processor's own instructions, on lines and words that are counted beforehand

use super::rows::{SomeRows, Words};
use super::{Line, PANEL};

/// Rows whose sums fit sixteen registers beside what is multiplied: two registers of sums each, for half a panel.
pub const ROWS: usize = 4;

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Makes `tile` (rows, 32) of some groups of a panel and as many words of x.
pub fn tile(x: SomeRows, lines: &[Line], tile: &mut [[f32; PANEL]]) {
    let (rows, stride) = (tile.len(), x.stride);
    let groups = x.groups(lines, rows, ROWS);
    #[cfg(target_arch = "x86_64")]
    {
        let lines = lines.as_ptr();
        macro_rules! with_rows {
            ($($count:literal)*) => {
                match (x.words, rows) {
                    $(
                        // SAFETY: this kernel is chosen only where the processor has it; there are a word for each row
                        // and group and two lines for each group, as `groups` made sure, and `tile` has so many rows.
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
        with_rows!(1 2 3 4);
    }
    #[cfg(not(target_arch = "x86_64"))]
    super::portable::tile(x, lines, tile);
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{Line, PANEL};
    use std::arch::x86_64::*;

    /// Lines that are asked for ahead of their use.
    const AHEAD: usize = 32;

    macro_rules! tile {
        ($name:ident, $sum:expr) => {
            /// # Safety
            /// The processor has the features. Each row has `groups` words, `stride` from the last row's, and `lines` are
            /// two for each.
            #[target_feature(enable = "avx2,fma")]
            pub unsafe fn $name<const COUNT: usize>(
                groups: usize,
                words: *const u32,
                stride: usize,
                lines: *const Line,
                tile: &mut [[f32; PANEL]],
            ) {
                for half in 0..2 {
                    let mut sums = [[_mm256_setzero_ps(); 2]; COUNT];
                    for group in 0..groups {
                        // SAFETY: `group` is below `groups`, so its line and the words of all rows are there. What is
                        // asked for ahead need not be.
                        let (low, high) = unsafe {
                            let line = lines.add(2 * group + half);
                            _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                            let line = line.cast::<__m256i>();
                            (_mm256_load_si256(line), _mm256_load_si256(line.add(1)))
                        };
                        for row in 0..COUNT {
                            // SAFETY: the same.
                            let x = _mm256_set1_epi32(unsafe { *words.add(row * stride + group) } as i32);
                            sums[row][0] = $sum(sums[row][0], low, x);
                            sums[row][1] = $sum(sums[row][1], high, x);
                        }
                    }
                    for (tile, sums) in tile.iter_mut().zip(sums) {
                        let tile = tile[16 * half..].as_mut_ptr();
                        // SAFETY: half a row of the tile has room for two registers.
                        unsafe {
                            _mm256_storeu_ps(tile, sums[0]);
                            _mm256_storeu_ps(tile.add(8), sums[1]);
                        }
                    }
                }
            }
        };
    }

    tile!(f32_tile, |sum, weights, x| _mm256_fmadd_ps(
        _mm256_castsi256_ps(weights),
        _mm256_castsi256_ps(x),
        sum
    ));
    tile!(bf16_tile, |sum, weights, x| {
        let lower = |words| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words));
        let upper = |words| {
            _mm256_castsi256_ps(_mm256_and_si256(
                words,
                _mm256_set1_epi32(0xffff_0000_u32.cast_signed()),
            ))
        };
        let sum = _mm256_fmadd_ps(lower(weights), lower(x), sum);
        _mm256_fmadd_ps(upper(weights), upper(x), sum)
    });
}
