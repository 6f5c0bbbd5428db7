//! The innermost loop: a tile of rows by columns, whose sums stay in registers.

use kernels::tile;
use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

/// What a tile is on this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
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

    /// The columns of a panel that has so many to hold.
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

/// A panel of columns against all panels of rows.
pub(super) struct Tile<'a, 'y> {
    /// Panels of rows, each (depth, rows of a tile).
    pub rows: &'a [f32],
    /// (depth, width).
    pub panel: &'a [f32],
    /// See [`Shape::width`].
    pub width: usize,
    pub y: &'a mut [&'y mut [f32]],
    /// The first column, in y.
    pub column: usize,
    pub deep: usize,
    pub scale: f32,
    pub add: bool,
}

impl Tile<'_, '_> {
    pub fn run(self, shape: Shape) {
        debug_assert_eq!(shape, Shape::here());
        match tile::shape().is_some() {
            true => Arch::new().dispatch(|| self.by_sums(shape)),
            false => Arch::new().dispatch(self),
        }
    }

    /// By the loops of `kernels`, which give a tile's sums.
    #[inline(always)]
    fn by_sums(self, shape: Shape) {
        let mut sums = [0.0; tile::MOST];
        let panels = self.rows.chunks_exact(shape.rows * self.deep);
        for (rows, y) in panels.zip(self.y.chunks_mut(shape.rows)) {
            tile::sums(rows, self.panel, self.width, &mut sums);
            for (sums, y) in sums.chunks_exact(self.width).zip(y) {
                let y = y[self.column..].iter_mut().zip(sums);
                match self.add {
                    true => y.for_each(|(y, &sum)| *y = self.scale.mul_add(sum, *y)),
                    false => y.for_each(|(y, &sum)| *y = self.scale * sum),
                }
            }
        }
    }

    #[inline(always)]
    fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(self, simd: S) {
        let lanes = S::F32_LANES;
        let (panel, _) = S::as_simd_f32s(self.panel);
        let (steps, _) = panel.as_chunks::<VECTORS>();
        let columns = VECTORS * lanes;
        let scale = simd.splat_f32s(self.scale);
        for (rows, y) in self.rows.chunks_exact(ROWS * self.deep).zip(self.y.chunks_mut(ROWS)) {
            let (rows, _) = rows.as_chunks::<ROWS>();
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
            for (a, b) in rows.iter().zip(steps) {
                for row in 0..ROWS {
                    let a = simd.splat_f32s(a[row]);
                    for vector in 0..VECTORS {
                        sums[row][vector] = simd.mul_add_f32s(a, b[vector], sums[row][vector]);
                    }
                }
            }
            for (sums, y) in sums.iter().zip(y) {
                let y = &mut y[self.column..];
                if y.len() >= columns {
                    let (y, _) = S::as_mut_simd_f32s(&mut y[..columns]);
                    for (y, &sum) in y.iter_mut().zip(sums) {
                        *y = match self.add {
                            true => simd.mul_add_f32s(scale, sum, *y),
                            false => simd.mul_f32s(scale, sum),
                        };
                    }
                } else {
                    let mut all = [0.0; 64];
                    let (vectors, _) = S::as_mut_simd_f32s(&mut all[..columns]);
                    vectors.copy_from_slice(sums);
                    for (y, sum) in y.iter_mut().zip(all) {
                        *y = match self.add {
                            true => self.scale.mul_add(sum, *y),
                            false => self.scale * sum,
                        };
                    }
                }
            }
        }
    }
}

impl WithSimd for Tile<'_, '_> {
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
