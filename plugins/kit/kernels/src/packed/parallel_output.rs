//! Matrices that many threads write at once: each thread has its own rows, its own output block of columns, or some
//! rows of an output block.
//!
//! Rows are stored one after the other, so an output block is not a slice, and the standard iterators cannot hand it
//! out. Nor can they leave the clearing of memory to the threads that fill it: clearing a long prompt's matrices on one
//! core takes a tenth of the time of their product.
#![allow(unsafe_code)] // memory that is cleared before it is read; columns that no other thread has

use super::output_block::{Field, Finish, OutputBlock};
use rayon::prelude::*;
use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicUsize, Ordering};

/// About how many values a task fills.
const TASK: usize = 1 << 14;

/// Values that are zero if all their bits are.
pub trait Zero: Copy + Send {}
impl Zero for f32 {}
impl Zero for u32 {}
impl Zero for i32 {}

/// Rows of this many values, in parallel. `work` gets a row's number and the row, which is zero.
pub fn by_rows<T: Zero>(rows: usize, size: usize, work: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    by_parts(rows, size, (TASK / size.max(1)).max(1), |first, part| {
        part.chunks_exact_mut(size)
            .enumerate()
            .for_each(|(row, values)| work(first + row, values));
    })
}

/// The same, `together` rows at a time. `work` gets the number of the first one.
pub fn by_parts<T: Zero>(rows: usize, size: usize, together: usize, work: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let count = rows * size;
    let mut values = Vec::with_capacity(count);
    if count > 0 {
        let parts = values.spare_capacity_mut()[..count].par_chunks_mut(together * size);
        parts.enumerate().for_each(|(number, part)| {
            work(number * together, cleared(part));
        });
    }
    // SAFETY: there is capacity for this many values, and the parts, which were all cleared, cover it.
    unsafe { values.set_len(count) };
    values
}

fn cleared<T: Zero>(part: &mut [MaybeUninit<T>]) -> &mut [T] {
    let (start, count) = (part.as_mut_ptr().cast::<T>(), part.len());
    // SAFETY: the part is borrowed exclusively, and zeros are valid values of these types.
    unsafe {
        start.write_bytes(0, count);
        std::slice::from_raw_parts_mut(start, count)
    }
}

/// A pointer that threads may share.
#[derive(Clone, Copy)]
struct Shared<T>(*mut T);

// SAFETY: it is only used through output blocks, and no two of these have a value in common.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: the same.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    fn start(self) -> *mut T {
        self.0
    }
}

/// Calls `work` for the numbers below `count`, `together` at a time, on all threads. Each thread has a range of its
/// own, since memory is fastest when read in order; a thread that is done helps the next one.
///
/// rayon's iterators split the work in halves beforehand. A thread that starts its half late keeps the other waiting,
/// and the products of one new token are too short to make up for that.
fn each(count: usize, together: usize, work: impl Fn(usize) + Sync) {
    let together = together.clamp(1, count.max(1));
    let tasks = count.div_ceil(together);
    let threads = rayon::current_num_threads().min(tasks);
    let ends = |thread: usize| thread * tasks / threads..(thread + 1) * tasks / threads;
    let next: Vec<AtomicUsize> = (0..threads)
        .map(|thread| AtomicUsize::new(ends(thread).start))
        .collect();
    let take = |own: usize| {
        for thread in (0..threads).map(|further| (own + further) % threads) {
            loop {
                let task = next[thread].fetch_add(1, Ordering::Relaxed);
                if task >= ends(thread).end {
                    break;
                }
                (task * together..count.min((task + 1) * together)).for_each(&work);
            }
        }
    };
    if threads <= 1 {
        return take(0);
    }
    let take = &take;
    rayon::scope(|scope| {
        (1..threads).for_each(|own| scope.spawn(move |_| take(own)));
        take(0);
    });
}

/// Columns of a matrix.
#[derive(Clone, Copy)]
pub struct Columns {
    pub count: usize,
    /// Columns of an output block.
    pub width: usize,
    /// Rows of an output block, at least one.
    pub height: usize,
    /// Values, or words of two, from one row to the next; those after the last column are zero.
    pub stride: usize,
}

impl Columns {
    /// Without padding after the last column.
    pub fn new(count: usize, width: usize, height: usize) -> Columns {
        let stride = count;
        Columns {
            count,
            width,
            height,
            stride,
        }
    }

    fn output_blocks(&self, rows: usize) -> usize {
        self.count.div_ceil(self.width) * rows.div_ceil(self.height.max(1))
    }

    /// An output block of a matrix of this many rows, each of which is `of_row` values or words long. Output blocks
    /// that read the same weights are consecutive.
    fn field(&self, rows: usize, number: usize, of_row: usize) -> Field {
        let height = self.height.max(1);
        let parts = rows.div_ceil(height);
        let (below, beside) = (number % parts * height, number / parts * self.width);
        let columns = beside..self.count.min(beside + self.width);
        Field {
            rows: below..rows.min(below + height),
            behind: if columns.end == self.count {
                self.stride - of_row
            } else {
                0
            },
            columns,
            stride: self.stride,
        }
    }
}

/// Fills a matrix by output blocks in parallel. `work` finds zeros in its output block.
pub fn by_output_blocks(rows: usize, columns: Columns, work: impl Fn(&mut OutputBlock) + Sync) -> Vec<f32> {
    let mut made = by_matrices(rows, &[columns], None, |_, output_block| work(output_block));
    made.pop().unwrap_or_default()
}

/// Fills several matrices of this many rows. `work` also gets the number of the matrix, and `finish` the results.
pub fn by_matrices(
    rows: usize,
    matrices: &[Columns],
    finish: Option<&Finish>,
    work: impl Fn(usize, &mut OutputBlock) + Sync,
) -> Vec<Vec<f32>> {
    let room = |columns: &Columns| Vec::with_capacity(rows * columns.stride);
    let mut values: Vec<Vec<f32>> = matrices.iter().map(room).collect();
    let starts: Vec<Shared<f32>> = values.iter_mut().map(|values| Shared(values.as_mut_ptr())).collect();
    let done = AtomicUsize::new(0);
    let output_blocks: Vec<usize> = matrices.iter().map(|columns| columns.output_blocks(rows)).collect();
    each(output_blocks.iter().sum(), 1, |mut number| {
        let mut matrix = 0;
        while number >= output_blocks[matrix] {
            number -= output_blocks[matrix];
            matrix += 1;
        }
        let all = &matrices[matrix];
        let field = all.field(rows, number, all.count);
        // SAFETY: it is inside the matrix, whose fields do not overlap and are handed out once.
        let output_block = unsafe { OutputBlock::of(starts[matrix].start(), field, &done) };
        work(matrix, &mut output_block.then(finish, matrix));
    });
    let count: usize = matrices.iter().map(|columns| rows * columns.count).sum();
    assert_eq!(done.into_inner(), count, "an output block was not dropped");
    for (values, columns) in values.iter_mut().zip(matrices) {
        // SAFETY: there is capacity for this many values, and each is in one of the output blocks or in the padding of
        // a row; all output blocks were dropped, which clears both.
        unsafe { values.set_len(rows * columns.stride) };
    }
    values
}

/// A matrix of which only bf16 values are kept, two to a word.
pub fn rounded_by_output_blocks(
    rows: usize,
    columns: Columns,
    finish: Option<&Finish>,
    work: impl Fn(&mut OutputBlock) + Sync,
) -> Vec<u32> {
    assert!(columns.width.is_multiple_of(2), "output blocks must not share words");
    let mut words = Vec::with_capacity(rows * columns.stride);
    let start = Shared(words.as_mut_ptr());
    let done = AtomicUsize::new(0);
    each(columns.output_blocks(rows), 1, |number| {
        let field = columns.field(rows, number, columns.count.div_ceil(2));
        // SAFETY: it is inside the matrix, whose fields do not overlap and are handed out once; all but the last ones
        // of a row have an even number of columns.
        let output_block = unsafe { OutputBlock::rounded(start.start(), field, &done) };
        work(&mut output_block.then(finish, 0));
    });
    assert_eq!(
        done.into_inner(),
        rows * columns.count,
        "an output block was not dropped"
    );
    // SAFETY: there is capacity for this many words, and each was written when a row of one of the output blocks ended;
    // all of them were dropped.
    unsafe { words.set_len(rows * columns.stride) };
    words
}

/// Fills a matrix by fields, which are output blocks of some rows. `work` also gets an index into `parts`, the numbers
/// of rows of each part. A task is at least `together` fields.
pub fn by_fields(
    parts: &[usize],
    columns: usize,
    width: usize,
    together: usize,
    work: impl Fn(usize, OutputBlock) + Sync,
) -> Vec<f32> {
    let mut rows = 0;
    let starts: Vec<usize> = parts
        .iter()
        .map(|part| {
            rows += part;
            rows - part
        })
        .collect();
    let mut values = Vec::with_capacity(rows * columns);
    let matrix = Shared(values.as_mut_ptr());
    let across = columns.div_ceil(width);
    let done = AtomicUsize::new(0);
    each(parts.len() * across, together, |field| {
        let (part, number) = (field / across, field % across);
        let rows = starts[part]..starts[part] + parts[part];
        let field = Field {
            rows,
            columns: number * width..columns.min((number + 1) * width),
            stride: columns,
            behind: 0,
        };
        // SAFETY: it is inside the matrix, whose fields do not overlap and are handed out once.
        work(part, unsafe { OutputBlock::of(matrix.start(), field, &done) });
    });
    assert_eq!(done.into_inner(), rows * columns, "an output block was not dropped");
    // SAFETY: there is capacity for this many values, and each is in one of the fields; all were dropped, which clears
    // them.
    unsafe { values.set_len(rows * columns) };
    values
}

#[cfg(test)]
mod tests {
    use super::super::output_block::Place;
    use super::*;

    #[test]
    fn output_blocks_cover_the_matrix_and_do_not_overlap() {
        let matrix = by_output_blocks(3, Columns::new(10, 4, 3), |output_block| {
            for row in 0..3 {
                for column in output_block.columns().step_by(3) {
                    let add = output_block.values(row, column, 3).iter_mut();
                    add.enumerate()
                        .for_each(|(place, value)| *value += (10 * row + column + place) as f32);
                }
            }
        });
        assert_eq!(matrix, (0..30).map(|value| value as f32).collect::<Vec<_>>());
    }

    /// Writes to each value its matrix, row and column; some rows are ended, the others filled and left.
    fn fill(matrix: usize, output_block: &mut OutputBlock) {
        let (rows, columns) = (output_block.rows(), output_block.columns());
        let value = |row: usize, column: usize| (100 * matrix + 10 * row + column) as f32;
        for row in rows.clone() {
            if row % 2 == rows.start % 2 && row < rows.start + 2 {
                let mut values: Vec<f32> = columns.clone().map(|column| value(row, column)).collect();
                output_block.end(&mut values);
                continue;
            }
            let values = output_block.values(row, columns.start, 9).iter_mut();
            values
                .zip(columns.clone())
                .for_each(|(to, column)| *to = value(row, column));
        }
    }

    const WIDE: [Columns; 3] = [
        Columns {
            count: 5,
            width: 2,
            height: 2,
            stride: 7,
        },
        Columns {
            count: 0,
            width: 1,
            height: 1,
            stride: 0,
        },
        Columns {
            count: 3,
            width: 9,
            height: 100,
            stride: 3,
        },
    ];

    #[test]
    fn several_matrices_are_filled_at_once() {
        let matrices = by_matrices(3, &WIDE, None, fill);
        let floats = |values: &[i32]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        let wide = [
            [0, 1, 2, 3, 4, 0, 0],
            [10, 11, 12, 13, 14, 0, 0],
            [20, 21, 22, 23, 24, 0, 0],
        ];
        assert_eq!(matrices[0], floats(&wide.concat()));
        assert_eq!(matrices[1], floats(&[]));
        assert_eq!(matrices[2], floats(&[200, 201, 202, 210, 211, 212, 220, 221, 222]));
    }

    #[test]
    fn what_follows_gets_each_value_once_and_where_it_is() {
        let finish = |place: Place, values: &mut [f32]| {
            for (column, value) in (place.column..).zip(values) {
                assert_eq!(*value, (100 * place.matrix + 10 * place.row + column) as f32);
                *value = -*value - 1.0;
            }
        };
        let plain = by_matrices(3, &WIDE, None, fill);
        let finished = by_matrices(3, &WIDE, Some(&finish), fill);
        for ((plain, finished), columns) in plain.iter().zip(&finished).zip(WIDE) {
            for (at, (plain, finished)) in plain.iter().zip(finished).enumerate() {
                let inside = at % columns.stride < columns.count;
                assert_eq!(*finished, if inside { -plain - 1.0 } else { 0.0 });
            }
        }
        let rounded = rounded_by_output_blocks(3, WIDE[0], Some(&finish), |output_block| fill(0, output_block));
        let halves = rounded.iter().flat_map(|word| [word << 16, word & 0xffff_0000]);
        let rows: Vec<f32> = halves.map(f32::from_bits).collect();
        for (rounded, finished) in rows.chunks(14).zip(finished[0].chunks(7)) {
            assert_eq!(rounded[..5], finished[..5]);
            assert!(rounded[5..].iter().all(|beyond| *beyond == 0.0));
        }
    }

    #[test]
    fn each_number_comes_once() {
        for (count, together) in [(0, 1), (1, 0), (7, 3), (1000, 1), (5, usize::MAX)] {
            let times: Vec<AtomicUsize> = (0..count).map(|_| AtomicUsize::new(0)).collect();
            each(count, together, |number| {
                times[number].fetch_add(1, Ordering::Relaxed);
            });
            assert!(times.iter().all(|times| times.load(Ordering::Relaxed) == 1));
        }
    }

    #[test]
    fn fields_are_all_of_the_matrix_too() {
        let matrix = by_fields(&[2, 0, 3], 7, 3, 2, |part, mut field| {
            for row in field.rows() {
                let first = field.columns().start;
                field.values(row, first, 7).fill((10 * part + row) as f32);
            }
        });
        let expected = [0, 1, 22, 23, 24].map(|value| [value as f32; 7]);
        assert_eq!(matrix, expected.concat());
    }

    #[test]
    fn rows_are_zero_until_they_are_filled() {
        for (rows, size) in [(0, 3), (3, 0), (7, 5), (3, TASK)] {
            let matrix = by_rows(rows, size, |row, values: &mut [u32]| {
                assert!(values.iter().all(|value| *value == 0));
                values.iter_mut().step_by(2).for_each(|value| *value = row as u32 + 1);
            });
            let expected = (0..rows * size).map(|at| match (at % size) % 2 {
                0 => (at / size) as u32 + 1,
                _ => 0,
            });
            assert_eq!(matrix, expected.collect::<Vec<_>>());
        }
    }
}
