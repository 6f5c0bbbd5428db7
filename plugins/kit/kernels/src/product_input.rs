//! The input of a product: a tensor, or rows that are computed when the product reads them.
//!
//! The output of a norm before a product, or the windows of a convolution, would be written once and read once.
//! Computed row by row, they are never stored.

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

    /// Whether this crate's loops can read it.
    pub fn suits(&self) -> bool {
        match self {
            ProductInput::Tensor(x) => x.dims().len() == 2 && suits(&[x]),
            ProductInput::Made { .. } => true,
        }
    }

    /// In the form that the kernels of all these weights read; none if their forms differ.
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
