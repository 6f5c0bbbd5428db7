//! Norms and residual additions.

use crate::{Result, Weights};
use candle_core::{DType, Tensor};
use kernels::packed::MakeRow;
use kernels::product_input::ProductInput;
use kernels::rowwise;

/// Division by the root mean square, then a weight for each channel. Computed in fp32.
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<RmsNorm> {
        Ok(RmsNorm {
            weight: weights.get("weight", &[size])?,
            eps,
        })
    }

    /// For checkpoints that store each weight's distance from one, as Gemma's do.
    ///
    /// The sum is kept in fp32, since bf16 would round it to eight bits.
    pub fn load_from_one(weights: &Weights, size: usize, eps: f64) -> Result<RmsNorm> {
        let stored = weights.get("weight", &[size])?.to_dtype(DType::F32)?;
        Ok(RmsNorm {
            weight: (stored + 1.0)?,
            eps,
        })
    }

    /// Normalises heads (tokens, heads, head size), each separately or those of a token together, depending on the
    /// number of weights.
    pub fn forward_heads(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let size = self.weight.elem_count();
        match x.dim(2)? == size {
            true => self.forward(x),
            false => self.forward(&x.reshape(((), size))?)?.reshape(x.shape()),
        }
    }

    /// Normalises the last dimension.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if x.dtype() != self.weight.dtype() {
            let wide = x.to_dtype(self.weight.dtype())?;
            return self.forward(&wide)?.to_dtype(x.dtype());
        }
        if x.track_op() || self.weight.track_op() {
            return candle_nn::ops::rms_norm_slow(x, &self.weight, self.eps as f32);
        }
        if rowwise::suits(&[x, &self.weight]) {
            return rowwise::rms_norm(x, &self.weight, self.eps as f32);
        }
        candle_nn::ops::rms_norm(&x.contiguous()?, &self.weight, self.eps as f32)
    }
}

/// Adds a layer's output to x.
pub fn residual(x: &Tensor, y: &Tensor) -> candle_core::Result<Tensor> {
    match rowwise::suits(&[x, y]) {
        true => rowwise::sum(x, y),
        false => x + y,
    }
}

/// Subtraction of the mean, division by the standard deviation, then a weight and a bias for each channel. Computed in
/// fp32.
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    pub fn load(weights: &Weights, size: usize, eps: f64) -> Result<LayerNorm> {
        let of = |name| Ok::<_, crate::Error>(weights.get(name, &[size])?.to_dtype(DType::F32)?);
        Ok(LayerNorm {
            weight: of("weight")?,
            bias: of("bias")?,
            eps,
        })
    }

    #[cfg(test)]
    pub(crate) fn of(weight: Tensor, bias: Tensor, eps: f64) -> LayerNorm {
        LayerNorm { weight, bias, eps }
    }

    /// Normalises the last dimension.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        if x.dtype() != DType::F32 {
            return self.forward(&x.to_dtype(DType::F32)?)?.to_dtype(x.dtype());
        }
        let (weight, bias, eps) = (&self.weight, &self.bias, self.eps as f32);
        if x.track_op() || weight.track_op() {
            return candle_nn::ops::layer_norm_slow(x, weight, bias, eps);
        }
        if rowwise::suits(&[x, weight, bias]) {
            return rowwise::layer_norm(x, weight, bias, eps);
        }
        candle_nn::ops::layer_norm(&x.contiguous()?, weight, bias, eps)
    }

    /// Passes the normalised rows of x (rows, size), computed on demand, to `take`; none if this crate's loops cannot
    /// do that.
    pub(crate) fn lend<T>(&self, x: &Tensor, take: impl FnOnce(ProductInput) -> T) -> candle_core::Result<Option<T>> {
        let (weight, bias) = (&self.weight, &self.bias);
        match rowwise::suits(&[x, weight, bias]) && x.dims().len() == 2 {
            true => {
                let given = |rows, inputs, make: &MakeRow| take(ProductInput::Made { rows, inputs, make });
                rowwise::lend_layer_norm(x, weight, bias, self.eps as f32, given).map(Some)
            }
            false => Ok(None),
        }
    }
}
