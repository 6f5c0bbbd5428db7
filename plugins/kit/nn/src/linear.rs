//! Matrix products with weights: the one entry point, whatever the weights are stored as.

use crate::after::After;
use crate::gelu::gelu;
use crate::layers::residual;
use crate::lora::Site;
use crate::{Matrix, Result, Weights, by_row};
use candle_core::Tensor;
use std::sync::Arc;

/// `x W^T + b` over the last dimension.
///
/// A model file sees only `load` and `forward`. What stands behind them is decided here, from what [`Weights`] holds
/// under the layer's name; how the product is made, by [`Matrix`].
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
    /// Where LoRAs join in.
    lora: Option<Arc<Site>>,
    name: String,
}

impl Linear {
    /// Reads `weight` (out, in), and `bias` (out) if it has one.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let weight = weights.matrix("weight", outputs, inputs)?;
        Ok(Linear {
            bias: bias.then(|| weights.get("bias", &[outputs])).transpose()?,
            lora: Some(weights.lora_site("", &weight)),
            weight,
            name: weights.path(""),
        })
    }

    /// A layer over a matrix (out, in) that is at hand already, such as a tied embedding table.
    pub fn over(weight: Matrix, name: impl Into<String>) -> Linear {
        Linear {
            weight,
            bias: None,
            lora: None,
            name: name.into(),
        }
    }

    pub(crate) fn with_bias(mut self, bias: Tensor) -> Linear {
        self.bias = Some(bias);
        self
    }

    pub(crate) fn with_lora(mut self, site: Arc<Site>) -> Linear {
        self.lora = Some(site);
        self
    }

    /// (…, in) to (…, out).
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.joined(self.weight.product(x)?, x)
    }

    /// What each of several layers makes of the same x: together faster than one by one.
    pub fn forward_all<const COUNT: usize>(
        layers: [&Linear; COUNT],
        x: &Tensor,
    ) -> candle_core::Result<[Tensor; COUNT]> {
        let whole = layers.map(|layer| (&layer.weight, layer.bias.as_ref()));
        let plain = layers.iter().all(|layer| layer.is_plain());
        let made = match plain {
            true => Matrix::products_then(&whole, x, After::default())?,
            false => None,
        };
        let all = match made {
            Some(all) => all,
            None => {
                let made = Matrix::products(&layers.map(|layer| &layer.weight), x)?;
                let all = made.into_iter().zip(layers).map(|(y, layer)| layer.joined(y, x));
                all.collect::<candle_core::Result<_>>()?
            }
        };
        all.try_into()
            .map_err(|all: Vec<_>| candle_core::Error::Msg(format!("{} products of {COUNT} layers", all.len())))
    }

    /// With the bias, and with what LoRAs add.
    fn joined(&self, y: Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.bias {
            Some(bias) if by_row::suits(&[&y, bias]) => by_row::sum(&y, bias)?,
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        match &self.lora {
            Some(site) => site.add_to(y, x),
            None => Ok(y),
        }
    }

    /// (rows, in) to (rows, out), and what follows.
    pub(crate) fn forward_then(&self, x: &Tensor, after: After) -> candle_core::Result<Tensor> {
        if self.is_plain() {
            let made = Matrix::products_then(&[(&self.weight, self.bias.as_ref())], x, after)?;
            if let Some(y) = made.and_then(|mut made| made.pop()) {
                return Ok(y);
            }
        }
        let y = self.forward(x)?;
        let y = if after.gelu { gelu(&y)? } else { y };
        match after.plus {
            Some(plus) => residual(plus, &y),
            None => Ok(y),
        }
    }

    /// Whether no LoRA adds anything in this pass.
    fn is_plain(&self) -> bool {
        self.lora.as_ref().is_none_or(|site| site.is_idle())
    }

    /// The layer's full name in the checkpoint, by which adapters find it.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn weight(&self) -> &Matrix {
        &self.weight
    }
}
