//! Matrix products with weights: the one entry point, whatever the weights are stored as.

use crate::{Matrix, Result, Weights};
use candle_core::Tensor;

/// `x W^T + b` over the last dimension.
///
/// A model file sees only `load` and `forward`. What stands behind them is decided here, from what [`Weights`] holds
/// under the layer's name; how the product is made, by [`Matrix`].
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
    name: String,
}

impl Linear {
    /// Reads `weight` (out, in), and `bias` (out) if it has one.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        Ok(Linear {
            weight: weights.matrix("weight", outputs, inputs)?,
            bias: bias.then(|| weights.get("bias", &[outputs])).transpose()?,
            name: weights.path(""),
        })
    }

    /// A layer over a matrix (out, in) that is at hand already, such as a tied embedding table.
    pub fn over(weight: Matrix, name: impl Into<String>) -> Linear {
        Linear {
            weight,
            bias: None,
            name: name.into(),
        }
    }

    /// (…, in) to (…, out).
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = self.weight.product(x)?;
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The layer's full name in the checkpoint, by which adapters find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn weight(&self) -> &Matrix {
        &self.weight
    }
}
