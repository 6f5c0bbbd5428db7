//! The small layers: embedding, normalisation, projections to heads, gated feed-forward.
//!
//! Fused kernels of candle silently drop gradients. So each layer uses them only if neither its input nor its weights
//! track gradients, and differentiable operations otherwise.

use crate::{Linear, Loras, Matrix, Result, Weights};
use candle_core::{D, DType, Device, Tensor};
use kernels::{exponential, gelu, rowwise};

/// A table of token vectors.
pub struct Embedding {
    table: Matrix, // (vocabulary, hidden)
    dtype: DType,
    name: String,
    loras: Loras,
    device: Device,
}

impl Embedding {
    pub fn load(weights: &Weights, rows: usize, hidden: usize) -> Result<Embedding> {
        Ok(Embedding {
            table: weights.table("weight", rows, hidden)?,
            dtype: weights.dtype(),
            name: weights.path(""),
            loras: Loras::of(weights),
            device: weights.device().clone(),
        })
    }

    /// Token ids (tokens) to vectors (tokens, hidden).
    pub fn forward(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.table.rows(ids, self.dtype)
    }

    /// The output layer of a model whose head is tied to this table.
    pub fn tied_head(&self) -> Linear {
        let site = self.loras.tied_head(&self.table, &self.device);
        Linear::over(self.table.clone(), self.name.clone()).with_lora(site)
    }
}

/// Rows of a table (rows, size), by index.
pub(crate) fn select_rows(table: &Tensor, numbers: &[u32]) -> candle_core::Result<Tensor> {
    match rowwise::suits(&[table]) {
        true => rowwise::select(table, numbers),
        false => table.index_select(&Tensor::new(numbers, table.device())?, 0),
    }
}

/// How many heads an attention layer has.
#[derive(Debug, Clone, Copy)]
pub struct Heads {
    pub queries: usize,
    /// Heads of keys and values; each is shared by `queries / keys` query heads.
    pub keys: usize,
    pub size: usize,
}

/// The three projections before attention.
pub struct Qkv {
    projections: Projections<3>,
    heads: Heads,
}

/// Layers over the same input, with separate weights or as one matrix.
enum Projections<const COUNT: usize> {
    Apart([Linear; COUNT]),
    Fused(Linear, [usize; COUNT]),
}

impl<const COUNT: usize> Projections<COUNT> {
    /// The output of each for x (tokens, in).
    fn forward(&self, x: &Tensor) -> candle_core::Result<[Tensor; COUNT]> {
        match self {
            Projections::Apart(layers) => Linear::forward_all(layers.each_ref(), x),
            Projections::Fused(layer, outputs) => {
                let all = layer.forward(x)?;
                let mut start = 0;
                let each = outputs.iter().map(|&outputs| {
                    start += outputs;
                    all.narrow(D::Minus1, start - outputs, outputs)?.contiguous()
                });
                crate::linear::of_all(each.collect::<candle_core::Result<_>>()?)
            }
        }
    }
}

impl Qkv {
    pub fn load(weights: &Weights, hidden: usize, heads: Heads, bias: bool) -> Result<Qkv> {
        let project = |name, count| Linear::load(&weights.at(name), hidden, count * heads.size, bias);
        Ok(Qkv {
            projections: Projections::Apart([
                project("q_proj", heads.queries)?,
                project("k_proj", heads.keys)?,
                project("v_proj", heads.keys)?,
            ]),
            heads,
        })
    }

    /// From a checkpoint that has them as one matrix, `qkv_proj`.
    pub fn load_fused(weights: &Weights, hidden: usize, heads: Heads, bias: bool) -> Result<Qkv> {
        let outputs = [heads.queries, heads.keys, heads.keys].map(|count| count * heads.size);
        let layer = Linear::load(&weights.at("qkv_proj"), hidden, outputs.iter().sum(), bias)?;
        Ok(Qkv {
            projections: Projections::Fused(layer, outputs),
            heads,
        })
    }

    /// Queries, keys and values, each (tokens, heads, head size).
    pub fn heads(&self, x: &Tensor) -> candle_core::Result<(Tensor, Tensor, Tensor)> {
        let split = |y: Tensor, count| y.reshape((y.dim(0)?, count, self.heads.size));
        let [q, k, v] = self.projections.forward(x)?;
        Ok((
            split(q, self.heads.queries)?,
            split(k, self.heads.keys)?,
            split(v, self.heads.keys)?,
        ))
    }
}

/// The activation of a gated feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Silu,
    GeluTanh,
    GeluErf,
}

impl Activation {
    /// By its name in configs; `field` is the name of the config's field in errors.
    pub fn from_config(field: &str, name: &str) -> Result<Activation> {
        match name {
            "silu" | "swish" => Ok(Activation::Silu),
            "gelu_pytorch_tanh" | "gelu_new" => Ok(Activation::GeluTanh),
            "gelu" => Ok(Activation::GeluErf),
            got => Err(crate::Error::Config {
                what: format!("`{field}` in config.json"),
                got: format!("`{got}`"),
                expected: "silu, gelu or gelu_pytorch_tanh".to_owned(),
            }),
        }
    }

    pub fn forward(self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self {
            Activation::Silu => x.silu(),
            Activation::GeluTanh => x.gelu(),
            Activation::GeluErf => gelu::gelu(x),
        }
    }
}

/// The gated feed-forward: `down(act(gate(x)) * up(x))`.
pub struct Mlp {
    gate_and_up: Projections<2>,
    down_proj: Linear,
    activation: Activation,
}

impl Mlp {
    pub fn load(weights: &Weights, hidden: usize, inner: usize, activation: Activation, bias: bool) -> Result<Mlp> {
        let project = |name| Linear::load(&weights.at(name), hidden, inner, bias);
        let gate_and_up = Projections::Apart([project("gate_proj")?, project("up_proj")?]);
        Mlp::behind(gate_and_up, weights, [inner, hidden], activation, bias)
    }

    /// From a checkpoint that has gate and up as one matrix, `gate_up_proj`.
    pub fn load_fused(weights: &Weights, hidden: usize, inner: usize, activation: Activation) -> Result<Mlp> {
        let layer = Linear::load(&weights.at("gate_up_proj"), hidden, 2 * inner, false)?;
        let gate_and_up = Projections::Fused(layer, [inner; 2]);
        Mlp::behind(gate_and_up, weights, [inner, hidden], activation, false)
    }

    fn behind(
        gate_and_up: Projections<2>,
        weights: &Weights,
        [inner, hidden]: [usize; 2],
        activation: Activation,
        bias: bool,
    ) -> Result<Mlp> {
        Ok(Mlp {
            gate_and_up,
            down_proj: Linear::load(&weights.at("down_proj"), inner, hidden, bias)?,
            activation,
        })
    }

    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let [gate, up] = self.gate_and_up.forward(x)?;
        if self.activation == Activation::Silu && exponential::suits(&gate, &up) {
            return self.down_proj.forward(&exponential::silu_times(&gate, &up)?);
        }
        self.down_proj.forward(&(self.activation.forward(&gate)? * up)?)
    }
}

/// Limits values smoothly to -cap to cap.
pub fn softcap(x: &Tensor, cap: f64) -> candle_core::Result<Tensor> {
    (x / cap)?.tanh()? * cap
}

/// Softmax over the last dimension, computed in fp32.
pub(crate) fn softmax(x: &Tensor) -> candle_core::Result<Tensor> {
    let wide = x.to_dtype(DType::F32)?;
    let y = match wide.track_op() {
        true => candle_nn::ops::softmax(&wide, D::Minus1)?,
        false => candle_nn::ops::softmax_last_dim(&wide.contiguous()?)?,
    };
    y.to_dtype(x.dtype())
}
