//! Rows of x in the weights' type, each row contiguous.

use super::output_block::{Finish, OutputBlock};
use super::parallel_output::{Columns, by_matrices, by_parts, by_rows, rounded_by_output_blocks};
use super::rounding::Round;
use super::{Kind, LANES, Line};
use pulp::Arch;

/// Words of one task.
const TOGETHER: usize = 1 << 13;

/// Writes the whole row of a number.
pub type MakeRow<'a> = dyn Fn(usize, &mut [f32]) + Sync + 'a;

pub struct Rows {
    values: Values,
    count: usize,
    /// Words from one row to the next. An odd number of cache lines, so that rows that are read in parallel do not
    /// evict each other from the first-level cache, whose places repeat every few kilobytes. Words past the inputs are
    /// zero.
    stride: usize,
}

enum Values {
    F32(Vec<f32>),
    /// Two in a word, the first of them lower.
    Bf16(Vec<u32>),
}

/// Some consecutive rows of x, and some of their words.
#[derive(Clone, Copy)]
pub(super) struct SomeRows<'a> {
    pub words: Words<'a>,
    pub count: usize,
    pub stride: usize,
}

#[derive(Clone, Copy)]
pub(super) enum Words<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u32]),
}

impl Rows {
    pub(super) fn new(x: &[f32], inputs: usize, kind: Kind) -> Rows {
        let count = x.len() / inputs.max(1);
        let stride = stride(inputs, kind);
        let row = |number: usize| &x[number * inputs..(number + 1) * inputs];
        let values = match kind {
            Kind::F32 => Values::F32(by_rows(count, stride, |number, words: &mut [f32]| {
                words[..inputs].copy_from_slice(row(number));
            })),
            Kind::Bf16 => {
                let arch = Arch::new();
                Values::Bf16(by_rows(count, stride, |number, words| {
                    arch.dispatch(Round { x: row(number), words });
                }))
            }
        };
        Rows { values, count, stride }
    }

    /// Rows that `make` computes, by number.
    pub(super) fn made(kind: Kind, count: usize, inputs: usize, make: &MakeRow) -> Rows {
        let stride = stride(inputs, kind);
        let values = match kind {
            Kind::F32 => Values::F32(by_rows(count, stride, |number, row: &mut [f32]| {
                make(number, &mut row[..inputs])
            })),
            Kind::Bf16 => {
                let arch = Arch::new();
                let together = (TOGETHER / stride).max(1);
                Values::Bf16(by_parts(count, stride, together, |first, words| {
                    let mut x = vec![0f32; inputs];
                    for (below, words) in words.chunks_exact_mut(stride).enumerate() {
                        make(first + below, &mut x);
                        arch.dispatch(Round { x: &x, words });
                    }
                }))
            }
        };
        Rows { values, count, stride }
    }

    /// The output of a product and its epilogue: these columns.
    pub(super) fn of_product(
        kind: Kind,
        rows: usize,
        columns: Columns,
        finish: Option<&Finish>,
        work: impl Fn(&mut OutputBlock) + Sync,
    ) -> Rows {
        let stride = stride(columns.count, kind);
        let columns = Columns { stride, ..columns };
        let values = match kind {
            Kind::F32 => {
                let mut made = by_matrices(rows, &[columns], finish, |_, output_block| work(output_block));
                Values::F32(made.pop().unwrap_or_default())
            }
            Kind::Bf16 => Values::Bf16(rounded_by_output_blocks(rows, columns, finish, work)),
        };
        Rows {
            values,
            count: rows,
            stride,
        }
    }

    /// Room for this many rows, all zero.
    pub(super) fn room(count: usize, inputs: usize, kind: Kind) -> Rows {
        let stride = stride(inputs, kind);
        let values = match kind {
            Kind::F32 => Values::F32(vec![0.0; count * stride]),
            Kind::Bf16 => Values::Bf16(vec![0; count * stride]),
        };
        Rows { values, count, stride }
    }

    /// Writes one of the rows.
    pub fn put(&mut self, row: usize, x: &[f32]) {
        let start = row * self.stride;
        match &mut self.values {
            Values::F32(values) => values[start..][..x.len()].copy_from_slice(x),
            Values::Bf16(values) => Arch::new().dispatch(Round {
                x,
                words: &mut values[start..start + self.stride],
            }),
        }
    }

    pub fn count(&self) -> usize {
        self.count
    }

    /// At most this many rows from `first` on, and their words from `start` on.
    pub(super) fn some(&self, first: usize, most: usize, start: usize) -> SomeRows<'_> {
        let from = first * self.stride + start;
        SomeRows {
            words: match &self.values {
                Values::F32(values) => Words::F32(&values[from..]),
                Values::Bf16(values) => Words::Bf16(&values[from..]),
            },
            count: most.min(self.count - first),
            stride: self.stride,
        }
    }
}

impl SomeRows<'_> {
    /// How many groups these lines hold. Checks that this many rows, `most` at most, have a word for each group:
    /// kernels rely on it, and on two lines for each group, without bounds checks.
    #[inline]
    pub fn groups(&self, lines: &[Line], rows: usize, most: usize) -> usize {
        let groups = lines.len() / 2;
        let enough = rows == 0 || self.words.len() >= (rows - 1) * self.stride + groups;
        assert!(rows <= most && enough, "the words do not fit the tile");
        groups
    }
}

fn stride(inputs: usize, kind: Kind) -> usize {
    (inputs.div_ceil(kind.inputs()).div_ceil(LANES) | 1) * LANES
}

impl Words<'_> {
    pub fn kind(&self) -> Kind {
        match self {
            Words::F32(_) => Kind::F32,
            Words::Bf16(_) => Kind::Bf16,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Words::F32(words) => words.len(),
            Words::Bf16(words) => words.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rounding::bf16_bits;
    use super::*;
    use half::bf16;

    #[test]
    fn rounding_is_the_library_s() {
        let some = (0..1 << 16).map(|n: u32| f32::from_bits(n.wrapping_mul(0x9e37_79b9)));
        let ties = (0..1 << 12).map(|n: u32| f32::from_bits(n << 20 | 0x8000));
        for x in some.chain(ties).chain([0.0, -0.0, f32::NAN, f32::INFINITY, f32::MAX]) {
            let expected = bf16::from_f32(x);
            let got = bf16::from_bits(bf16_bits(x) as u16);
            assert!(
                got.to_bits() == expected.to_bits() || got.is_nan() && expected.is_nan(),
                "{x}"
            );
        }
    }

    #[test]
    fn rows_made_one_by_one_are_those_of_a_matrix() {
        let x: Vec<f32> = (0..700 * 33).map(|n| (n as f32 * 0.37).sin()).collect();
        let make = |row: usize, out: &mut [f32]| out.copy_from_slice(&x[row * 33..][..33]);
        for kind in [Kind::F32, Kind::Bf16] {
            let (at_once, one_by_one) = (Rows::new(&x, 33, kind), Rows::made(kind, 700, 33, &make));
            assert_eq!((at_once.count, at_once.stride), (one_by_one.count, one_by_one.stride));
            match (at_once.values, one_by_one.values) {
                (Values::F32(at_once), Values::F32(one_by_one)) => assert_eq!(at_once, one_by_one),
                (Values::Bf16(at_once), Values::Bf16(one_by_one)) => assert_eq!(at_once, one_by_one),
                _ => panic!("other words than asked for"),
            }
        }
    }

    #[test]
    fn what_is_beyond_a_row_is_zero() {
        let rows = Rows::new(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3, Kind::Bf16);
        let some = rows.some(1, 9, 1);
        assert_eq!((some.count, some.stride % (2 * LANES)), (1, LANES));
        let Words::Bf16(words) = some.words else {
            panic!("other words than asked for")
        };
        assert_eq!(words[0], u32::from(bf16::from_f32(6.0).to_bits()));
        assert!(words[1..].iter().all(|word| *word == 0));
    }
}
