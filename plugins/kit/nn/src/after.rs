//! What follows a product before anybody else sees it: its bias, GELU, and what it is added to.
//!
//! Each of these on its own would write another matrix, and memory that is written for the first time takes longer than
//! what is computed here. So all of it is done in the product's own, row by row on all cores.

use crate::by_row::{Held, suits};
use crate::gelu::gelu_of;
use candle_core::{Device, Result, Tensor};
use pulp::{Arch, NullaryFnOnce};
use rayon::prelude::*;

/// Values that one task takes.
const TASK: usize = 1 << 14;

/// What is to follow, in this order, besides the bias that a layer has.
#[derive(Clone, Copy, Default)]
pub(crate) struct After<'a> {
    pub gelu: bool,
    /// Of the product's shape.
    pub plus: Option<&'a Tensor>,
}

impl After<'_> {
    /// Whether this crate's loops may do it, with this bias in front.
    pub fn suits(&self, bias: Option<&Tensor>) -> bool {
        bias.into_iter().chain(self.plus).all(|x| suits(&[x]))
    }

    /// A product (rows, columns) and what follows it.
    pub fn of(&self, mut y: Vec<f32>, columns: usize, bias: Option<&Tensor>) -> Result<Tensor> {
        let plus = self.plus.map(Tensor::contiguous).transpose()?;
        let (plus, bias) = (plus.as_ref().map(Held::of), bias.map(Held::of));
        let plus = plus.as_ref().map(Held::all).transpose()?;
        let bias = bias.as_ref().map(Held::all).transpose()?;
        let rows = y.len() / columns.max(1);
        if plus.is_some_and(|plus| plus.len() != y.len()) || bias.is_some_and(|bias| bias.len() != columns) {
            candle_core::bail!("what is to be added to a product of {rows} x {columns} has another shape");
        }
        if self.gelu || plus.is_some() || bias.is_some() {
            let arch = Arch::new();
            let together = (TASK / columns.max(1)).max(1) * columns.max(1);
            y.par_chunks_mut(together).enumerate().for_each(|(number, y)| {
                let plus = plus.map(|plus| &plus[number * together..][..y.len()]);
                let gelu = self.gelu;
                arch.dispatch(Task { y, bias, gelu, plus });
            });
        }
        Tensor::from_vec(y, (rows, columns), &Device::Cpu)
    }
}

/// Some whole rows.
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
            for y in y.chunks_exact_mut(bias.len()) {
                y.iter_mut().zip(bias).for_each(|(y, bias)| *y += bias);
            }
        }
        if gelu {
            y.iter_mut().for_each(|y| *y = gelu_of(*y));
        }
        if let Some(plus) = plus {
            y.iter_mut().zip(plus).for_each(|(y, plus)| *y += plus);
        }
    }
}
