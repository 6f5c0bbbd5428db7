//! Products of many rows by AMX: tiles of sixteen rows or outputs by thirty-two inputs. This file has those with bf16
//! weights; [`quantised`] describes what else quantised weights need.
//!
//! The panels are those of every other kernel: a step of sixteen groups holds two tiles of weights in alternating
//! lines. A block of 32 rows and a panel have four tiles of sums, so a step takes four loads of a tile for four
//! products. A product takes sixteen cycles, in which the first-level cache could deliver two tiles. A block's rows
//! stay in that cache for the inputs of a [`CHUNK`], while the panels of an output block come from the second-level
//! cache, prefetched at 32 lines in the 64 cycles of a step. Sums are loaded and stored once a chunk, 128 lines of them
//! for 1024 cycles of products.
//!
//! The order of sums is the instruction's: of 32 inputs the even ones are summed and the odd ones, then both sums are
//! added, then the result is added to the total. So the error of a sum is at most 16 + inputs / 32 roundings of the
//! sum of the products' magnitudes. For up to [`FEW`] rows AVX-512 computes the same in the same order, since few rows
//! wait for memory: a step's weights take some thirty cycles a row to compute and four hundred to load. So a row does
//! not depend on the number of other rows, though its last bits differ from those of a processor without tiles, which
//! sums in another order. (Tiles treat magnitudes below 1.2e-38 as zero; AVX-512 here does not.)
//!
//! This was written without access to such a processor. Tests emulate its instructions, so results are checked, but
//! speed was never measured. Before the first product, a program compares small ones with AVX-512.

mod bytes;
mod few;
mod floats;
mod quantised;
mod tiles;

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod emulator;
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
pub mod tests;

pub use bytes::X;
pub use few::tile as few_rows;
pub use quantised::fill as fill_quantised;

use super::output_block::{Corner, OutputBlock};
use super::rows::Rows;
use super::{Kernel, LANES, Line, PANEL, Packed};
use candle_core::DType;
use floats::Floats;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a tile; a block has two tiles of rows.
const ROWS: usize = 16;
const BLOCK: usize = 2 * ROWS;
/// Groups of a step, and its lines in a panel.
const GROUPS: usize = 16;
pub const LINES: usize = 2 * GROUPS;
/// Steps of a block that stay in the first-level cache: 512 inputs, 32 kB.
const CHUNK: usize = 16;
/// Rows that AVX-512 computes as fast as memory delivers the weights.
pub const FEW: usize = 4;

/// Whether this processor's tiles may be used and agree with AVX-512. `bytes_agree` tries a product of quantised
/// weights.
pub fn usable(bytes_agree: fn() -> bool) -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| super::avx512::has_f32() && super::vnni::has() && tiles::allowed() && agree(bytes_agree))
}

/// Small products of both kinds, with tiles and without.
fn agree(bytes_agree: fn() -> bool) -> bool {
    // On separate threads: a thread that waits in its pool may run other tasks of the pool, and one of these could
    // wait for this very answer.
    let alone = || rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let agree = || floats_agree() && bytes_agree();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new();
        let tried = thread.spawn_scoped(scope, || alone().is_ok_and(|pool| pool.install(agree)));
        tried.is_ok_and(|tried| tried.join().unwrap_or(false))
    })
}

/// With blocks, a step and a panel that are not full.
fn floats_agree() -> bool {
    let (rows, inputs, outputs) = (2 * BLOCK + ROWS + 3, 69, PANEL + 7);
    // Small integers: their sums are exact in any order.
    let number = |place: usize| (place * place % 31) as f32 - 15.0;
    let x: Vec<f32> = (0..rows * inputs).map(number).collect();
    let weight = Packed::from_rows(DType::BF16, (outputs, inputs), &|some| {
        let places = some.start * inputs..some.end * inputs;
        Ok::<_, candle_core::Error>(places.map(|place| number(place + 3)).collect())
    });
    weight.is_ok_and(|weight| weight.product_by(Kernel::Amx, &x) == weight.product_by(Kernel::Portable, &x))
}

/// Computes an output block of the product.
pub fn fill(weight: &Packed, x: &Rows, output_block: &mut OutputBlock) {
    let whole = x.count() / BLOCK;
    for (blocks, rows) in [(0..whole, BLOCK), (whole..whole + 1, x.count() % BLOCK)] {
        if rows > 0 && !blocks.is_empty() {
            let blocks = Blocks {
                x,
                blocks,
                tiles: Floats::new(rows),
                rows,
            };
            blocks.fill(weight, output_block);
        }
    }
}

/// For each of some rows, passes the product with a panel that is used only once to `take`. The panel has whole steps;
/// `group` is where its inputs begin in the rows.
pub fn passing(x: &Rows, rows: Range<usize>, group: usize, panel: &[Line], mut take: impl FnMut(usize, &[f32; PANEL])) {
    let whole = rows.len() / BLOCK * BLOCK;
    for (some, block) in [
        (rows.start..rows.start + whole, BLOCK),
        (rows.start + whole..rows.end, rows.len() % BLOCK),
    ] {
        if some.is_empty() || panel.is_empty() {
            continue;
        }
        let tiles = Floats::new(block);
        let mut sums = [[0f32; PANEL]; BLOCK];
        for row in some.step_by(block) {
            tiles.multiply(x.some(row, block, group), panel, Corner::of(&mut sums[..block]), true);
            for (below, sums) in sums[..block].iter().enumerate() {
                take(row + below, sums);
            }
        }
    }
}

/// The output block's blocks of rows.
struct Blocks<'a> {
    x: &'a Rows,
    blocks: Range<usize>,
    rows: usize,
    tiles: Floats,
}

impl Blocks<'_> {
    fn fill(&self, weight: &Packed, output_block: &mut OutputBlock) {
        let steps = weight.groups() / GROUPS;
        // Weights that are used once are read in order.
        let chunk = if self.blocks.len() == 1 { steps.max(1) } else { CHUNK };
        for first in (0..steps).step_by(chunk) {
            let some = first * LINES..steps.min(first + chunk) * LINES;
            for block in self.blocks.clone() {
                for column in output_block.columns().step_by(PANEL) {
                    let panel = &weight.panel(column / PANEL)[some.clone()];
                    self.multiply(block, first, panel, column, output_block);
                }
            }
        }
        // In a step that is not full, the lines after its weights belong to another panel.
        let rest = steps * LINES..weight.groups() * 2;
        if !rest.is_empty() {
            for column in output_block.columns().step_by(PANEL) {
                let mut panel = [Line([0; LANES]); LINES];
                panel[..rest.len()].copy_from_slice(&weight.panel(column / PANEL)[rest.clone()]);
                for block in self.blocks.clone() {
                    self.multiply(block, steps, &panel, column, output_block);
                }
            }
        }
    }

    /// Adds the product of a block and a panel, from a step on, to the sums; the first step overwrites them.
    fn multiply(&self, block: usize, step: usize, panel: &[Line], column: usize, output_block: &mut OutputBlock) {
        let (row, rows) = (block * BLOCK, self.rows);
        let x = self.x.some(row, rows, step * GROUPS);
        with_corner(output_block, (row, rows, column), |y| {
            self.tiles.multiply(x, panel, y, step == 0);
        });
    }
}

/// Passes some rows of a panel's columns to `take`; if the outputs do not fill the panel, a copy, since tiles would
/// write past the end.
fn with_corner<const WIDTH: usize>(
    output_block: &mut OutputBlock,
    (row, rows, column): (usize, usize, usize),
    work: impl FnOnce(Corner<WIDTH>),
) {
    if column + WIDTH <= output_block.columns().end {
        return work(output_block.corner(row, rows, column));
    }
    let mut whole = [[0f32; WIDTH]; BLOCK];
    let whole = &mut whole[..rows];
    for (below, whole) in whole.iter_mut().enumerate() {
        let values = output_block.values(row + below, column, WIDTH);
        whole[..values.len()].copy_from_slice(values);
    }
    work(Corner::of(whole));
    for (below, whole) in whole.iter().enumerate() {
        let values = output_block.values(row + below, column, WIDTH);
        values.copy_from_slice(&whole[..values.len()]);
    }
}
