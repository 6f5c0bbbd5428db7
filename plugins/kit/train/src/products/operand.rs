//! What a product reads: numbers in memory, in either order, and in whatever type.

use half::bf16;
use std::ops::Range;

/// One side of a product: so many lanes, of which each is a row of the left matrix or a column of the right one, and in
/// each as many values as the sums have terms.
pub(crate) trait Operand: Sync {
    /// Writes some lanes, of which there are at most `width`, over some of their depth: the value of lane `l` at depth `d`
    /// to `out[d * width + l]`, both counted from their beginnings. Lanes that are missing are zeros.
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]);
}

/// Lanes one behind the other.
pub(crate) struct ByLane<'a> {
    values: &'a [f32],
    depth: usize,
}

impl<'a> ByLane<'a> {
    pub fn new(values: &'a [f32], depth: usize) -> ByLane<'a> {
        ByLane { values, depth }
    }
}

impl Operand for ByLane<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let rows = lanes.map(|lane| &self.values[lane * self.depth..][depth.clone()]);
        turn(rows, depth.len(), width, out);
    }
}

/// Values of all lanes at one depth, then those at the next.
pub(crate) struct ByDepth<'a> {
    values: &'a [f32],
    lanes: usize,
}

impl<'a> ByDepth<'a> {
    pub fn new(values: &'a [f32], lanes: usize) -> ByDepth<'a> {
        ByDepth { values, lanes }
    }
}

impl Operand for ByDepth<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        for (out, at) in out.chunks_exact_mut(width).zip(depth) {
            let (filled, rest) = out.split_at_mut(lanes.len());
            filled.copy_from_slice(&self.values[at * self.lanes..][lanes.clone()]);
            rest.fill(0.0);
        }
    }
}

/// The same values, rounded to bf16.
pub(crate) struct Rounded<'a>(pub &'a dyn Operand);

impl Operand for Rounded<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        self.0.pack(lanes, depth, width, out);
        out.iter_mut().for_each(|x| *x = round(*x));
    }
}

/// To the nearest bf16, the even one of two.
#[inline(always)]
pub(crate) fn round(x: f32) -> f32 {
    bf16::from_f32(x).to_f32()
}

/// Writes rows of equal length as columns.
#[inline(always)]
pub(crate) fn turn<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, depth: usize, width: usize, out: &mut [f32]) {
    let count = rows.len();
    if count < width {
        out.fill(0.0);
    }
    for (lane, row) in rows.enumerate() {
        let column = out[lane..].iter_mut().step_by(width);
        column.zip(&row[..depth]).for_each(|(out, &x)| *out = x);
    }
}
