//! Products of many rows with quantised weights, whose blocks of 32 inputs have scales of their own.
//!
//! A block's sums are integers, exact in any order; scaled, they are summed as in the kernel for few rows, so both
//! give the same bits and differ in time only. A tile of sums takes sixteen cycles to compute, sixteen to store and,
//! with a conversion and two scalings a row, twenty-four to add: 56 cycles, or 24 if they overlap. AVX-512 takes 88
//! cycles at best for sixteen rows of eight products, a conversion and two scalings. Unpacking a panel's codes costs
//! as much as two or three rows, so few rows use the other kernel. Tiles of bf16 would be even faster for hundreds of
//! rows, but rounding to bf16 would change the values.

use super::bytes::{Bytes, SOME, Unpacked, X};
use super::{BLOCK, LANES, with_corner};
use crate::packed::Line;
use crate::packed::layout::Kind;
use crate::packed::output_block::OutputBlock;
use std::ops::Range;

/// Computes an output block of the product. `panel` has the lines of sixteen outputs each.
pub fn fill<'a>(kind: Kind, panel: &dyn Fn(usize) -> &'a [Line], x: X, rows: usize, output_block: &mut OutputBlock) {
    let whole = rows / BLOCK;
    for (blocks, rows) in [(0..whole, BLOCK), (whole..whole + 1, rows % BLOCK)] {
        if rows > 0 && !blocks.is_empty() {
            fill_blocks(kind, panel, x, blocks, rows, output_block);
        }
    }
}

/// The output block's blocks of rows.
fn fill_blocks<'a>(
    kind: Kind,
    panel: &dyn Fn(usize) -> &'a [Line],
    x: X,
    blocks: Range<usize>,
    rows: usize,
    output_block: &mut OutputBlock,
) {
    let (form, columns) = (kind.form(), output_block.columns());
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
            with_corner(output_block, (row, rows, column), |y| {
                tiles.multiply(form, x, &unpacked, y, first == 0);
            });
        }
    };
    // Weights that are used once are read in order. Otherwise this many inputs of all rows stay in the second-level
    // cache while panel after panel is multiplied with them.
    let (firsts, columns) = ((0..units).step_by(some), columns.step_by(LANES));
    match blocks.len() {
        1 => columns.for_each(|column| firsts.clone().for_each(|first| multiply(first, column))),
        _ => firsts.for_each(|first| columns.clone().for_each(|column| multiply(first, column))),
    }
}
