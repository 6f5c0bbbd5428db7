//! Matrix products with weights of any stored type.

use crate::lora::Site;
use crate::norms::{LayerNorm, residual};
use crate::{Loras, Matrix, Result, Weights};
use candle_core::Tensor;
use kernels::epilogue::Epilogue;
use kernels::gelu::gelu;
use kernels::product_input::ProductInput;
use kernels::rowwise;
use std::sync::Arc;

/// `x W^T + b` over the last dimension.
///
/// A model file uses only `load` and `forward`. The stored type follows from what [`Weights`] holds under the layer's
/// name, and [`Matrix`] chooses the kernel.
pub struct Linear {
    weight: Matrix,
    bias: Option<Tensor>,
    /// The LoRAs of this layer.
    lora: Option<Arc<Site>>,
    name: String,
}

impl Linear {
    /// Reads `weight` (out, in), and `bias` (out) if it has one.
    pub fn load(weights: &Weights, inputs: usize, outputs: usize, bias: bool) -> Result<Linear> {
        let weight = weights.matrix("weight", outputs, inputs)?;
        Ok(Linear {
            bias: bias.then(|| weights.get("bias", &[outputs])).transpose()?,
            lora: Some(Loras::of(weights).site(&weights.path(""), &weight, weights.device())),
            weight,
            name: weights.path(""),
        })
    }

    /// A layer over an existing matrix (out, in), such as a tied embedding table.
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

    /// Several layers of the same x: faster together than one by one.
    pub fn forward_all<const COUNT: usize>(
        layers: [&Linear; COUNT],
        x: &Tensor,
    ) -> candle_core::Result<[Tensor; COUNT]> {
        if let Some(all) = Linear::direct(layers, ProductInput::Tensor(x))? {
            return Ok(all);
        }
        let made = Matrix::products(&layers.map(|layer| &layer.weight), x)?;
        let all = made.into_iter().zip(layers).map(|(y, layer)| layer.joined(y, x));
        of_all(all.collect::<candle_core::Result<_>>()?)
    }

    /// The same for x after a norm.
    pub(crate) fn forward_all_normed<const COUNT: usize>(
        layers: [&Linear; COUNT],
        norm: &LayerNorm,
        x: &Tensor,
    ) -> candle_core::Result<[Tensor; COUNT]> {
        match norm
            .lend(x, |given| Linear::direct(layers, given))?
            .transpose()?
            .flatten()
        {
            Some(all) => Ok(all),
            None => Linear::forward_all(layers, &norm.forward(x)?),
        }
    }

    fn direct<const COUNT: usize>(
        layers: [&Linear; COUNT],
        x: ProductInput,
    ) -> candle_core::Result<Option<[Tensor; COUNT]>> {
        if !layers.iter().all(|layer| layer.is_plain()) {
            return Ok(None);
        }
        let whole = layers.map(|layer| (&layer.weight, layer.bias.as_ref()));
        let all = Matrix::products_then(&whole, x, Epilogue::default())?;
        all.map(of_all).transpose()
    }

    /// Adds the bias and the LoRAs.
    fn joined(&self, y: Tensor, x: &Tensor) -> candle_core::Result<Tensor> {
        let y = match &self.bias {
            Some(bias) if rowwise::suits(&[&y, bias]) => rowwise::sum(&y, bias)?,
            Some(bias) => y.broadcast_add(bias)?,
            None => y,
        };
        match &self.lora {
            Some(site) => site.add_to(y, x),
            None => Ok(y),
        }
    }

    /// (rows, in) to (rows, out), with an epilogue.
    pub(crate) fn forward_then(&self, x: &Tensor, after: Epilogue) -> candle_core::Result<Tensor> {
        if let Some(y) = self.forward_given(ProductInput::Tensor(x), after)? {
            return Ok(y);
        }
        let y = self.forward(x)?;
        let y = if after.gelu { gelu(&y)? } else { y };
        match after.plus {
            Some(plus) => residual(plus, &y),
            None => Ok(y),
        }
    }

    /// The same for rows that may be computed on demand; none if these loops cannot do that.
    pub(crate) fn forward_given(&self, x: ProductInput, after: Epilogue) -> candle_core::Result<Option<Tensor>> {
        if !self.is_plain() {
            return Ok(None);
        }
        let made = Matrix::products_then(&[(&self.weight, self.bias.as_ref())], x, after)?;
        Ok(made.and_then(|mut made| made.pop()))
    }

    /// Two layers in sequence of x after a norm, each with its epilogue.
    pub(crate) fn forward_two_normed(
        layers: [&Linear; 2],
        norm: &LayerNorm,
        x: &Tensor,
        [between, after]: [Epilogue; 2],
    ) -> candle_core::Result<Tensor> {
        if layers.iter().all(|layer| layer.is_plain()) {
            let whole = layers.map(|layer| (&layer.weight, layer.bias.as_ref()));
            let direct = |given: ProductInput| Matrix::two_products_then(whole, given, [between, after]);
            if let Some(y) = norm.lend(x, direct)?.transpose()?.flatten() {
                return Ok(y);
            }
        }
        let h = layers[0].forward_then(&norm.forward(x)?, between)?;
        layers[1].forward_then(&h, after)
    }

    /// Whether no LoRA changes this layer in the current pass.
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

pub(crate) fn of_all<const COUNT: usize>(all: Vec<Tensor>) -> candle_core::Result<[Tensor; COUNT]> {
    let count = |all: Vec<_>| candle_core::Error::Msg(format!("{} products of {COUNT} layers", all.len()));
    all.try_into().map_err(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::quantized::GgmlDType;
    use candle_core::{DType, Device};
    use kernels::device::elsewhere;

    fn random(shape: &[usize]) -> Tensor {
        Tensor::randn(0f32, 0.3, shape, &Device::Cpu).unwrap()
    }

    fn layer(stored: &str, inputs: usize, outputs: usize) -> Linear {
        let weight = random(&[outputs, inputs]);
        let matrix = match stored {
            "q8_0" => Matrix::quantise(&weight, GgmlDType::Q8_0, DType::F32, &Device::Cpu).unwrap(),
            "bf16" => Matrix::new(weight.to_dtype(DType::BF16).unwrap()).unwrap(),
            _ => Matrix::new(weight).unwrap(),
        };
        Linear::over(matrix, stored).with_bias(random(&[outputs]))
    }

    fn values(x: &Tensor) -> Vec<f32> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    /// Norm, product, bias, GELU, product, bias and sum, together and one after the other.
    #[track_caller]
    fn check(stored: [&str; 2], rows: usize) {
        let (wide, narrow) = (layer(stored[0], 96, 200), layer(stored[1], 200, 96));
        let norm = LayerNorm::of(random(&[96]), random(&[96]), 1e-5);
        let x = random(&[rows, 96]);
        let after = [Epilogue::GELU, Epilogue::adding(&x)];
        let at_once = Linear::forward_two_normed([&wide, &narrow], &norm, &x, after).unwrap();
        let apart = wide.forward_then(&norm.forward(&x).unwrap(), Epilogue::GELU).unwrap();
        let apart = narrow.forward_then(&apart, Epilogue::adding(&x)).unwrap();
        assert_eq!(values(&at_once), values(&apart), "{stored:?}, {rows} rows");

        let [one, other] = Linear::forward_all_normed([&wide, &wide], &norm, &x).unwrap();
        let apart = wide.forward(&norm.forward(&x).unwrap()).unwrap();
        assert_eq!(values(&one), values(&apart), "{stored:?}, {rows} rows");
        assert_eq!(values(&one), values(&other));

        let _elsewhere = elsewhere();
        let slowly = Linear::forward_two_normed([&wide, &narrow], &norm, &x, after).unwrap();
        let apart = (slowly - at_once).unwrap().abs().unwrap();
        let apart = apart.max_all().unwrap().to_scalar::<f32>().unwrap();
        let bound = if stored == ["fp32"; 2] { 1e-4 } else { 0.3 }; // on other processors, blocks and bf16 are rounded differently
        assert!(apart <= bound, "{stored:?}, {rows} rows: {apart}");
    }

    #[test]
    fn layers_in_one_go_are_what_they_are_one_by_one() {
        for rows in [1, 5, 13, 500] {
            for stored in [
                ["fp32", "fp32"],
                ["bf16", "bf16"],
                ["q8_0", "bf16"],
                ["bf16", "q8_0"],
                ["fp32", "bf16"],
            ] {
                check(stored, rows);
            }
        }
    }
}
