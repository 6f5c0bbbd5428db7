//! What a product is given: the rows of a tensor, or rows that are made where they are needed.
//!
//! A norm in front of a product, or the windows of a convolution, would be a matrix that is written once, read once and
//! rounded. Made row by row as the product's kernels read them, they are never anywhere else.

use crate::packed::{MakeRow, Multiplies, Read, read_made, shared};
use crate::rowwise::{Held, suits};
use candle_core::{Result, Tensor};

#[derive(Clone, Copy)]
pub enum ProductInput<'a> {
    /// (rows, in).
    Tensor(&'a Tensor),
    Made {
        rows: usize,
        inputs: usize,
        make: &'a MakeRow<'a>,
    },
}

impl ProductInput<'_> {
    pub fn rows(&self) -> usize {
        match self {
            ProductInput::Tensor(x) => x.dims().first().copied().unwrap_or(0),
            ProductInput::Made { rows, .. } => *rows,
        }
    }

    pub fn inputs(&self) -> usize {
        match self {
            ProductInput::Tensor(x) => x.dims().last().copied().unwrap_or(0),
            ProductInput::Made { inputs, .. } => *inputs,
        }
    }

    /// Whether this crate's loops may read it.
    pub fn suits(&self) -> bool {
        match self {
            ProductInput::Tensor(x) => x.dims().len() == 2 && suits(&[x]),
            ProductInput::Made { .. } => true,
        }
    }

    /// As the kernels of all these weights read it; nothing where they don't read the same.
    pub fn read(&self, weights: &[&dyn Multiplies]) -> Result<Option<Read>> {
        let Some(reads) = shared(weights) else {
            return Ok(None);
        };
        match *self {
            ProductInput::Tensor(x) => {
                let x = x.contiguous()?;
                let held = Held::of(&x);
                Ok(Some(weights[0].read(held.all()?)))
            }
            ProductInput::Made { rows, inputs, make } => Ok(read_made(reads, rows, inputs, make)),
        }
    }
}
