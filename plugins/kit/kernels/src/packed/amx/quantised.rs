//! Products of many rows with quantised weights, whose blocks of 32 inputs have scales of their own.
//!
//! A block's sums are whole numbers, exact in whatever order, and what scales make of them is added up as the kernel for few
//! rows does: both make the same to the last bit, and only time tells which it was. A tile of sums takes sixteen cycles to
//! make, sixteen to store and, at a conversion and two products with scales a row, twenty-four to add: 56 cycles, or 24
//! where the processor does all at once. AVX-512 takes sixteen rows times eight products, a conversion and two scales, 88
//! cycles at best. Unpacking a panel's codes costs what two or three rows do, so few rows are left to the other kernel.
//! Tiles of bf16 would be faster yet for hundreds of rows, but widened codes would no longer be what the blocks say.

use super::bytes::{Bytes, SOME, Unpacked, X};
use super::{BLOCK, LANES, with_corner};
use crate::packed::Line;
use crate::packed::layout::Kind;
use crate::packed::stripe::Stripe;
use std::ops::Range;

/// Makes a stripe of the product. `panel` has the lines of sixteen outputs each.
pub fn fill<'a>(kind: Kind, panel: &dyn Fn(usize) -> &'a [Line], x: X, rows: usize, stripe: &mut Stripe) {
    let whole = rows / BLOCK;
    for (blocks, rows) in [(0..whole, BLOCK), (whole..whole + 1, rows % BLOCK)] {
        if rows > 0 && !blocks.is_empty() {
            fill_blocks(kind, panel, x, blocks, rows, stripe);
        }
    }
}

/// Blocks of as many rows.
fn fill_blocks<'a>(
    kind: Kind,
    panel: &dyn Fn(usize) -> &'a [Line],
    x: X,
    blocks: Range<usize>,
    rows: usize,
    stripe: &mut Stripe,
) {
    let (form, columns) = (kind.form(), stripe.columns());
    let mut tiles = Bytes::new(rows, form);
    let units = panel(0).len() / form.lines();
    let mut unpacked = Unpacked::empty();
    let some = SOME / form.blocks;
    let mut multiply = |first: usize, column: usize| {
        let units = first..units.min(first + some);
        unpacked.fill(
            form,
            &panel(column / LANES)[units.start * form.lines()..units.end * form.lines()],
        );
        for block in blocks.clone() {
            let row = block * BLOCK;
            let x = x.from(row, first * form.blocks);
            with_corner(stripe, (row, rows, column), |y| {
                tiles.multiply(form, x, &unpacked, y, first == 0);
            });
        }
    };
    // Weights that are needed once are read in their order. Else this many inputs of all rows stay in the second cache, while
    // panel after panel is multiplied with them.
    let (firsts, columns) = ((0..units).step_by(some), columns.step_by(LANES));
    match blocks.len() {
        1 => columns.for_each(|column| firsts.clone().for_each(|first| multiply(first, column))),
        _ => firsts.for_each(|first| columns.clone().for_each(|column| multiply(first, column))),
    }
}
