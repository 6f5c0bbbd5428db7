//! The tile of integers with AVX2, which multiplies pairs of bytes into sixteen bits; or with AVX-VNNI, which is
//! AVX-512's product of four bytes in registers of half the width.
//!
//! The sums of a block are exact integers; scaled, they are summed in the order of the AVX-512 kernel, so both give
//! the same bits.
#![allow(unsafe_code)] // the processor's instructions, on lines and words that `tile` counts

#[cfg(target_arch = "x86_64")]
mod sums;
#[cfg(target_arch = "x86_64")]
mod x86;

use super::layout::{BLOCK, Kind, Some8};
use super::{LANES, Line};

/// Rows whose sums fit into sixteen registers beside the operands.
pub const ROWS: usize = 4;

pub fn has() -> bool {
    #[cfg(target_arch = "x86_64")]
    return super::avx2::has() && std::arch::is_x86_feature_detected!("f16c");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

/// Computes `tile` (rows, 16) from a panel and some rows of x.
pub fn tile(kind: Kind, lines: &[Line], x: &Some8, tile: &mut [[f32; LANES]]) {
    let form = kind.form();
    let (units, rows) = (lines.len() / form.lines(), tile.len());
    let blocks = units * form.blocks;
    let counts = [
        x.words.len() / (BLOCK / 4),
        x.scales.len(),
        x.sums.len(),
        x.firsts.len(),
    ];
    assert!(
        has() && rows <= ROWS && counts == [blocks * rows; 4],
        "the words do not fit the tile"
    );
    #[cfg(target_arch = "x86_64")]
    {
        let fours = std::arch::is_x86_feature_detected!("avxvnni");
        macro_rules! with_rows {
            ($($kind:ident)*; $counts:tt) => { $(with_rows!(@ $kind $counts);)* };
            (@ $kind:ident [$($count:literal)*]) => {
                match (kind, rows, fours) {
                    $(
                        // SAFETY: the processor has the instructions, and the lines, words, scales and sums of all
                        // units and rows exist, as just checked.
                        (Kind::$kind, $count, false) => unsafe {
                            x86::by_twos::<{ Kind::$kind as usize }, $count>(units, lines, x, tile)
                        },
                        // SAFETY: the same.
                        (Kind::$kind, $count, true) => unsafe {
                            x86::by_fours::<{ Kind::$kind as usize }, $count>(units, lines, x, tile)
                        },
                    )*
                    _ => {}
                }
            };
        }
        with_rows!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K; [1 2 3 4]);
    }
}
