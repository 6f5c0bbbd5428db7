//! Matrices that many threads write at once: each has rows, a stripe of columns or some rows of one to itself.
//!
//! Rows lie one behind the other, so a stripe is no slice, and the library's iterators cannot hand it out. Nor do they
//! make a matrix whose memory is first touched by the threads that fill it: clearing a long prompt's matrices on one
//! core, and in front of everything else, takes a tenth of the time of their product.
#![allow(unsafe_code)] // memory that is cleared before anybody reads it; columns that no other thread has

use rayon::prelude::*;
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Values that one task fills, about.
const TASK: usize = 1 << 14;

/// Values that are zero when all their bits are.
pub trait Zero: Copy + Send {}
impl Zero for f32 {}
impl Zero for u32 {}
impl Zero for i32 {}

/// Rows of so many values, in parallel. `work` gets a row's number and the row, which is zero.
pub fn by_rows<T: Zero>(rows: usize, size: usize, work: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    by_parts(rows, size, (TASK / size.max(1)).max(1), |first, part| {
        part.chunks_exact_mut(size)
            .enumerate()
            .for_each(|(row, values)| work(first + row, values));
    })
}

/// The same, so many rows at a time. `work` gets the number of the first of them.
pub fn by_parts<T: Zero>(rows: usize, size: usize, together: usize, work: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
    let count = rows * size;
    let mut values = Vec::with_capacity(count);
    if count > 0 {
        let parts = values.spare_capacity_mut()[..count].par_chunks_mut(together * size);
        parts.enumerate().for_each(|(number, part)| {
            work(number * together, cleared(part));
        });
    }
    // SAFETY: so many values have room, and all of them were cleared: the parts are all of them.
    unsafe { values.set_len(count) };
    values
}

fn cleared<T: Zero>(part: &mut [MaybeUninit<T>]) -> &mut [T] {
    let (start, count) = (part.as_mut_ptr().cast::<T>(), part.len());
    // SAFETY: the part is borrowed alone, and zeros are values of these types.
    unsafe {
        start.write_bytes(0, count);
        std::slice::from_raw_parts_mut(start, count)
    }
}

/// Some columns of a matrix, or of some of its rows, which nobody else can reach while this is.
pub struct Stripe<'a> {
    matrix: *mut f32,
    all: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Rows before this one are cleared. One after the other is, when it is first asked for, since all of them are more
    /// than the second cache holds.
    cleared: usize,
    /// Values of all stripes that are done.
    done: &'a AtomicUsize,
    borrowed: PhantomData<&'a mut [f32]>,
}

/// A pointer that may be seen by all threads.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: it is only ever used through stripes, and no two of these have a value in common.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

/// Numbers below `count`, `together` at a time, on all threads. Each has a range of its own, since memory gives most to
/// those who take it in order; whoever is through with it helps the next.
///
/// The library's iterators halve their work beforehand: a thread that comes late to its half keeps the other waiting,
/// and the products of one new token are over before that is made up for.
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

/// A matrix, by stripes of so many columns in parallel. `work` finds zeros in its stripe.
pub fn by_stripes(rows: usize, columns: usize, width: usize, work: impl Fn(Stripe) + Sync) -> Vec<f32> {
    by_fields(&[rows], columns, width, 1, |_, stripe| work(stripe))
}

/// Several matrices of so many rows, of which each has columns and the width of a stripe of its own. `work` also gets the
/// number of the matrix.
pub fn by_matrices(rows: usize, matrices: &[(usize, usize)], work: impl Fn(usize, Stripe) + Sync) -> Vec<Vec<f32>> {
    let room = |(columns, _): &(usize, usize)| Vec::with_capacity(rows * columns);
    let mut values: Vec<Vec<f32>> = matrices.iter().map(room).collect();
    let starts: Vec<Shared> = values.iter_mut().map(|values| Shared(values.as_mut_ptr())).collect();
    let done = AtomicUsize::new(0);
    let across: Vec<usize> = matrices
        .iter()
        .map(|(columns, width)| columns.div_ceil(*width))
        .collect();
    each(across.iter().sum(), 1, |mut number| {
        let mut matrix = 0;
        while number >= across[matrix] {
            number -= across[matrix];
            matrix += 1;
        }
        let (all, width) = matrices[matrix];
        let columns = number * width..all.min((number + 1) * width);
        work(matrix, Stripe::of(starts[matrix], all, 0..rows, columns, &done));
    });
    let count: usize = matrices.iter().map(|(columns, _)| rows * columns).sum();
    assert_eq!(done.into_inner(), count, "a stripe was not given back");
    for (values, (columns, _)) in values.iter_mut().zip(matrices) {
        // SAFETY: so many values have room, and each lies in one of the stripes, all of which were dropped and so cleared.
        unsafe { values.set_len(rows * columns) };
    }
    values
}

/// A matrix, by fields: stripes that end after so many rows. `work` also gets the number of the entry of `parts`, which
/// count the rows of each. `together` fields are the least that a task is made of.
pub fn by_fields(
    parts: &[usize],
    columns: usize,
    width: usize,
    together: usize,
    work: impl Fn(usize, Stripe) + Sync,
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
        let some = number * width..columns.min((number + 1) * width);
        work(part, Stripe::of(matrix, columns, rows, some, &done));
    });
    assert_eq!(done.into_inner(), rows * columns, "a stripe was not given back");
    // SAFETY: so many values have room, and each lies in one of the fields, all of which were dropped and so cleared.
    unsafe { values.set_len(rows * columns) };
    values
}

impl<'a> Stripe<'a> {
    /// Of a matrix with room for so many columns and these rows: nobody else may have a stripe with one of its values.
    fn of(matrix: Shared, all: usize, rows: Range<usize>, columns: Range<usize>, done: &'a AtomicUsize) -> Stripe<'a> {
        Stripe {
            matrix: matrix.0,
            all,
            cleared: rows.start,
            rows,
            columns,
            done,
            borrowed: PhantomData,
        }
    }

    /// All rows before this one.
    fn clear(&mut self, end: usize) {
        for row in std::mem::replace(&mut self.cleared, end)..end {
            // SAFETY: row and columns are inside the matrix, and no other stripe's.
            unsafe {
                self.matrix
                    .add(row * self.all + self.columns.start)
                    .write_bytes(0, self.columns.len());
            }
        }
    }

    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The values of a row from one of the stripe's columns on, as many as it has of those asked for.
    pub fn values(&mut self, row: usize, column: usize, most: usize) -> &mut [f32] {
        assert!(
            self.rows.contains(&row) && self.columns.contains(&column),
            "a value beyond its stripe"
        );
        if row >= self.cleared {
            self.clear(row + 1);
        }
        let count = most.min(self.columns.end - column);
        // SAFETY: row and columns are inside the matrix, as just checked, and were cleared before anybody had them;
        // the matrix is there as long as the function runs that makes stripes; these values are no other stripe's, and
        // `self` lends them once at a time.
        unsafe { std::slice::from_raw_parts_mut(self.matrix.add(row * self.all + column), count) }
    }
}

impl Drop for Stripe<'_> {
    fn drop(&mut self) {
        if self.cleared < self.rows.end {
            self.clear(self.rows.end);
        }
        self.done
            .fetch_add(self.rows.len() * self.columns.len(), Ordering::Relaxed);
    }
}

/// Some rows of so many columns of a matrix, which nobody else can reach while this is.
pub struct Corner<'a, const COLUMNS: usize> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl Stripe<'_> {
    /// Some rows of some of the stripe's columns.
    pub fn corner<const COLUMNS: usize>(&mut self, row: usize, rows: usize, column: usize) -> Corner<'_, COLUMNS> {
        let inside = row >= self.rows.start && row + rows <= self.rows.end;
        let fits = inside && column >= self.columns.start && column + COLUMNS <= self.columns.end;
        assert!(rows > 0 && fits, "a corner beyond its stripe");
        if row + rows > self.cleared {
            self.clear(row + rows);
        }
        Corner {
            start: self.matrix.wrapping_add(row * self.all + column),
            stride: self.all,
            rows,
            borrowed: PhantomData,
        }
    }
}

impl<'a, const COLUMNS: usize> Corner<'a, COLUMNS> {
    /// All of a matrix of its own.
    pub fn of(matrix: &'a mut [[f32; COLUMNS]]) -> Corner<'a, COLUMNS> {
        Corner {
            start: matrix.as_mut_ptr().cast(),
            stride: COLUMNS,
            rows: matrix.len(),
            borrowed: PhantomData,
        }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values from the first of a row to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// To be read and written through as far as rows and columns go.
    pub fn start(&mut self) -> *mut f32 {
        self.start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_are_all_of_the_matrix_and_none_has_another_s() {
        let matrix = by_stripes(3, 10, 4, |mut stripe| {
            for row in 0..3 {
                for column in stripe.columns().step_by(3) {
                    let add = stripe.values(row, column, 3).iter_mut();
                    add.enumerate()
                        .for_each(|(place, value)| *value += (10 * row + column + place) as f32);
                }
            }
        });
        assert_eq!(matrix, (0..30).map(|value| value as f32).collect::<Vec<_>>());
    }

    #[test]
    fn several_matrices_are_filled_at_once() {
        let matrices = by_matrices(2, &[(5, 2), (0, 1), (3, 9)], |matrix, mut stripe| {
            for row in 0..2 {
                let columns = stripe.columns();
                let values = stripe.values(row, columns.start, 9).iter_mut();
                values
                    .zip(columns)
                    .for_each(|(value, column)| *value = (100 * matrix + 10 * row + column) as f32);
            }
        });
        let floats = |values: &[i32]| values.iter().map(|&value| value as f32).collect::<Vec<_>>();
        assert_eq!(matrices[0], floats(&[0, 1, 2, 3, 4, 10, 11, 12, 13, 14]));
        assert_eq!(matrices[1], floats(&[]));
        assert_eq!(matrices[2], floats(&[200, 201, 202, 210, 211, 212]));
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
