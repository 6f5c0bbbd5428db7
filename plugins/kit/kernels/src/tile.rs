//! Tiles of sums, for products that pack their operands while reading them, as in training.
//!
//! A sum's terms are added one by one, each with one rounding, so its bits are the same whatever the tile's shape and
//! the processor's registers.
#![allow(unsafe_code)] // the processor's own instructions, on slices whose lengths are checked beforehand

use crate::packed::passing::{Registers, registers};
use std::sync::OnceLock;

/// How many rows and columns a tile has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    pub rows: usize,
    pub columns: usize,
}

const AVX2: Shape = Shape { rows: 6, columns: 16 };
const AVX512: Shape = Shape { rows: 12, columns: 32 };

/// The tile of this processor; none if this module has no loop for it.
pub fn shape() -> Option<Shape> {
    static SHAPE: OnceLock<Option<Shape>> = OnceLock::new();
    *SHAPE.get_or_init(|| match registers() {
        Registers::Avx512 => Some(AVX512),
        Registers::Avx2 => Some(AVX2),
        Registers::Others => None,
    })
}

/// Computes the product of `rows` (depth, the shape's rows) and `panel` (depth, `width`) and writes it to `sums` row
/// by row, or adds it. The width is the shape's columns or half of them. Panics without a [`shape`].
pub fn sums(rows: &[f32], panel: &[f32], width: usize, add: bool, sums: &mut [f32]) {
    let shape = shape();
    let depth = panel.len() / width;
    let fits = shape.is_some_and(|shape| {
        rows.len() == depth * shape.rows
            && (width == shape.columns || 2 * width == shape.columns)
            && sums.len() == shape.rows * width
    });
    assert!(fits && panel.len() == depth * width, "the tile has another shape");
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (sums, add);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: `shape` checked that the processor has the instructions; the slices hold a tile's values for each depth,
    // and `sums` holds all sums.
    unsafe {
        let (a, b, out) = (rows.as_ptr(), panel.as_ptr(), sums.as_mut_ptr());
        match (
            shape == Some(AVX512),
            2 * width == shape.map_or(0, |shape| shape.columns),
        ) {
            (true, false) => x86::avx512::<2>(a, b, depth, add, out),
            (true, true) => x86::avx512::<1>(a, b, depth, add, out),
            (false, false) => x86::avx2::<2>(a, b, depth, add, out),
            (false, true) => x86::avx2::<1>(a, b, depth, add, out),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    /// # Safety
    /// The processor has AVX-512; there are 12 rows and `16 * VECTORS` columns for each of the depth, and room for as
    /// many sums.
    #[target_feature(enable = "avx512f")]
    #[allow(clippy::needless_range_loop, reason = "keeps the sums in registers")]
    pub unsafe fn avx512<const VECTORS: usize>(
        mut a: *const f32,
        mut b: *const f32,
        depth: usize,
        add: bool,
        out: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); VECTORS]; 12];
            for _ in 0..depth {
                let mut columns = [_mm512_setzero_ps(); VECTORS];
                for vector in 0..VECTORS {
                    columns[vector] = _mm512_loadu_ps(b.add(16 * vector));
                }
                for row in 0..12 {
                    let x = _mm512_set1_ps(*a.add(row));
                    for vector in 0..VECTORS {
                        sums[row][vector] = _mm512_fmadd_ps(x, columns[vector], sums[row][vector]);
                    }
                }
                a = a.add(12);
                b = b.add(16 * VECTORS);
            }
            for row in 0..12 {
                for vector in 0..VECTORS {
                    let (at, mut sum) = (out.add((row * VECTORS + vector) * 16), sums[row][vector]);
                    if add {
                        sum = _mm512_add_ps(_mm512_loadu_ps(at), sum);
                    }
                    _mm512_storeu_ps(at, sum);
                }
            }
        }
    }

    /// # Safety
    /// The processor has AVX2 and FMA; there are 6 rows and `8 * VECTORS` columns for each of the depth, and room for
    /// as many sums.
    #[target_feature(enable = "avx2,fma")]
    #[allow(clippy::needless_range_loop, reason = "keeps the sums in registers")]
    pub unsafe fn avx2<const VECTORS: usize>(
        mut a: *const f32,
        mut b: *const f32,
        depth: usize,
        add: bool,
        out: *mut f32,
    ) {
        // SAFETY: the caller's.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); VECTORS]; 6];
            for _ in 0..depth {
                let mut columns = [_mm256_setzero_ps(); VECTORS];
                for vector in 0..VECTORS {
                    columns[vector] = _mm256_loadu_ps(b.add(8 * vector));
                }
                for row in 0..6 {
                    let x = _mm256_broadcast_ss(&*a.add(row));
                    for vector in 0..VECTORS {
                        sums[row][vector] = _mm256_fmadd_ps(x, columns[vector], sums[row][vector]);
                    }
                }
                a = a.add(6);
                b = b.add(8 * VECTORS);
            }
            for row in 0..6 {
                for vector in 0..VECTORS {
                    let (at, mut sum) = (out.add((row * VECTORS + vector) * 8), sums[row][vector]);
                    if add {
                        sum = _mm256_add_ps(_mm256_loadu_ps(at), sum);
                    }
                    _mm256_storeu_ps(at, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        let value = |n: usize| ((n * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0;
        (0..count).map(value).collect()
    }

    #[test]
    fn sums_are_to_the_bit_those_of_one_term_after_the_other() {
        let Some(shape) = shape() else { return };
        for (depth, width) in [
            (1, shape.columns),
            (37, shape.columns),
            (256, shape.columns),
            (256, shape.columns / 2),
        ] {
            let (rows, panel) = (values(depth * shape.rows, 1), values(depth * width, 2));
            let mut got = vec![f32::NAN; shape.rows * width];
            sums(&rows, &panel, width, false, &mut got);
            let mut twice = got.clone();
            sums(&rows, &panel, width, true, &mut twice);
            assert!(got.iter().zip(&twice).all(|(sum, twice)| 2.0 * sum == *twice));
            for row in 0..shape.rows {
                for column in 0..width {
                    let term = |sum: f32, d: usize| rows[d * shape.rows + row].mul_add(panel[d * width + column], sum);
                    let expected = (0..depth).fold(0.0, term);
                    assert_eq!(got[row * width + column], expected, "{depth} {width}: {row}, {column}");
                }
            }
        }
    }
}
