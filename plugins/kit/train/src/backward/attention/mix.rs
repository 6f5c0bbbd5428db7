//! Sums of vectors over keys, with a weight for each query and key.

use super::{Block, packed};
use crate::products::{ByDepth, DEPTH, Scratch, Tile, turn};
use std::ops::Range;

/// Keys' vectors, packed a block of depth after another.
pub(super) struct Vectors {
    packed: Vec<Scratch>,
    keys: usize,
    size: usize,
}

impl Vectors {
    /// x (keys, size).
    pub fn pack(x: &[f32], size: usize, width: usize) -> Vectors {
        let keys = x.len() / size;
        let depth = |start| start..keys.min(start + DEPTH);
        let blocks = (0..keys).step_by(DEPTH);
        Vectors {
            packed: blocks
                .map(|start| packed(&ByDepth::new(x, size), size, depth(start), width))
                .collect(),
            keys,
            size,
        }
    }
}

/// The sums of a block of queries.
pub(super) struct Mix<'a> {
    block: &'a Block,
    vectors: &'a Vectors,
    /// Weights of the current block of depth, as the left side of a product.
    weights: Scratch,
    /// Panels of channels, each (rows, width).
    sums: Scratch,
}

impl Mix<'_> {
    pub fn new<'a>(block: &'a Block, vectors: &'a Vectors) -> Mix<'a> {
        let (padded, width) = (block.padded(), block.shape.columns);
        let mut sums = Scratch::new(padded * vectors.size.next_multiple_of(width));
        sums.fill(0.0);
        Mix {
            block,
            vectors,
            weights: Scratch::new(padded * DEPTH),
            sums,
        }
    }

    /// Adds the next panel of keys, with weights (rows, width) for the rows that see it.
    pub fn add(&mut self, panel: usize, rows: Range<usize>, weights: &[f32]) {
        let (height, width) = (self.block.shape.rows, self.block.shape.columns);
        let start = panel * width / DEPTH * DEPTH;
        let (at, deep) = (panel * width - start, DEPTH.min(self.vectors.keys - start));
        let count = width.min(deep - at);
        for (tile, weights) in (rows.start / height..).zip(weights.chunks_exact(height * width)) {
            let to = &mut self.weights[(tile * deep + at) * height..][..count * height];
            turn(weights.chunks_exact(width), count, height, to);
        }
        if at + count == deep || panel + 1 == self.block.panels().end {
            self.multiply(start, deep);
        }
    }

    /// Adds the products of a block of depth.
    fn multiply(&mut self, start: usize, deep: usize) {
        let (height, width) = (self.block.shape.rows, self.block.shape.columns);
        let vectors = self.vectors.packed[start / DEPTH].chunks_exact(deep * width);
        let sums = self.sums.chunks_exact_mut(self.block.padded() * width);
        for (panel, sums) in vectors.zip(sums) {
            let weights = self.weights.chunks_exact(deep * height);
            for (tile, (rows, sums)) in weights.zip(sums.chunks_exact_mut(height * width)).enumerate() {
                let seen = self.block.keys_of_tile(tile);
                let terms = seen.start.max(start) - start..seen.end.clamp(start, start + deep) - start;
                if terms.is_empty() {
                    continue;
                }
                Tile {
                    rows,
                    panel,
                    width,
                    deep,
                    terms,
                    add: true,
                    sums,
                }
                .run(self.block.shape);
            }
        }
    }

    /// Writes the sums to y (rows, size), each row times its factor.
    pub fn finish(self, factor: impl Fn(usize) -> f32, y: &mut [f32]) {
        let width = self.block.shape.columns;
        let panels = self.sums.chunks_exact(self.block.padded() * width);
        for (row, y) in y.chunks_exact_mut(self.vectors.size).enumerate() {
            let factor = factor(row);
            for (y, panel) in y.chunks_mut(width).zip(panels.clone()) {
                let sums = &panel[row * width..];
                y.iter_mut().zip(sums).for_each(|(y, sum)| *y = factor * sum);
            }
        }
    }
}
