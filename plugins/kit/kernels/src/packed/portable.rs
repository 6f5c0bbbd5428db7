//! The tile without processor-specific code: loops that compilers vectorise.

use super::rows::{SomeRows, Words};
use super::{LANES, Line, PANEL};
use pulp::{Arch, NullaryFnOnce};

/// Rows whose sums fit into sixteen registers of eight numbers, beside the operands.
pub const ROWS: usize = 4;

/// Computes `tile` (rows, 32) from some groups of a panel and as many words of x.
pub fn tile(x: SomeRows, lines: &[Line], tile: &mut [[f32; PANEL]]) {
    let arch = Arch::new();
    match tile.len() {
        1 => arch.dispatch(Tile::<1> { x, lines, tile }),
        2 => arch.dispatch(Tile::<2> { x, lines, tile }),
        3 => arch.dispatch(Tile::<3> { x, lines, tile }),
        _ => arch.dispatch(Tile::<ROWS> { x, lines, tile }),
    }
}

/// A struct and not a closure, since only code that is inlined into the dispatching function is compiled for the wider
/// registers.
struct Tile<'a, const COUNT: usize> {
    x: SomeRows<'a>,
    lines: &'a [Line],
    tile: &'a mut [[f32; PANEL]],
}

impl<const COUNT: usize> NullaryFnOnce for Tile<'_, COUNT> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let groups = self.lines.len() / 2;
        for half in 0..2 {
            let mut sums = [[0f32; LANES]; COUNT];
            match self.x.words {
                Words::F32(words) => {
                    let rows: [&[f32]; COUNT] = std::array::from_fn(|row| &words[row * self.x.stride..][..groups]);
                    for group in 0..groups {
                        let line = &self.lines[2 * group + half].0;
                        for (sums, row) in sums.iter_mut().zip(rows) {
                            let x = row[group];
                            for lane in 0..LANES {
                                sums[lane] += f32::from_bits(line[lane]) * x;
                            }
                        }
                    }
                }
                Words::Bf16(words) => {
                    let rows: [&[u32]; COUNT] = std::array::from_fn(|row| &words[row * self.x.stride..][..groups]);
                    for group in 0..groups {
                        let line = &self.lines[2 * group + half].0;
                        for (sums, row) in sums.iter_mut().zip(rows) {
                            let word = row[group];
                            let (low, high) = (f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000));
                            for lane in 0..LANES {
                                sums[lane] += f32::from_bits(line[lane] << 16) * low;
                                sums[lane] += f32::from_bits(line[lane] & 0xffff_0000) * high;
                            }
                        }
                    }
                }
            }
            for (tile, sums) in self.tile.iter_mut().zip(sums) {
                tile[half * LANES..][..LANES].copy_from_slice(&sums);
            }
        }
    }
}
