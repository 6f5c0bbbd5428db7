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
    borrowed: PhantomData<&'a mut [f32]>,
}

/// A pointer that may be seen by the threads of one `for_each`.
#[derive(Clone, Copy)]
struct Shared(*mut f32);

// SAFETY: it is only ever used through stripes, and no two of these have a value in common.
unsafe impl Send for Shared {}
// SAFETY: the same.
unsafe impl Sync for Shared {}

/// A matrix, by stripes of so many columns in parallel. `work` finds zeros in its stripe.
pub fn by_stripes(rows: usize, columns: usize, width: usize, work: impl Fn(Stripe) + Sync) -> Vec<f32> {
    by_fields(&[rows], columns, width, 1, |_, stripe| work(stripe))
}

/// The same, where stripes end after so many rows: `work` also gets the number of the entry of `parts`, which count the
/// rows of each. `together` fields are the least that a task is made of.
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
    let fields = (0..parts.len() * across).into_par_iter().with_min_len(together.max(1));
    fields.for_each(|field| {
        let shared = matrix;
        let (part, number) = (field / across, field % across);
        let mut stripe = Stripe {
            matrix: { shared }.0,
            all: columns,
            rows: starts[part]..starts[part] + parts[part],
            columns: number * width..columns.min((number + 1) * width),
            borrowed: PhantomData,
        };
        stripe.clear();
        work(part, stripe);
    });
    // SAFETY: so many values have room, and each lies in one of the fields, all of which were cleared.
    unsafe { values.set_len(rows * columns) };
    values
}

impl Stripe<'_> {
    fn clear(&mut self) {
        for row in self.rows.clone() {
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
        let count = most.min(self.columns.end - column);
        // SAFETY: row and columns are inside the matrix, as just checked, and were cleared before anybody had the stripe;
        // the matrix is there as long as `by_fields` runs; these values are no other stripe's, and `self` lends them once
        // at a time.
        unsafe { std::slice::from_raw_parts_mut(self.matrix.add(row * self.all + column), count) }
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
