//! Frozen weights in the type of their file, widened when a product reads them.

use crate::products::{Operand, turn};
use checkpoint::nf4::Nf4;
use half::{bf16, f16};
use kernels::memory::prefetch;
use kernels::packed::passing;
use pulp::{Arch, NullaryFnOnce};
use std::ops::Range;
use std::sync::Arc;

/// Values of a matrix (rows, columns), row by row: all rows that are stored, or some of them. Clones share the values.
#[derive(Clone)]
pub(crate) struct Stored {
    form: Arc<Form>,
    /// The first of its rows among those that are stored.
    first: usize,
    pub rows: usize,
    pub columns: usize,
}

pub(crate) enum Form {
    F32(Vec<f32>),
    Bf16(Vec<bf16>),
    F16(Vec<f16>),
    Nf4(Nf4),
}

impl Stored {
    pub fn new(form: Form, rows: usize, columns: usize) -> Stored {
        Stored {
            form: Arc::new(form),
            first: 0,
            rows,
            columns,
        }
    }

    /// The matrix of some rows, over the same values.
    pub fn part(&self, rows: Range<usize>) -> Stored {
        Stored {
            first: self.first + rows.start,
            rows: rows.len(),
            ..self.clone()
        }
    }

    pub fn is_bf16(&self) -> bool {
        matches!(*self.form, Form::Bf16(_))
    }

    /// Where a value lies among those that are stored.
    #[inline(always)]
    fn place(&self, row: usize, column: usize) -> usize {
        (self.first + row) * self.columns + column
    }

    /// Values from a place on, across the ends of rows.
    pub fn read_across(&self, start: usize, out: &mut [f32]) {
        let (mut at, mut out) = (start, out);
        while !out.is_empty() {
            let (row, column) = (at / self.columns, at % self.columns);
            let count = out.len().min(self.columns - column);
            let (now, later) = out.split_at_mut(count);
            self.read(row, column..column + count, now);
            (at, out) = (at + count, later);
        }
    }

    /// Some values of a row as fp32.
    #[inline(always)]
    pub fn read(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let start = self.place(row, columns.start);
        let some = start..start + columns.len();
        match &*self.form {
            Form::F32(values) => out.copy_from_slice(&values[some]),
            Form::Bf16(values) => widen(out, &values[some], |x| f32::from_bits(u32::from(x.to_bits()) << 16)),
            Form::F16(values) => widen(out, &values[some], f16::to_f32),
            Form::Nf4(values) => values.read(some, out),
        }
    }

    /// Prefetches the values that are read next, from a column on.
    #[inline(always)]
    fn foresee(&self, row: usize, column: usize) {
        let start = self.place(row, column);
        match &*self.form {
            Form::Bf16(values) => prefetch(values.get(start..start + 64).unwrap_or_default()),
            Form::F16(values) => prefetch(values.get(start..start + 64).unwrap_or_default()),
            Form::Nf4(values) => prefetch(values.bytes.get(start / 2..start / 2 + 32).unwrap_or_default()),
            Form::F32(_) => {}
        }
    }

    pub fn bytes(&self) -> u64 {
        let values = (self.rows * self.columns) as u64;
        match &*self.form {
            Form::F32(_) => 4 * values,
            Form::Bf16(_) | Form::F16(_) => 2 * values,
            Form::Nf4(values) => values.size_in_bytes(),
        }
    }

    pub fn name(&self) -> &'static str {
        match &*self.form {
            Form::F32(_) => "fp32",
            Form::Bf16(_) => "bf16",
            Form::F16(_) => "fp16",
            Form::Nf4(_) => "nf4",
        }
    }

    /// As the right side of `x W^T`: lanes are rows.
    pub fn by_lane(&self) -> StoredByLane<'_> {
        StoredByLane(self)
    }

    /// As the right side of `x W`: lanes are columns.
    pub fn by_depth(&self) -> StoredByDepth<'_> {
        StoredByDepth(self)
    }
}

#[inline(always)]
fn widen<T: Copy>(out: &mut [f32], values: &[T], wide: impl Fn(T) -> f32) {
    // Sixteen at a time: rows are short, and compilers optimise loops for long ones.
    let (out, out_rest) = out.as_chunks_mut::<16>();
    let (values, values_rest) = values.as_chunks::<16>();
    for (out, values) in out.iter_mut().zip(values) {
        *out = values.map(&wide);
    }
    out_rest
        .iter_mut()
        .zip(values_rest)
        .for_each(|(out, &x)| *out = wide(x));
}

pub(crate) struct StoredByLane<'a>(&'a Stored);

impl Operand for StoredByLane<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        if let Form::F32(values) = &*self.0.form {
            let rows = lanes.map(|lane| &values[self.0.place(lane, 0)..][depth.clone()]);
            return turn(rows, depth.len(), width, out);
        }
        let panel = Panel {
            stored: self.0,
            lanes,
            depth,
            width,
            out,
        };
        Arch::new().dispatch(LanesOf(panel));
    }

    fn add_stored(&self, lanes: Range<usize>, depth: Range<usize>, panel: &mut passing::Panel) -> bool {
        let (Form::Bf16(values), true) = (&*self.0.form, depth.len().is_multiple_of(2)) else {
            return false;
        };
        let stored = &values[self.0.place(lanes.start, depth.start)..];
        panel.add_columns(stored, self.0.columns, depth.len(), lanes.len())
    }
}

pub(crate) struct StoredByDepth<'a>(&'a Stored);

impl Operand for StoredByDepth<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        self.pack_panels(lanes, depth, width, out);
    }

    fn pack_panels(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let panel = Panel {
            stored: self.0,
            lanes,
            depth,
            width,
            out,
        };
        Arch::new().dispatch(DepthsOf(panel));
    }

    fn add_stored(&self, lanes: Range<usize>, depth: Range<usize>, panel: &mut passing::Panel) -> bool {
        let (Form::Bf16(values), true) = (&*self.0.form, depth.len().is_multiple_of(2)) else {
            return false;
        };
        let stored = &values[self.0.place(depth.start, lanes.start)..];
        panel.add_inputs(stored, self.0.columns, depth.len(), lanes.len());
        true
    }
}

/// The arguments of [`Operand::pack_panels`]. A closure would be a function of its own, compiled without the wider
/// registers.
struct Panel<'a> {
    stored: &'a Stored,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    out: &'a mut [f32],
}

struct LanesOf<'a>(Panel<'a>);

impl NullaryFnOnce for LanesOf<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Panel {
            stored,
            lanes,
            depth,
            width,
            out,
        } = self.0;
        let mut wide = [[0f32; 64]; 32];
        for start in (0..depth.len()).step_by(64) {
            let some = start..depth.len().min(start + 64);
            for (lane, wide) in lanes.clone().zip(&mut wide) {
                let some = depth.start + some.start..depth.start + some.end;
                stored.foresee(lane, some.end);
                stored.read(lane, some.clone(), &mut wide[..some.len()]);
            }
            let rows = wide[..lanes.len()].iter().map(|row| &row[..some.len()]);
            turn(rows, some.len(), width, &mut out[start * width..some.end * width]);
        }
    }
}

struct DepthsOf<'a>(Panel<'a>);

impl NullaryFnOnce for DepthsOf<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Panel {
            stored,
            lanes,
            depth,
            width,
            out,
        } = self.0;
        let panels = Panels {
            stored: stored.columns,
            lanes,
            // Rows of the matrix are the depth of this product.
            depth: stored.first + depth.start..stored.first + depth.end,
            width,
            out,
        };
        match &*stored.form {
            Form::F32(values) => panels.fill(
                values,
                #[inline(always)]
                |x| x,
            ),
            Form::Bf16(values) => panels.fill(
                values,
                #[inline(always)]
                |x| f32::from_bits(u32::from(x.to_bits()) << 16),
            ),
            Form::F16(values) => panels.fill(values, f16::to_f32),
            Form::Nf4(values) => {
                let deep = panels.depth.len();
                for (place, row) in panels.depth.enumerate() {
                    let starts = panels.lanes.clone().step_by(width);
                    for (panel, start) in starts.enumerate() {
                        let out = &mut panels.out[(panel * deep + place) * width..][..width];
                        let (filled, rest) = out.split_at_mut(width.min(panels.lanes.end - start));
                        let start = row * stored.columns + start;
                        values.read(start..start + filled.len(), filled);
                        rest.fill(0.0);
                    }
                }
            }
        }
    }
}

/// Panels of columns, filled row by row of the matrix.
struct Panels<'a> {
    /// Columns of the matrix.
    stored: usize,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    out: &'a mut [f32],
}

/// How many rows ahead to prefetch: rows are too far apart for the hardware prefetcher.
const AHEAD: usize = 12;

impl Panels<'_> {
    #[inline(always)]
    fn fill<T: Copy>(self, values: &[T], wide: impl Fn(T) -> f32) {
        let (deep, width) = (self.depth.len(), self.width);
        for (place, row) in self.depth.enumerate() {
            let start = row * self.stored + self.lanes.start;
            if let Some(later) = values.get(start + AHEAD * self.stored..) {
                prefetch(&later[..later.len().min(self.lanes.len())]);
            }
            let row = &values[start..][..self.lanes.len()];
            for (panel, values) in row.chunks(width).enumerate() {
                let out = &mut self.out[(panel * deep + place) * width..][..width];
                let (filled, rest) = out.split_at_mut(values.len());
                widen(filled, values, &wide);
                rest.fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nf4;

    /// Packed like the same rows of the whole matrix, in both orders.
    #[track_caller]
    fn check(form: Form) {
        const COLUMNS: usize = 21;
        let (whole, depth) = (Stored::new(form, 12, COLUMNS), 3..19);
        let part = whole.part(2..12).part(3..8);
        let packed = |stored: &Stored, rows: Range<usize>| {
            let mut values = vec![0.0; 2 * 8 * 16];
            let (by_lane, by_depth) = values.split_at_mut(8 * 16);
            stored.by_lane().pack(rows.clone(), depth.clone(), 8, by_lane);
            stored
                .by_depth()
                .pack(depth.clone(), rows.clone(), 16, &mut by_depth[..16 * rows.len()]);
            values
        };
        assert_eq!(packed(&part, 1..5), packed(&whole, 6..10), "{}", whole.name());
        assert_ne!(packed(&part, 1..5), packed(&whole, 1..5), "{}", whole.name());
    }

    #[test]
    fn a_part_is_some_rows_of_its_matrix() {
        let values: Vec<f32> = (1..=12 * 21).map(|n| (n * 37 % 101) as f32 - 50.5).collect();
        check(Form::Bf16(values.iter().copied().map(bf16::from_f32).collect()));
        check(Form::F16(values.iter().copied().map(f16::from_f32).collect()));
        check(Form::Nf4(nf4::quantise(values.len(), true, |start, out| {
            out.copy_from_slice(&values[start..][..out.len()]);
        })));
        check(Form::F32(values));
    }
}
