//! Matrix products with weights: the one entry point, whatever the weights are stored as.

use crate::{Result, Weights, kernel};
use candle_core::{DType, Tensor};

/// `x W^T + b` over the last dimension.
///
/// A model file sees only `load` and `forward`. What stands behind them (plain weights today; quantised ones, LoRA
/// branches, a kernel chosen for the machine) is decided here from what [`Weights`] holds under the layer's name.
pub struct Linear {
    kernel: Kernel,
    bias: Option<Tensor>,
    name: String,
}

enum Kernel {
    /// (out, in), as checkpoints have it; the product reads it transposed, which costs no copy.
    Dense(Tensor),
}

impl Linear {
    /// Reads `weight` (out, in), and `bias` (out) if it has one.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let weight = weights.get("weight", &[outputs, inputs])?;
        let bias = bias.then(|| weights.get("bias", &[outputs])).transpose()?;
        Ok(Linear {
            kernel: Kernel::Dense(weight),
            bias,
            name: weights.path(""),
        })
    }

    /// A layer over a matrix (out, in) that is at hand already, such as a tied embedding table.
    pub fn over(weight: Tensor, name: impl Into<String>) -> Linear {
        Linear {
            kernel: Kernel::Dense(weight),
            bias: None,
            name: name.into(),
        }
    }

    /// (…, in) to (…, out).
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.kernel {
            Kernel::Dense(weight) => dense(x, weight)?,
        };
        match &self.bias {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    }

    /// The layer's full name in the checkpoint, by which adapters find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn dtype(&self) -> DType {
        match &self.kernel {
            Kernel::Dense(weight) => weight.dtype(),
        }
    }
}

fn dense(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    let (outputs, inputs) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    let rows = x.elem_count() / inputs.max(1);
    let x = x.reshape((rows, inputs))?;
    let y = match kernel::suits(&x, weight, rows) {
        true => kernel::few_rows(&x, weight)?,
        false => x.matmul(&weight.t()?)?,
    };
    if let Some(last) = dims.last_mut() {
        *last = outputs;
    }
    y.reshape(dims)
}
