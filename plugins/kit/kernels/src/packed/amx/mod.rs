//! Products of many rows by AMX: tiles of sixteen rows or outputs by thirty-two inputs. Here, those with bf16 weights; what
//! [`quantised`] weights need besides, it says itself.
//!
//! The panels are those of every other kernel: in a step of sixteen groups lie two tiles of weights, each every other line.
//! A block of 32 rows and a panel have four tiles of sums, so a step takes four loads of a tile for four products. A
//! product keeps the processor busy for sixteen cycles, in which its first cache could give two tiles. A block's rows
//! stay there for as many inputs as [`CHUNK`] has, while the panels of a stripe come from the second cache, 32 lines
//! in the 64 cycles of a step, asked for beforehand. Sums are loaded and stored once a chunk, 128 lines of
//! them for 1024 cycles of products.
//!
//! A product here is one order of sums, the instruction's: of 32 inputs the even ones are added up and the odd ones, then
//! both together, then these to what there is. So no sum is further off than 16 + inputs / 32 roundings of the sum of all
//! products' sizes. For up to [`FEW`] rows AVX-512 does the same in the same order, since these wait for memory: a step's
//! weights take it some thirty cycles a row and come in four hundred. So a row does not feel how many others there are,
//! though its last bits differ from those of a processor without tiles, which adds up in another order. (Tiles take what
//! is below 1.2e-38 for zero, and AVX-512 here doesn't.)
//!
//! This was written without such a processor at hand. Tests emulate its instructions where there are none, so that every
//! product is known to be right and no time is known at all. Before a program's first product, small ones are tried.

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

use super::rows::Rows;
use super::stripe::{Corner, Stripe};
use super::{Kernel, LANES, Line, PANEL, Packed};
use candle_core::DType;
use floats::Floats;
use std::ops::Range;
use std::sync::OnceLock;

/// Rows of a tile, and of a block, which has two.
const ROWS: usize = 16;
const BLOCK: usize = 2 * ROWS;
/// Groups of a step, and the lines of a panel that these are.
const GROUPS: usize = 16;
pub const LINES: usize = 2 * GROUPS;
/// Steps of a block that stay in the first cache: 512 inputs, 32 kB.
const CHUNK: usize = 16;
/// Rows that AVX-512 takes as fast as memory brings the weights.
pub const FEW: usize = 4;

/// Whether this processor's tiles may be used, and make the same of numbers as everyone. `bytes_agree` tries a product of
/// quantised weights.
pub fn usable(bytes_agree: fn() -> bool) -> bool {
    static USABLE: OnceLock<bool> = OnceLock::new();
    *USABLE.get_or_init(|| super::avx512::has_f32() && super::vnni::has() && tiles::allowed() && agree(bytes_agree))
}

/// Small products of both kinds, by tiles and without.
fn agree(bytes_agree: fn() -> bool) -> bool {
    // On threads of its own: one that waits for others of its pool works for whoever else is there, and that could be
    // somebody who waits for this very answer.
    let alone = || rayon::ThreadPoolBuilder::new().num_threads(1).build();
    let agree = || floats_agree() && bytes_agree();
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new();
        let tried = thread.spawn_scoped(scope, || alone().is_ok_and(|pool| pool.install(agree)));
        tried.is_ok_and(|tried| tried.join().unwrap_or(false))
    })
}

/// With blocks that aren't full, a step that isn't and a panel that isn't.
fn floats_agree() -> bool {
    let (rows, inputs, outputs) = (2 * BLOCK + ROWS + 3, 69, PANEL + 7);
    // Whole numbers of up to four bits: their sums are exact in whatever order.
    let number = |place: usize| (place * place % 31) as f32 - 15.0;
    let x: Vec<f32> = (0..rows * inputs).map(number).collect();
    let weight = Packed::from_rows(DType::BF16, (outputs, inputs), &|some| {
        let places = some.start * inputs..some.end * inputs;
        Ok::<_, candle_core::Error>(places.map(|place| number(place + 3)).collect())
    });
    weight.is_ok_and(|weight| weight.product_by(Kernel::Amx, &x) == weight.product_by(Kernel::Portable, &x))
}

/// Makes a stripe of the product.
pub fn fill(weight: &Packed, x: &Rows, stripe: &mut Stripe) {
    let whole = x.count() / BLOCK;
    for (blocks, rows) in [(0..whole, BLOCK), (whole..whole + 1, x.count() % BLOCK)] {
        if rows > 0 && !blocks.is_empty() {
            let blocks = Blocks {
                x,
                blocks,
                tiles: Floats::new(rows),
                rows,
            };
            blocks.fill(weight, stripe);
        }
    }
}

/// Gives each of some rows, and its products with a panel that is used for nothing else, to `take`. The panel has whole steps;
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

/// Blocks of as many rows.
struct Blocks<'a> {
    x: &'a Rows,
    blocks: Range<usize>,
    rows: usize,
    tiles: Floats,
}

impl Blocks<'_> {
    fn fill(&self, weight: &Packed, stripe: &mut Stripe) {
        let steps = weight.groups() / GROUPS;
        // Weights that are needed once are read in their order.
        let chunk = if self.blocks.len() == 1 { steps.max(1) } else { CHUNK };
        for first in (0..steps).step_by(chunk) {
            let some = first * LINES..steps.min(first + chunk) * LINES;
            for block in self.blocks.clone() {
                for column in stripe.columns().step_by(PANEL) {
                    let panel = &weight.panel(column / PANEL)[some.clone()];
                    self.multiply(block, first, panel, column, stripe);
                }
            }
        }
        // A step that isn't full: behind its weights lie another panel's.
        let rest = steps * LINES..weight.groups() * 2;
        if !rest.is_empty() {
            for column in stripe.columns().step_by(PANEL) {
                let mut panel = [Line([0; LANES]); LINES];
                panel[..rest.len()].copy_from_slice(&weight.panel(column / PANEL)[rest.clone()]);
                for block in self.blocks.clone() {
                    self.multiply(block, steps, &panel, column, stripe);
                }
            }
        }
    }

    /// Adds the product of a block and a panel, from a step on, to what is there; the first step begins it.
    fn multiply(&self, block: usize, step: usize, panel: &[Line], column: usize, stripe: &mut Stripe) {
        let (row, rows) = (block * BLOCK, self.rows);
        let x = self.x.some(row, rows, step * GROUPS);
        with_corner(stripe, (row, rows, column), |y| {
            self.tiles.multiply(x, panel, y, step == 0);
        });
    }
}

/// Lends some rows of a panel's columns; where outputs don't fill a panel, a copy of them: tiles would write beyond.
fn with_corner<const WIDTH: usize>(
    stripe: &mut Stripe,
    (row, rows, column): (usize, usize, usize),
    work: impl FnOnce(Corner<WIDTH>),
) {
    if column + WIDTH <= stripe.columns().end {
        return work(stripe.corner(row, rows, column));
    }
    let mut whole = [[0f32; WIDTH]; BLOCK];
    let whole = &mut whole[..rows];
    for (below, whole) in whole.iter_mut().enumerate() {
        let values = stripe.values(row + below, column, WIDTH);
        whole[..values.len()].copy_from_slice(values);
    }
    work(Corner::of(whole));
    for (below, whole) in whole.iter().enumerate() {
        let values = stripe.values(row + below, column, WIDTH);
        values.copy_from_slice(&whole[..values.len()]);
    }
}
