//! Matrix products with operands of any type.
//!
//! A product reads its operands once and packs them into panels for the innermost loop. So weights in 16 or 4 bits are
//! widened a panel at a time into the first-level cache, and used there for all rows. The order of sums depends only
//! on the shapes, never on the number of threads or their timing.

mod kernel;
mod operand;
mod scratch;
pub(crate) mod vector;

pub(crate) use kernel::{Shape, Tile};
use kernels::memory::prefetch;
use kernels::packed::passing;
pub(crate) use operand::{ByDepth, ByLane, Operand, Rounded, turn};
use rayon::prelude::*;
pub(crate) use scratch::Scratch;
use std::cell::RefCell;
use std::ops::Range;
use vector::vectorised;

/// Terms that are summed in registers before a value is written.
pub(crate) const DEPTH: usize = 256;
/// The same for AMX tiles; the panel of these terms fits into the second-level cache.
const TILES_DEPTH: usize = 1024;
/// Panels of rows that are packed at a time.
const TOGETHER: usize = 8;
/// Rows, a multiple of any tile's height, of which a block of depth stays in the second-level cache beside the
/// columns.
const NEAR: usize = 96;
/// Columns of a task.
const COLUMNS: usize = 128;
/// How many rows ahead to prefetch, for reading or writing.
const AHEAD: usize = 12;
/// The fewest rows of a task, if there are too few columns to keep all threads busy.
const ROWS: usize = 96;

/// The left operand, packed once for several products.
pub(crate) struct Left {
    values: Values,
    rows: usize,
    depth: usize,
    shape: Shape,
}

enum Values {
    /// Panels of rows, one block of depth after another.
    Floats(Scratch),
    /// Rounded rows, if the processor has AMX tiles.
    Rounded(passing::Left),
}

impl Left {
    /// `operand` has a lane for each row.
    pub fn pack(operand: &dyn Operand, rows: usize, depth: usize) -> Left {
        let shape = Shape::here();
        if let (Some(operand), true, true) = (operand.unrounded(), depth > 0, passing::has()) {
            let lanes = operand.lanes(rows, depth);
            let make = |row: usize, out: &mut [f32]| out.copy_from_slice(&lanes[row * depth..][..depth]);
            return Left {
                values: Values::Rounded(passing::Left::made(rows, depth, &make)),
                rows,
                depth,
                shape,
            };
        }
        let padded = rows.next_multiple_of(shape.rows);
        let mut values = Scratch::new(padded * depth);
        let panels = padded / shape.rows;
        // Block of depth after block of depth, in each all panels of rows, some at a time.
        let parts: Vec<(usize, usize, &mut [f32])> = {
            let mut rest = &mut values[..];
            let mut parts = Vec::with_capacity(panels.div_ceil(TOGETHER) * depth.div_ceil(DEPTH));
            for start in (0..depth).step_by(DEPTH) {
                let deep = DEPTH.min(depth - start);
                for panel in (0..panels).step_by(TOGETHER) {
                    let count = TOGETHER.min(panels - panel);
                    let (part, others) = rest.split_at_mut(count * shape.rows * deep);
                    parts.push((start, panel * shape.rows, part));
                    rest = others;
                }
            }
            parts
        };
        parts.into_par_iter().for_each(|(start, row, part)| {
            let deep = DEPTH.min(depth - start);
            let some = row..rows.min(row + part.len() / deep);
            operand.pack_panels(some, start..start + deep, shape.rows, part);
        });
        Left {
            values: Values::Floats(values),
            rows,
            depth,
            shape,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The packed panels of some rows for a block of depth.
    fn panels<'v>(&self, values: &'v [f32], start: usize, first: usize, count: usize) -> &'v [f32] {
        let deep = DEPTH.min(self.depth - start);
        let padded = self.rows.next_multiple_of(self.shape.rows);
        let begin = padded * start + first * deep;
        &values[begin..][..count.next_multiple_of(self.shape.rows) * deep]
    }
}

/// Whether a product overwrites the destination or is added to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    Set,
    Add,
}

/// The buffers of a task.
#[derive(Default)]
struct Space {
    /// Panels of the right side.
    panels: Vec<f32>,
    /// The sums of the task, contiguous unlike in y.
    sums: Vec<f32>,
}

thread_local! {
    static SPACE: RefCell<Space> = RefCell::default();
}

/// `y = scale * left * right`, or adds it: y is (rows, columns), and `right` has a lane for each column.
pub(crate) fn product(y: &mut [f32], left: &Left, right: &dyn Operand, columns: usize, scale: f32, into: Into) {
    let (rows, depth, shape) = (left.rows, left.depth, left.shape);
    debug_assert_eq!(y.len(), rows * columns);
    if rows == 0 || columns == 0 {
        return;
    }
    if depth == 0 {
        if into == Into::Set {
            y.fill(0.0);
        }
        return;
    }
    let wide = COLUMNS.next_multiple_of(shape.columns);
    let across = columns.div_ceil(wide);
    let threads = rayon::current_num_threads();
    let tall = match across >= 3 * threads {
        true => rows,
        false => {
            let parts = (3 * threads).div_ceil(across);
            rows.div_ceil(parts).max(ROWS)
        }
    }
    .next_multiple_of(shape.rows);
    let mut tasks: Vec<Task> = Vec::with_capacity(across * rows.div_ceil(tall));
    for (number, rows) in y.chunks_mut(tall * columns).enumerate() {
        let count = rows.len() / columns;
        let first = tasks.len();
        tasks.extend((0..across).map(|block| Task {
            row: number * tall,
            column: block * wide,
            y: Vec::with_capacity(count),
        }));
        for row in rows.chunks_exact_mut(columns) {
            for (part, task) in row.chunks_mut(wide).zip(&mut tasks[first..]) {
                task.y.push(part);
            }
        }
    }
    tasks.into_par_iter().with_max_len(1).for_each(|mut task| {
        SPACE.with_borrow_mut(|space| task.run(left, right, space, scale, into));
    });
}

/// Some rows and columns of a product.
struct Task<'y> {
    row: usize,
    column: usize,
    y: Vec<&'y mut [f32]>,
}

impl Task<'_> {
    fn run(&mut self, left: &Left, right: &dyn Operand, space: &mut Space, scale: f32, into: Into) {
        let values = match &left.values {
            Values::Floats(values) => values,
            Values::Rounded(rows) => {
                // AMX tiles round their operands themselves.
                let right = right.unrounded().unwrap_or(right);
                return self.by_tiles(rows, left.depth, right, space, scale, into);
            }
        };
        let shape = left.shape;
        let columns = self.y.first().map_or(0, |row| row.len());
        let padded = self.y.len().next_multiple_of(shape.rows);
        let wide = COLUMNS.next_multiple_of(shape.columns);
        space.sums.resize(padded * wide, 0.0);
        space.panels.resize(DEPTH * wide, 0.0);
        for block in (0..columns).step_by(wide) {
            let block = block..columns.min(block + wide);
            // The last panel may be narrower.
            let rest = block.len() % shape.columns;
            let narrow = Some(shape.width(rest)).filter(|&width| rest > 0 && width < shape.columns);
            let whole = block.len() - narrow.map_or(0, |_| rest);
            let widths = [shape.columns].repeat(whole.div_ceil(shape.columns));
            let widths: Vec<usize> = widths.into_iter().chain(narrow).collect();
            for start in (0..left.depth).step_by(DEPTH) {
                let deep = DEPTH.min(left.depth - start);
                let (depth, first) = (start..start + deep, self.column + block.start);
                let (packed, last) = space.panels.split_at_mut(whole.next_multiple_of(shape.columns) * deep);
                right.pack_panels(first..first + whole, depth.clone(), shape.columns, packed);
                if let Some(width) = narrow {
                    right.pack(
                        first + whole..first + block.len(),
                        depth,
                        width,
                        &mut last[..width * deep],
                    );
                }
                // Some rows at a time, which stay in the second-level cache for all panels.
                for some in (0..padded).step_by(NEAR) {
                    let some = some..padded.min(some + NEAR);
                    let (mut panels, mut sums) = (&space.panels[..], &mut space.sums[..]);
                    for &width in &widths {
                        let (panel, panels_behind) = panels.split_at(width * deep);
                        let (of_panel, sums_behind) = sums.split_at_mut(padded * width);
                        Tile {
                            rows: left.panels(values, start, self.row + some.start, some.len()),
                            panel,
                            width,
                            deep,
                            terms: 0..deep,
                            add: start > 0,
                            sums: &mut of_panel[some.start * width..some.end * width],
                        }
                        .run(shape);
                        (panels, sums) = (panels_behind, sums_behind);
                    }
                    if start + deep == left.depth {
                        // While these sums are near.
                        let mut parts = Vec::with_capacity(widths.len());
                        let mut sums = &space.sums[..];
                        for &width in &widths {
                            let (of_panel, behind) = sums.split_at(padded * width);
                            parts.push((of_panel, width));
                            sums = behind;
                        }
                        self.write(&parts, some, block.clone(), scale, into);
                    }
                }
            }
        }
    }

    /// The same for rows that are already rounded.
    fn by_tiles(
        &mut self,
        left: &passing::Left,
        depth: usize,
        right: &dyn Operand,
        space: &mut Space,
        scale: f32,
        into: Into,
    ) {
        let columns = self.y.first().map_or(0, |row| row.len());
        let mut panel = passing::Panel::default();
        space.panels.resize(DEPTH * passing::COLUMNS, 0.0);
        space.sums.resize(self.y.len() * passing::COLUMNS, 0.0);
        for column in (0..columns).step_by(passing::COLUMNS) {
            let some = column..columns.min(column + passing::COLUMNS);
            let lanes = self.column + some.start..self.column + some.end;
            for start in (0..depth).step_by(TILES_DEPTH) {
                let end = depth.min(start + TILES_DEPTH);
                panel.clear();
                for some in (start..end).step_by(DEPTH) {
                    let some = some..end.min(some + DEPTH);
                    if right.add_stored(lanes.clone(), some.clone(), &mut panel) {
                        continue;
                    }
                    let values = &mut space.panels[..some.len() * passing::COLUMNS];
                    right.pack(lanes.clone(), some, passing::COLUMNS, values);
                    panel.add(values);
                }
                let (all, _) = space.sums.as_chunks_mut::<{ passing::COLUMNS }>();
                left.times(self.row..self.row + self.y.len(), start, &mut panel, |row, sums| {
                    let all = &mut all[row - self.row];
                    match start {
                        0 => *all = *sums,
                        _ => all.iter_mut().zip(sums).for_each(|(all, sum)| *all += sum),
                    }
                });
            }
            self.write(&[(&space.sums, passing::COLUMNS)], 0..self.y.len(), some, scale, into);
        }
    }

    /// Writes panels of sums, each (rows, width), to some rows and columns of y, or adds them.
    fn write(&mut self, panels: &[(&[f32], usize)], rows: Range<usize>, columns: Range<usize>, scale: f32, into: Into) {
        vectorised(
            #[inline(always)]
            || {
                for row in rows.start..rows.end.min(self.y.len()) {
                    // Rows are too far apart for the hardware prefetcher.
                    if let Some(later) = self.y.get(row + AHEAD) {
                        prefetch(&later[columns.clone()]);
                    }
                    let mut y = &mut self.y[row][columns.clone()];
                    for &(sums, width) in panels {
                        let (part, behind) = y.split_at_mut(width.min(y.len()));
                        let sums = &sums[row * width..][..width];
                        match into {
                            Into::Add => by_eights(
                                part,
                                sums,
                                #[inline(always)]
                                |y, sum| scale.mul_add(sum, y),
                            ),
                            Into::Set => by_eights(
                                part,
                                sums,
                                #[inline(always)]
                                |_, sum| scale * sum,
                            ),
                        }
                        y = behind;
                    }
                }
            },
        );
    }
}

/// Applies `of` to both values at each place of y. Rows are short, and compilers optimise loops for long ones.
#[inline(always)]
fn by_eights(y: &mut [f32], x: &[f32], of: impl Fn(f32, f32) -> f32) {
    let (y, y_rest) = y.as_chunks_mut::<8>();
    let (x, x_rest) = x.as_chunks::<8>();
    for (y, x) in y.iter_mut().zip(x) {
        *y = std::array::from_fn(
            #[inline(always)]
            |n| of(y[n], x[n]),
        );
    }
    // A row that is shorter than its panel ends inside one of the panel's groups of eight.
    let x_rest = x.get(y.len()).map_or(x_rest, |x| &x[..]);
    for (y, &x) in y_rest.iter_mut().zip(x_rest) {
        *y = of(*y, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(count: usize, seed: usize) -> Vec<f32> {
        let value = |n: usize| ((n * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0;
        (0..count).map(value).collect()
    }

    #[track_caller]
    fn check(rows: usize, columns: usize, depth: usize) {
        let (a, b) = (values(rows * depth, 1), values(columns * depth, 2));
        let before = values(rows * columns, 3);
        let exact = |row: usize, column: usize| {
            let terms = (0..depth).map(|d| f64::from(a[row * depth + d]) * f64::from(b[column * depth + d]));
            terms.sum::<f64>()
        };
        let left = Left::pack(&ByLane::new(&a, depth), rows, depth);
        // The same operands in the other memory order.
        let turned = |x: &[f32], lanes: usize| -> Vec<f32> {
            (0..depth * lanes).map(|n| x[(n % lanes) * depth + n / lanes]).collect()
        };
        let (ta, tb) = (turned(&a, rows), turned(&b, columns));
        let turned_left = Left::pack(&ByDepth::new(&ta, rows), rows, depth);
        let mut y = before.clone();
        product(&mut y, &left, &ByLane::new(&b, depth), columns, 0.5, Into::Add);
        let mut z = vec![f32::NAN; rows * columns];
        product(
            &mut z,
            &turned_left,
            &ByDepth::new(&tb, columns),
            columns,
            1.0,
            Into::Set,
        );
        for row in 0..rows {
            for column in 0..columns {
                let (at, exact) = (row * columns + column, exact(row, column));
                let added = f64::from(before[at]) + 0.5 * exact;
                for (got, expected) in [(y[at], added), (z[at], exact)] {
                    // Each addition rounds to one part in 1.7e7 of a sum that grows up to the expected one.
                    let bound = 1e-6 * ((depth as f64).sqrt() + expected.abs()) + 1e-5;
                    let apart = (f64::from(got) - expected).abs();
                    assert!(
                        apart < bound,
                        "{rows} x {columns} x {depth}: {got} is {apart:e} from {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn products_are_right_whatever_their_shape() {
        for (rows, columns, depth) in [
            (1, 1, 1),
            (6, 16, 8),
            (7, 17, 300),
            (100, 260, 70),
            (320, 129, 513),
            (3, 1000, 5),
            (400, 4, 33),
        ] {
            check(rows, columns, depth);
        }
    }

    #[test]
    fn a_product_over_nothing_is_zero() {
        let left = Left::pack(&ByLane::new(&[], 0), 2, 0);
        let mut y = vec![1.0; 6];
        product(&mut y, &left, &ByLane::new(&[], 0), 3, 1.0, Into::Add);
        assert_eq!(y, [1.0; 6]);
        product(&mut y, &left, &ByLane::new(&[], 0), 3, 1.0, Into::Set);
        assert_eq!(y, [0.0; 6]);
    }
}
