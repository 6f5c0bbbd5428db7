//! Weights that are not learnt, as their file stores them, widened where a product reads them.

use crate::nf4::Nf4;
use crate::products::{Operand, turn};
use half::{bf16, f16};
use std::ops::Range;

/// Values of a matrix (rows, columns), row by row.
pub(crate) struct Stored {
    pub form: Form,
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
    /// Values from a place on, over the ends of rows.
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

    /// Some values of a row, as fp32.
    #[inline(always)]
    pub fn read(&self, row: usize, columns: Range<usize>, out: &mut [f32]) {
        let start = row * self.columns + columns.start;
        let some = start..start + columns.len();
        match &self.form {
            Form::F32(values) => out.copy_from_slice(&values[some]),
            Form::Bf16(values) => widen(out, &values[some], |x| f32::from_bits(u32::from(x.to_bits()) << 16)),
            Form::F16(values) => widen(out, &values[some], f16::to_f32),
            Form::Nf4(values) => values.read(some, out),
        }
    }

    pub fn bytes(&self) -> u64 {
        let values = (self.rows * self.columns) as u64;
        match &self.form {
            Form::F32(_) => 4 * values,
            Form::Bf16(_) | Form::F16(_) => 2 * values,
            Form::Nf4(values) => values.bytes(),
        }
    }

    pub fn name(&self) -> &'static str {
        match &self.form {
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
    out.iter_mut().zip(values).for_each(|(out, &x)| *out = wide(x));
}

pub(crate) struct StoredByLane<'a>(&'a Stored);

impl Operand for StoredByLane<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let count = depth.len();
        if let Form::F32(values) = &self.0.form {
            let rows = lanes.map(|lane| &values[lane * self.0.columns..][depth.clone()]);
            return turn(rows, count, width, out);
        }
        crate::products::vector::vectorised(|| {
            let mut wide = [[0f32; 64]; 32];
            for start in (0..count).step_by(64) {
                let some = start..count.min(start + 64);
                for (lane, wide) in lanes.clone().zip(&mut wide) {
                    let some = depth.start + some.start..depth.start + some.end;
                    self.0.read(lane, some.clone(), &mut wide[..some.len()]);
                }
                let rows = wide[..lanes.len()].iter().map(|row| &row[..some.len()]);
                turn(rows, some.len(), width, &mut out[start * width..some.end * width]);
            }
        });
    }
}

pub(crate) struct StoredByDepth<'a>(&'a Stored);

impl Operand for StoredByDepth<'_> {
    fn pack(&self, lanes: Range<usize>, depth: Range<usize>, width: usize, out: &mut [f32]) {
        let stored = self.0;
        crate::products::vector::vectorised(|| match &stored.form {
            Form::F32(values) => by_depth(values, stored.columns, lanes, depth, width, out, |x| x),
            Form::Bf16(values) => by_depth(values, stored.columns, lanes, depth, width, out, |x| {
                f32::from_bits(u32::from(x.to_bits()) << 16)
            }),
            Form::F16(values) => by_depth(values, stored.columns, lanes, depth, width, out, f16::to_f32),
            Form::Nf4(values) => {
                for (out, row) in out.chunks_exact_mut(width).zip(depth) {
                    let (filled, rest) = out.split_at_mut(lanes.len());
                    let start = row * stored.columns + lanes.start;
                    values.read(start..start + filled.len(), filled);
                    rest.fill(0.0);
                }
            }
        });
    }
}

/// Whole panels sixteen values at a time, so that the loop is one of registers.
#[inline(always)]
fn by_depth<T: Copy>(
    values: &[T],
    columns: usize,
    lanes: Range<usize>,
    depth: Range<usize>,
    width: usize,
    out: &mut [f32],
    wide: impl Fn(T) -> f32,
) {
    for (out, row) in out.chunks_exact_mut(width).zip(depth) {
        let (filled, rest) = out.split_at_mut(lanes.len());
        let row = &values[row * columns + lanes.start..][..lanes.len()];
        let ((outs, out), (values, value)) = (filled.as_chunks_mut::<16>(), row.as_chunks::<16>());
        for (out, values) in outs.iter_mut().zip(values) {
            *out = values.map(&wide);
        }
        out.iter_mut().zip(value).for_each(|(out, &x)| *out = wide(x));
        rest.fill(0.0);
    }
}
