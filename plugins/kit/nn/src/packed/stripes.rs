//! One matrix, written by many threads: each has a stripe of its columns.
//!
//! Rows lie one behind the other, so a stripe is no slice, and the library's iterators cannot hand it out.
#![allow(unsafe_code)] // columns that no other thread has, inside a matrix that is borrowed meanwhile

use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// Some columns of a matrix, which nobody else can reach while this is.
pub struct Stripe<'a> {
    matrix: *mut f32,
    rows: usize,
    all: usize,
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

/// Works on stripes of so many columns in parallel. `matrix` has rows of `columns` values.
pub fn for_each_stripe(matrix: &mut [f32], columns: usize, width: usize, work: impl Fn(Stripe) + Sync) {
    let rows = matrix.len() / columns.max(1);
    let matrix = Shared(matrix.as_mut_ptr());
    (0..columns.div_ceil(width)).into_par_iter().for_each(|number| {
        let shared = matrix;
        work(Stripe {
            matrix: { shared }.0,
            rows,
            all: columns,
            columns: number * width..columns.min((number + 1) * width),
            borrowed: PhantomData,
        });
    });
}

impl Stripe<'_> {
    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    /// The values of a row from one of the stripe's columns on, as many as it has of those asked for.
    pub fn values(&mut self, row: usize, column: usize, most: usize) -> &mut [f32] {
        assert!(
            row < self.rows && self.columns.contains(&column),
            "a value beyond its stripe"
        );
        let count = most.min(self.columns.end - column);
        // SAFETY: row and columns are inside the matrix, as just checked, which stays borrowed as long as `for_each_stripe`
        // runs; these columns are no other stripe's, and `self` lends them once at a time.
        unsafe { std::slice::from_raw_parts_mut(self.matrix.add(row * self.all + column), count) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_are_all_of_the_matrix_and_none_has_another_s() {
        let mut matrix = vec![0f32; 3 * 10];
        for_each_stripe(&mut matrix, 10, 4, |mut stripe| {
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
}
