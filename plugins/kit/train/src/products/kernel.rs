//! The innermost loop: a tile of rows and columns, whose sums stay in registers.

use kernels::tile;
use pulp::{Arch, Simd, WithSimd};
use std::ops::Range;
use std::sync::OnceLock;

/// The shape of a tile on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub rows: usize,
    pub columns: usize,
}

impl Shape {
    pub fn here() -> Shape {
        static SHAPE: OnceLock<Shape> = OnceLock::new();
        *SHAPE.get_or_init(|| match tile::shape() {
            Some(tile::Shape { rows, columns }) => Shape { rows, columns },
            None => Arch::new().dispatch(Lanes),
        })
    }

    /// The width of a panel for this many columns.
    pub fn width(self, columns: usize) -> usize {
        match tile::shape().is_some() && 2 * columns <= self.columns {
            true => self.columns / 2,
            false => self.columns,
        }
    }

    fn of(lanes: usize) -> Shape {
        match lanes {
            16 => Shape { rows: 12, columns: 32 },
            _ => Shape { rows: 6, columns: 16 },
        }
    }
}

struct Lanes;

impl WithSimd for Lanes {
    type Output = Shape;

    fn with_simd<S: Simd>(self, _: S) -> Shape {
        Shape::of(S::F32_LANES)
    }
}

/// Multiplies a panel of columns with all panels of rows.
pub(crate) struct Tile<'a> {
    /// Panels of rows, each (depth, rows of a tile).
    pub rows: &'a [f32],
    /// (depth, width).
    pub panel: &'a [f32],
    /// See [`Shape::width`].
    pub width: usize,
    pub deep: usize,
    /// Which of the depth's terms to sum.
    pub terms: Range<usize>,
    /// Whether to add to existing sums.
    pub add: bool,
    /// For each panel of rows: (rows of a tile, width).
    pub sums: &'a mut [f32],
}

impl Tile<'_> {
    pub fn run(self, shape: Shape) {
        debug_assert_eq!(shape, Shape::here());
        if tile::shape().is_none() {
            return Arch::new().dispatch(self);
        }
        let panel = &self.panel[self.terms.start * self.width..self.terms.end * self.width];
        let panels = self.rows.chunks_exact(shape.rows * self.deep);
        for (rows, sums) in panels.zip(self.sums.chunks_exact_mut(shape.rows * self.width)) {
            let rows = &rows[self.terms.start * shape.rows..self.terms.end * shape.rows];
            tile::sums(rows, panel, self.width, self.add, sums);
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let (panel, _) = S::as_simd_f32s(self.panel);
        let steps = &panel.as_chunks::<VECTORS>().0[self.terms.clone()];
        let panels = self.rows.chunks_exact(ROWS * self.deep);
        for (rows, out) in panels.zip(self.sums.chunks_exact_mut(ROWS * self.width)) {
            let rows = &rows.as_chunks::<ROWS>().0[self.terms.clone()];
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            for (a, b) in rows.iter().zip(steps) {
                for row in 0..ROWS {
                    let a = simd.splat_f32s(a[row]);
                    for vector in 0..VECTORS {
                        sums[row][vector] = simd.mul_add_f32s(a, b[vector], sums[row][vector]);
                    }
                }
            }
            let (out, _) = S::as_mut_simd_f32s(out);
            for (out, &sum) in out.iter_mut().zip(sums.iter().flatten()) {
                *out = match self.add {
                    true => simd.add_f32s(*out, sum),
                    false => sum,
                };
            }
        }
    }
}

impl WithSimd for Tile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        match S::F32_LANES {
            16 => self.tiles::<S, 12, 2>(simd),
            8 => self.tiles::<S, 6, 2>(simd),
            4 => self.tiles::<S, 6, 4>(simd),
            _ => self.tiles::<S, 6, 16>(simd),
        }
    }
}
