//! The sums of tiles, in the same order, computed by AVX-512: for few rows.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts
#![allow(clippy::needless_range_loop)] // an index selects from several arrays

use super::{FEW, GROUPS};
use crate::packed::rows::{SomeRows, Words};
use crate::packed::{Line, PANEL};

/// Computes `tile` (rows, 32) from a panel and as many words of x.
pub fn tile(x: SomeRows, panel: &[Line], tile: &mut [[f32; PANEL]]) {
    let Words::Bf16(words) = x.words else {
        panic!("tiles must be bf16")
    };
    let (groups, rows) = (panel.len() / 2, tile.len());
    let enough = rows == 0 || words.len() >= (rows - 1) * x.stride + groups;
    assert!(rows <= FEW && enough, "the words do not fit the tile");
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! with_rows {
            ($($count:literal)*) => {
                match rows {
                    $(
                        // SAFETY: this kernel is chosen only if the processor has tiles, and so AVX-512; there are two
                        // lines for each group and a word for each row and group, as checked above.
                        $count => unsafe { x86::tile::<$count>(groups, words.as_ptr(), x.stride, panel.as_ptr(), tile) },
                    )*
                    _ => {}
                }
            };
        }
        with_rows!(1 2 3 4);
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::{GROUPS, Line, PANEL};
    use std::arch::x86_64::*;

    /// How many lines ahead to prefetch.
    const AHEAD: usize = 32;

    /// # Safety
    /// The processor has the feature. There are two lines for each group, and a word in each of COUNT rows.
    #[target_feature(enable = "avx512f")]
    pub unsafe fn tile<const COUNT: usize>(
        groups: usize,
        words: *const u32,
        stride: usize,
        panel: *const Line,
        tile: &mut [[f32; PANEL]],
    ) {
        let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
        let wide = |two: __m512i| {
            let odd = _mm512_castsi512_ps(_mm512_and_si512(two, upper));
            [_mm512_castsi512_ps(_mm512_slli_epi32::<16>(two)), odd]
        };
        let mut totals = [[_mm512_setzero_ps(); 2]; COUNT];
        for first in (0..groups).step_by(GROUPS) {
            // For each row and half of the panel, separate sums of even and odd inputs.
            let mut sums = [[[_mm512_setzero_ps(); 2]; 2]; COUNT];
            for group in first..groups.min(first + GROUPS) {
                // SAFETY: `group` is below `groups`, so both lines and the words of all rows exist. Prefetches may be
                // out of bounds.
                let (low, high) = unsafe {
                    let line = panel.add(2 * group);
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD).cast());
                    _mm_prefetch::<_MM_HINT_T0>(line.wrapping_add(AHEAD + 1).cast());
                    (_mm512_load_si512(line.cast()), _mm512_load_si512(line.add(1).cast()))
                };
                let weights = [wide(low), wide(high)];
                for row in 0..COUNT {
                    // SAFETY: the same.
                    let word = unsafe { *words.add(row * stride + group) };
                    let x = wide(_mm512_set1_epi32(word as i32));
                    for half in 0..2 {
                        for odd in 0..2 {
                            let sum = &mut sums[row][half][odd];
                            *sum = _mm512_fmadd_ps(x[odd], weights[half][odd], *sum);
                        }
                    }
                }
            }
            for (totals, sums) in totals.iter_mut().zip(sums) {
                for (total, [even, odd]) in totals.iter_mut().zip(sums) {
                    *total = _mm512_add_ps(*total, _mm512_add_ps(even, odd));
                }
            }
        }
        for (tile, totals) in tile.iter_mut().zip(totals) {
            // SAFETY: a row of the tile holds two registers.
            unsafe {
                _mm512_storeu_ps(tile.as_mut_ptr(), totals[0]);
                _mm512_storeu_ps(tile.as_mut_ptr().add(16), totals[1]);
            }
        }
    }
}
