//! Products of bf16 by AMX tiles, for weights that are packed while they are read and not kept, as in training.

use super::rounding::bf16_bits;
use super::rows::Rows;
use super::{Kernel, Kind, LANES, Line, MakeRow, PANEL, amx};
use crate::memory::prefetch;
use crate::turn::turn;
use half::bf16;
use half::slice::HalfFloatSliceExt;
use pulp::{Arch, NullaryFnOnce};
use std::ops::Range;

/// The widest registers that the fp32 loops here use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registers {
    Avx512,
    Avx2,
    Others,
}

pub fn registers() -> Registers {
    match Kernel::best(Kind::F32) {
        Kernel::Amx | Kernel::Avx512 => Registers::Avx512,
        Kernel::Avx2 => Registers::Avx2,
        Kernel::Portable => Registers::Others,
    }
}

/// Columns of a panel.
pub const COLUMNS: usize = PANEL;

/// Whether this processor has such tiles and may use them.
pub fn has() -> bool {
    Kernel::best(Kind::Bf16) == Kernel::Amx
}

/// The left side: rows, rounded to bf16.
pub struct Left(Rows);

impl Left {
    /// Rows that `make` computes, by number.
    pub fn made(count: usize, inputs: usize, make: &MakeRow) -> Left {
        Left(Rows::made(Kind::Bf16, count, inputs, make))
    }

    /// For each of some rows, passes the products with the panel's columns to `take`. The inputs begin at `start`,
    /// which is even, and are as many as the panel's.
    pub fn times(&self, rows: Range<usize>, start: usize, panel: &mut Panel, take: impl FnMut(usize, &[f32; COLUMNS])) {
        assert!(
            start.is_multiple_of(2) && rows.end <= self.0.count(),
            "rows or inputs out of bounds"
        );
        panel.fill_step();
        amx::passing(&self.0, rows, start / 2, &panel.lines, take);
    }
}

/// The right side: some columns, in the order in which tiles are loaded.
#[derive(Default)]
pub struct Panel {
    lines: Vec<Line>,
}

impl Panel {
    pub fn clear(&mut self) {
        self.lines.clear();
    }

    /// Adds values (inputs, [`COLUMNS`]). The number of inputs is even, except in the last call.
    pub fn add(&mut self, values: &[f32]) {
        let before = self.lines.len();
        self.lines
            .resize(before + 2 * values.len().div_ceil(2 * PANEL), Line([0; LANES]));
        let lines = &mut self.lines[before..];
        Arch::new().dispatch(Narrow { values, lines });
    }

    /// Adds bf16 values of a matrix whose rows are inputs: `stored` begins at the first input and column, and rows are
    /// `width` values apart. There are at most [`COLUMNS`] columns, and an even number of inputs.
    pub fn add_inputs(&mut self, stored: &[bf16], width: usize, inputs: usize, columns: usize) {
        let bits: &[u16] = stored.reinterpret_cast();
        let lines = self.more(inputs);
        Arch::new().dispatch(Interleave {
            bits,
            width,
            columns,
            lines,
        });
    }

    /// The same for a matrix whose rows are columns here. Returns false, and adds nothing, if pairs of values are not
    /// aligned to words.
    pub fn add_columns(&mut self, stored: &[bf16], width: usize, inputs: usize, columns: usize) -> bool {
        let bits: &[u16] = stored.reinterpret_cast();
        let mut rows = [&[][..]; COLUMNS];
        for (column, row) in rows[..columns].iter_mut().enumerate() {
            match bytemuck::try_cast_slice::<u16, f32>(&bits[column * width..][..inputs]) {
                Ok(words) => *row = words,
                Err(_) => return false,
            }
        }
        let lines = self.more(inputs);
        // Words are moved unchanged.
        turn(&rows[..columns], inputs / 2, COLUMNS, bytemuck::cast_slice_mut(lines));
        true
    }

    /// Lines for this many more inputs, an even number.
    fn more(&mut self, inputs: usize) -> &mut [Line] {
        assert!(inputs.is_multiple_of(2), "half a pair of inputs");
        let before = self.lines.len();
        self.lines.resize(before + inputs, Line([0; LANES]));
        &mut self.lines[before..]
    }

    /// Zeros up to a whole step of tiles.
    fn fill_step(&mut self) {
        let whole = self.lines.len().next_multiple_of(amx::LINES);
        self.lines.resize(whole, Line([0; LANES]));
    }
}

/// Rounds values (inputs, [`COLUMNS`]), two inputs to a word. A closure would be a function of its own, compiled
/// without the wider registers.
struct Narrow<'a> {
    values: &'a [f32],
    lines: &'a mut [Line],
}

impl NullaryFnOnce for Narrow<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let (pairs, rest) = self.values.as_chunks::<{ 2 * PANEL }>();
        let (lines, last) = self.lines.split_at_mut(2 * pairs.len());
        for (pair, lines) in pairs.iter().zip(lines.as_chunks_mut::<2>().0) {
            let (low, high) = pair.split_at(PANEL);
            for (half, line) in lines.iter_mut().enumerate() {
                let (low, high) = (&low[half * LANES..][..LANES], &high[half * LANES..][..LANES]);
                for ((word, &low), &high) in line.0.iter_mut().zip(low).zip(high) {
                    *word = bf16_bits(low) | bf16_bits(high) << 16;
                }
            }
        }
        for (line, values) in last.iter_mut().zip(rest.chunks(LANES)) {
            for (word, &x) in line.0.iter_mut().zip(values) {
                *word = bf16_bits(x);
            }
        }
    }
}

/// Joins the values of two inputs into words.
struct Interleave<'a> {
    bits: &'a [u16],
    width: usize,
    columns: usize,
    lines: &'a mut [Line],
}

/// How many inputs ahead to prefetch.
const AHEAD: usize = 16;

impl NullaryFnOnce for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let row = |input: usize| {
            let row = self.bits.get(input * self.width..).unwrap_or_default();
            &row[..self.columns.min(row.len())]
        };
        for (pair, lines) in self.lines.as_chunks_mut::<2>().0.iter_mut().enumerate() {
            prefetch(row(2 * pair + AHEAD));
            prefetch(row(2 * pair + AHEAD + 1));
            let words: &mut [u32] = bytemuck::cast_slice_mut(lines);
            for ((word, &low), &high) in words.iter_mut().zip(row(2 * pair)).zip(row(2 * pair + 1)) {
                *word = u32::from(low) | u32::from(high) << 16;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_are_those_of_rounded_numbers() {
        if !has() {
            return;
        }
        let value = |n: usize| ((n * 7919) % 1000) as f32 / 500.0 - 1.0;
        let rounded = |x: f32| f64::from(bf16::from_f32(x).to_f32());
        for (count, inputs, start) in [(1, 2, 0), (31, 65, 0), (33, 100, 64), (80, 513, 512), (64, 256, 128)] {
            let x: Vec<f32> = (0..count * inputs).map(value).collect();
            let weight: Vec<f32> = (0..inputs * COLUMNS).map(|n| value(n + 3)).collect();
            let left = Left::made(count, inputs, &|row, out| {
                out.copy_from_slice(&x[row * inputs..][..inputs]);
            });
            let mut panel = Panel::default();
            weight[start * COLUMNS..]
                .chunks(64 * COLUMNS)
                .for_each(|some| panel.add(some));
            let mut seen = 0;
            left.times(0..count, start, &mut panel, |row, sums| {
                seen += 1;
                for (column, &got) in sums.iter().enumerate() {
                    let term = |d: usize| rounded(x[row * inputs + d]) * rounded(weight[d * COLUMNS + column]);
                    let exact: f64 = (start..inputs).map(term).sum();
                    let apart = (f64::from(got) - exact).abs();
                    assert!(
                        apart < 1e-4,
                        "{count} x {inputs}: {row}, {column}: {got}, exactly {exact}"
                    );
                }
            });
            assert_eq!(seen, count);
        }
    }

    #[test]
    fn what_is_bf16_already_goes_the_same_way_in_either_order() {
        let value = |input: usize, column: usize| ((input * 7919 + column * 104_729) % 1000) as f32 / 500.0 - 1.0;
        for (inputs, columns, width) in [(2, 32, 70), (6, 32, 40), (64, 31, 66), (34, 1, 34), (256, 17, 300)] {
            // Beside them, numbers that are not used.
            let matrix = |rows: usize, of: &dyn Fn(usize, usize) -> f32| -> Vec<bf16> {
                (0..rows * width)
                    .map(|n| bf16::from_f32(of(n / width, n % width)))
                    .collect()
            };
            let by_input = matrix(inputs, &value);
            let by_column = matrix(columns, &|column, input| value(input, column));
            let mut values = vec![0.0; inputs * COLUMNS];
            for (input, row) in values.chunks_exact_mut(COLUMNS).enumerate() {
                let columns = row[..columns].iter_mut().enumerate();
                columns.for_each(|(column, x)| *x = value(input, column));
            }
            let [mut general, mut one, mut two] = [(); 3].map(|()| Panel::default());
            general.add(&values);
            one.add_inputs(&by_input, width, inputs, columns);
            assert!(two.add_columns(&by_column, width, inputs, columns));
            assert!(one.lines.len() == general.lines.len() && two.lines.len() == general.lines.len());
            for (own, general) in one.lines.iter().chain(&two.lines).zip(general.lines.iter().cycle()) {
                assert_eq!(own.0, general.0, "{inputs} x {columns}");
            }
            assert!(!Panel::default().add_columns(&by_column[1..], width, 2, 1));
        }
    }
}
