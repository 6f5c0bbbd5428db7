//! An output block of a matrix that many threads write at once: the part that one thread owns, and what happens to it
//! when it is final.
//!
//! Some products finish each row of an output block before the next one begins. The epilogue then runs while the row is
//! in the first-level cache, and if only bf16 is read later, only that is written to memory.
#![allow(unsafe_code)] // memory that is cleared before it is read; columns that no other thread has

use super::rounding::Round;
use pulp::Arch;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// An epilogue: it gets the final values of some columns of a row while they are in the first-level cache.
pub type Finish<'a> = dyn Fn(Place, &mut [f32]) + Sync + 'a;

/// Where some values of a row begin.
#[derive(Clone, Copy)]
pub struct Place {
    /// The number of the matrix, if several are computed together.
    pub matrix: usize,
    pub row: usize,
    pub column: usize,
}

/// Some columns of a matrix, or of some of its rows. Nothing else can access them while it lives.
pub struct OutputBlock<'a> {
    /// The first column of the first row; null if values are computed in `apart`, which is allocated when first used.
    start: *mut f32,
    /// Values from one row to the next.
    all: usize,
    rows: Range<usize>,
    columns: Range<usize>,
    /// Rows before this one are cleared, each when it is first used: all of them are larger than the second-level
    /// cache.
    cleared: usize,
    /// Rows before this one are final.
    ended: usize,
    then: Then<'a>,
    /// For values that are not kept in fp32.
    apart: Vec<f32>,
    /// The number of values in all finished output blocks.
    done: &'a AtomicUsize,
    borrowed: PhantomData<&'a mut [f32]>,
}

/// Where an output block is in its matrix.
pub struct Field {
    pub rows: Range<usize>,
    pub columns: Range<usize>,
    /// Values, or words, from one row of the matrix to the next.
    pub stride: usize,
    /// Values, or words, after the last column that are zeroed with it.
    pub behind: usize,
}

/// What happens to an output block's rows when they are final.
#[derive(Clone, Copy)]
struct Then<'a> {
    finish: Option<&'a Finish<'a>>,
    /// The number of the matrix.
    matrix: usize,
    behind: usize,
    /// Where two bf16 values to a word are written, instead of the values themselves.
    words: Option<Words>,
}

/// A matrix of words.
#[derive(Clone, Copy)]
struct Words {
    start: *mut u32,
    stride: usize,
}

/// Words that are written at a time.
const ROUNDED: usize = 64;

impl Then<'_> {
    fn finish(&self, row: usize, column: usize, values: &mut [f32]) {
        if let Some(finish) = self.finish {
            let matrix = self.matrix;
            finish(Place { matrix, row, column }, values);
        }
    }

    /// # Safety
    /// The matrix has these values, an even number of columns before them, and those after them; nothing else
    /// accesses them.
    unsafe fn round(&self, words: Words, row: usize, column: usize, values: &[f32]) {
        let start = words.start.wrapping_add(row * words.stride + column / 2);
        let count = values.len().div_ceil(2);
        for (number, values) in values.chunks(2 * ROUNDED).enumerate() {
            let mut rounded = [0; ROUNDED];
            Arch::new().dispatch(Round {
                x: values,
                words: &mut rounded,
            });
            // SAFETY: by this function's contract.
            unsafe {
                let start = start.add(number * ROUNDED);
                start.copy_from_nonoverlapping(rounded.as_ptr(), values.len().div_ceil(2));
            }
        }
        // SAFETY: by this function's contract.
        unsafe { start.add(count).write_bytes(0, self.behind) };
    }
}

impl<'a> OutputBlock<'a> {
    /// An output block of the matrix that begins here. When it is dropped, all of it is written, and `done` is
    /// increased by the number of its values.
    ///
    /// # Safety
    /// The matrix has room for the field and the values after it, outlives the output block, and nothing else reads
    /// or writes there meanwhile.
    pub unsafe fn of(matrix: *mut f32, field: Field, done: &'a AtomicUsize) -> OutputBlock<'a> {
        let start = matrix.wrapping_add(field.rows.start * field.stride + field.columns.start);
        OutputBlock::new(start, field.stride, field, None, done)
    }

    /// The same for a matrix of words, each of which holds two bf16 values.
    ///
    /// # Safety
    /// The same; and an even number of columns is before the field's first.
    pub unsafe fn rounded(matrix: *mut u32, field: Field, done: &'a AtomicUsize) -> OutputBlock<'a> {
        let (start, stride) = (matrix, field.stride);
        let all = field.columns.len();
        OutputBlock::new(std::ptr::null_mut(), all, field, Some(Words { start, stride }), done)
    }

    fn new(start: *mut f32, all: usize, field: Field, words: Option<Words>, done: &'a AtomicUsize) -> OutputBlock<'a> {
        let Field {
            rows, columns, behind, ..
        } = field;
        OutputBlock {
            start,
            all,
            cleared: rows.start,
            ended: rows.start,
            rows,
            columns,
            then: Then {
                finish: None,
                matrix: 0,
                behind,
                words,
            },
            apart: Vec::new(),
            done,
            borrowed: PhantomData,
        }
    }

    /// Adds an epilogue, which is passed this number of the matrix.
    pub fn then(mut self, finish: Option<&'a Finish<'a>>, matrix: usize) -> OutputBlock<'a> {
        self.then = Then {
            finish,
            matrix,
            ..self.then
        };
        self
    }

    /// The address of a value.
    fn at(&mut self, row: usize, column: usize) -> *mut f32 {
        if self.start.is_null() {
            self.apart.reserve_exact(self.rows.len() * self.columns.len());
            self.start = self.apart.as_mut_ptr();
        }
        let (below, beside) = (row - self.rows.start, column - self.columns.start);
        self.start.wrapping_add(below * self.all + beside)
    }

    /// Values after the last column of a row.
    fn behind(&self) -> usize {
        if self.then.words.is_some() { 0 } else { self.then.behind }
    }

    /// Clears the rows before `end`.
    fn clear(&mut self, end: usize) {
        for row in std::mem::replace(&mut self.cleared, end)..end {
            let count = self.columns.len() + self.behind();
            let start = self.at(row, self.columns.start);
            // SAFETY: row and columns are inside the matrix, and belong to no other output block.
            unsafe { start.write_bytes(0, count) };
        }
    }

    pub fn columns(&self) -> Range<usize> {
        self.columns.clone()
    }

    pub fn rows(&self) -> Range<usize> {
        self.rows.clone()
    }

    /// The values of a row from one of the output block's columns on, at most `most`.
    pub fn values(&mut self, row: usize, column: usize, most: usize) -> &mut [f32] {
        assert!(
            self.rows.contains(&row) && self.columns.contains(&column),
            "a value outside of its output block"
        );
        if row >= self.cleared {
            self.clear(row + 1);
        }
        let count = most.min(self.columns.end - column);
        let start = self.at(row, column);
        // SAFETY: row and columns are inside the matrix, as just checked, and were cleared before. The matrix outlives
        // the function that makes output blocks, no other output block has these values, and the `&mut self` borrow
        // makes this the only reference.
        unsafe { std::slice::from_raw_parts_mut(start, count) }
    }

    /// Takes the final values of the next row that has none, for all columns of the output block.
    pub fn end(&mut self, values: &mut [f32]) {
        let row = self.ended;
        let fits = row < self.rows.end && values.len() == self.columns.len();
        assert!(fits, "a row outside of its output block");
        self.then.finish(row, self.columns.start, values);
        match self.then.words {
            // SAFETY: row and columns are inside the matrix, as just checked, and belong to no other output block.
            Some(words) => unsafe { self.then.round(words, row, self.columns.start, values) },
            None => {
                let (start, behind) = (self.at(row, self.columns.start), self.behind());
                // SAFETY: the same.
                unsafe {
                    start.copy_from_nonoverlapping(values.as_ptr(), values.len());
                    start.add(values.len()).write_bytes(0, behind);
                }
                // The whole row is written now, if those above are.
                if self.cleared == row {
                    self.cleared = row + 1;
                }
            }
        }
        self.ended = row + 1;
    }
}

impl Drop for OutputBlock<'_> {
    fn drop(&mut self) {
        let (then, first, count) = (self.then, self.columns.start, self.columns.len());
        if then.finish.is_some() || then.words.is_some() {
            for row in self.ended..self.rows.end {
                let values = self.values(row, first, count);
                then.finish(row, first, values);
                if let Some(words) = then.words {
                    // SAFETY: row and columns are inside the matrix, and belong to no other output block.
                    unsafe { then.round(words, row, first, values) };
                }
            }
        } else if self.cleared < self.rows.end {
            self.clear(self.rows.end);
        }
        self.done.fetch_add(self.rows.len() * count, Ordering::Relaxed);
    }
}

/// Some rows of this many columns of a matrix. Nothing else can access them while it lives.
pub struct Corner<'a, const COLUMNS: usize> {
    start: *mut f32,
    stride: usize,
    rows: usize,
    borrowed: PhantomData<&'a mut [f32]>,
}

impl OutputBlock<'_> {
    /// Some rows of some of the output block's columns.
    pub fn corner<const COLUMNS: usize>(&mut self, row: usize, rows: usize, column: usize) -> Corner<'_, COLUMNS> {
        let inside = row >= self.rows.start && row + rows <= self.rows.end;
        let fits = inside && column >= self.columns.start && column + COLUMNS <= self.columns.end;
        assert!(rows > 0 && fits, "a corner outside of its output block");
        if row + rows > self.cleared {
            self.clear(row + rows);
        }
        Corner {
            start: self.at(row, column),
            stride: self.all,
            rows,
            borrowed: PhantomData,
        }
    }
}

impl<'a, const COLUMNS: usize> Corner<'a, COLUMNS> {
    /// A whole matrix.
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

    /// Values from the start of a row to that of the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// A pointer for reading and writing within the rows and columns.
    pub fn start(&mut self) -> *mut f32 {
        self.start
    }
}
