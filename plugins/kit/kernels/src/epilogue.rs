//! The epilogue of a product: bias, GELU, and addition to another matrix.
//!
//! As separate operations, each would write another matrix, and first writes to memory take longer than this
//! arithmetic. So all of it is done where the product is computed, while its values are in the first-level cache.

use crate::gelu::gelu_of;
use crate::packed::{Finish, Place};
use crate::rowwise::{Held, suits};
use candle_core::{Result, Tensor};
use pulp::{Arch, NullaryFnOnce};

/// Steps in this order, after the layer's bias.
#[derive(Clone, Copy, Default)]
pub struct Epilogue<'a> {
    pub gelu: bool,
    /// A matrix of the product's shape, which is added.
    pub plus: Option<&'a Tensor>,
}

impl Epilogue<'_> {
    pub const GELU: Epilogue<'static> = Epilogue { gelu: true, plus: None };

    pub fn adding(x: &Tensor) -> Epilogue<'_> {
        let plus = Some(x);
        Epilogue { gelu: false, plus }
    }

    /// Whether this crate's loops can compute it, after this bias.
    pub fn suits(&self, bias: Option<&Tensor>) -> bool {
        let lies = |x: &Tensor| suits(&[x]) && x.is_contiguous();
        bias.into_iter().chain(self.plus).all(lies)
    }

    /// Passes the epilogue of products of this many rows to `make`, which names the columns and perhaps a bias of
    /// each.
    pub fn finishing<T>(
        &self,
        rows: usize,
        products: &[(usize, Option<&Tensor>)],
        make: impl FnOnce(Option<&Finish>) -> T,
    ) -> Result<T> {
        let biases: Vec<Option<Held>> = products.iter().map(|(_, bias)| bias.map(Held::of)).collect();
        let biases: Vec<Option<&[f32]>> = biases.iter().map(values).collect::<Result<_>>()?;
        let plus = self.plus.map(Held::of);
        let plus = values(&plus)?;
        for (&(columns, _), bias) in products.iter().zip(&biases) {
            let fits = |values: Option<&[f32]>, count: usize| values.is_none_or(|values| values.len() == count);
            if !fits(*bias, columns) || !fits(plus, rows * columns) {
                candle_core::bail!("what is to be added to a product of {rows} x {columns} has another shape");
            }
        }
        if !self.gelu && plus.is_none() && biases.iter().all(Option::is_none) {
            return Ok(make(None));
        }
        let (arch, gelu) = (Arch::new(), self.gelu);
        Ok(make(Some(&|Place { matrix, row, column }, y| {
            let bias = biases[matrix].map(|bias| &bias[column..][..y.len()]);
            let plus = plus.map(|plus| &plus[row * products[matrix].0 + column..][..y.len()]);
            arch.dispatch(Task { y, bias, gelu, plus });
        })))
    }
}

fn values<'a>(held: &'a Option<Held>) -> Result<Option<&'a [f32]>> {
    held.as_ref().map(Held::all).transpose()
}

/// Some columns of a row.
struct Task<'a> {
    y: &'a mut [f32],
    bias: Option<&'a [f32]>,
    gelu: bool,
    plus: Option<&'a [f32]>,
}

impl NullaryFnOnce for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Task { y, bias, gelu, plus } = self;
        if let Some(bias) = bias {
            y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
        }
        if gelu {
            y.iter_mut().for_each(|y| *y = gelu_of(*y));
        }
        if let Some(plus) = plus {
            y.iter_mut().zip(plus).for_each(|(y, plus)| *y += plus);
        }
    }
}
