//! The tile without a word about the processor: loops that compilers turn into whatever registers there are.

use super::{Kind, LANES, Line, PANEL};
use pulp::{Arch, NullaryFnOnce};

/// Rows that sixteen registers of eight numbers hold beside what they are multiplied by.
pub const ROWS: usize = 4;

/// Adds to `tile` (rows, 32) what some groups of a panel and of x make.
pub fn tile(kind: Kind, words: &[u32], lines: &[Line], tile: &mut [[f32; PANEL]]) {
    let arch = Arch::new();
    match tile.len() {
        1 => arch.dispatch(Tile::<1> {
            kind,
            words,
            lines,
            tile,
        }),
        2 => arch.dispatch(Tile::<2> {
            kind,
            words,
            lines,
            tile,
        }),
        3 => arch.dispatch(Tile::<3> {
            kind,
            words,
            lines,
            tile,
        }),
        _ => arch.dispatch(Tile::<ROWS> {
            kind,
            words,
            lines,
            tile,
        }),
    }
}

/// A struct and not a closure, since only what is inlined into the dispatching function is compiled for the registers
/// that were found.
struct Tile<'a, const COUNT: usize> {
    kind: Kind,
    words: &'a [u32],
    lines: &'a [Line],
    tile: &'a mut [[f32; PANEL]],
}

impl<const COUNT: usize> NullaryFnOnce for Tile<'_, COUNT> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for half in 0..2 {
            let mut sums = [[0f32; LANES]; COUNT];
            let (words, _) = self.words.as_chunks::<COUNT>();
            for (words, lines) in words.iter().zip(self.lines.chunks_exact(2)) {
                let line = &lines[half].0;
                match self.kind {
                    Kind::F32 => {
                        for (sums, word) in sums.iter_mut().zip(words) {
                            let x = f32::from_bits(*word);
                            for lane in 0..LANES {
                                sums[lane] += f32::from_bits(line[lane]) * x;
                            }
                        }
                    }
                    Kind::Bf16 => {
                        for (sums, word) in sums.iter_mut().zip(words) {
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
