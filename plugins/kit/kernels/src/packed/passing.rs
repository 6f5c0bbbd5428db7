//! Products of bf16 by tiles, of weights that are packed while they are read and then forgotten, as training's are.

use super::rounding::bf16_bits;
use super::rows::Rows;
use super::{Kernel, Kind, LANES, Line, MakeRow, PANEL, amx};
use pulp::Arch;
use std::ops::Range;

/// The widest registers that loops over fp32 use here.
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

/// Whether this processor has such tiles, and may use them.
pub fn has() -> bool {
    Kernel::best(Kind::Bf16) == Kernel::Amx
}

/// The left side: rows, rounded to bf16.
pub struct Left(Rows);

impl Left {
    /// Rows that `make` is asked for one by one, by their numbers.
    pub fn made(count: usize, inputs: usize, make: &MakeRow) -> Left {
        Left(Rows::made(Kind::Bf16, count, inputs, make))
    }

    /// Gives each of some rows, and its products with the panel's columns, to `take`: of the inputs from `start` on, which
    /// is even, and as many as the panel has.
    pub fn times(&self, rows: Range<usize>, start: usize, panel: &mut Panel, take: impl FnMut(usize, &[f32; COLUMNS])) {
        assert!(
            start.is_multiple_of(2) && rows.end <= self.0.count(),
            "rows or inputs that aren't there"
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

    /// Adds values (inputs, [`COLUMNS`]), an even number of inputs but for the last ones.
    pub fn add(&mut self, values: &[f32]) {
        let before = self.lines.len();
        self.lines
            .resize(before + 2 * values.len().div_ceil(2 * PANEL), Line([0; LANES]));
        let lines = &mut self.lines[before..];
        Arch::new().dispatch(|| {
            let (pairs, rest) = values.as_chunks::<{ 2 * PANEL }>();
            let (lines, last) = lines.split_at_mut(2 * pairs.len());
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
                line.0
                    .iter_mut()
                    .zip(values)
                    .for_each(|(word, &x)| *word = bf16_bits(x));
            }
        });
    }

    /// Zeros up to a whole step of tiles.
    fn fill_step(&mut self) {
        let whole = self.lines.len().next_multiple_of(amx::LINES);
        self.lines.resize(whole, Line([0; LANES]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

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
}
