//! The decoder that most open models share (Llama, Qwen, Mistral and others), in the order in which a token passes its
//! layers.
//!
//! Usually a model has a file of its own. This one is in the kit because text and audio models have the same language
//! model. [`Config`] resolves the differences between classes.

mod audio;
mod class;
mod config;
mod tower;

use crate::{Attention, Blueprint, Embedding, Linear, Mlp, Qkv, Result, RmsNorm, Rope, Step, Weights, residual};
pub use audio::{AudioEncoder, AudioLanguageModel, Parts};
use candle_core::{DType, Device, Tensor};
pub use config::{Config, TextConfig};
pub use tower::{AudioTower, OUTSIDE_LANGUAGE_MODEL, Shape as TowerShape};

pub struct Decoder {
    embed_tokens: Embedding,
    embed_scale: f64,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
    logit_scale: f64,
    context: usize,
    dtype: DType,
    device: Device,
    blueprint: Blueprint,
}

struct Layer {
    before_attention: Option<RmsNorm>,
    qkv: Qkv,
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    o_proj: Linear,
    behind_attention: Option<RmsNorm>,
    before_mlp: Option<RmsNorm>,
    mlp: Mlp,
    behind_mlp: Option<RmsNorm>,
    residual_scale: f64,
    attention: Attention,
}

impl Decoder {
    /// Reads `model.*` and `lm_head` below this point in the checkpoint.
    pub fn load(config: &Config, weights: &Weights) -> Result<Decoder> {
        Decoder::of_parts(config, &weights.at("model"), &weights.at("lm_head"))
    }

    /// Reads the layers and the head from these prefixes.
    pub fn of_parts(config: &Config, model: &Weights, lm_weights: &Weights) -> Result<Decoder> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let embed_tokens = Embedding::load(&model.at("embed_tokens"), config.vocab_size, hidden)?;
        let attention = attention(config);
        let layers = attention.iter().enumerate();
        let layers = layers
            .map(|(index, attention)| Layer::load(config, attention, &model.at("layers").at(index)))
            .collect::<Result<_>>()?;
        // Some files store the head although it is tied: the copy is ignored.
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.tied_head(),
            false => Linear::load(lm_weights, hidden, config.vocab_size, false)?,
        };
        Ok(Decoder {
            embed_tokens,
            embed_scale: config.embed_scale,
            layers,
            norm: RmsNorm::load(&model.at("norm"), hidden, eps)?,
            lm_head,
            logit_scale: config.logit_scale,
            context: config.max_position_embeddings,
            dtype: model.dtype(),
            device: model.device().clone(),
            blueprint: blueprint(config, attention, model, lm_weights),
        })
    }
}

/// How each layer attends.
fn attention(config: &Config) -> Vec<Attention> {
    let rope = Rope::new(config.rope_channels, config.rope_theta, config.rope_scaling.clone());
    let (rope, none) = (rope.with_pairs(config.rope_pairs), Rope::none());
    let layer = |index| Attention {
        rope: if config.turns(index) {
            rope.clone()
        } else {
            none.clone()
        },
        scale: config.attention_scale,
        window: config.window(index),
        softcap: None,
    };
    (0..config.num_hidden_layers).map(layer).collect()
}

/// The blueprint of a config, with its weights.
fn blueprint(config: &Config, layers: Vec<Attention>, model: &Weights, lm_head: &Weights) -> Blueprint {
    Blueprint {
        model: model.clone(),
        head: (!config.tie_word_embeddings).then(|| lm_head.clone()),
        vocabulary: config.vocab_size,
        hidden: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.heads(),
        activation: config.activation,
        eps: config.rms_norm_eps,
        biases: [config.qkv_bias, config.o_bias, config.mlp_bias],
        head_norms: config.head_norms,
        norms_from_one: false,
        norms: config.norms,
        fused: config.fused,
        embed_scale: config.embed_scale,
        residual_scale: config.residual_scale,
        logit_scale: config.logit_scale,
        softcap: None,
        layers,
        context: config.max_position_embeddings,
        audio: None,
        added: Vec::new(),
    }
}

impl crate::Decoder for Decoder {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        scaled(self.embed_tokens.forward(ids)?, self.embed_scale)
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        let mut x = x.clone();
        for (index, layer) in self.layers.iter().enumerate() {
            step.enter(index, &layer.attention, self.dtype, &self.device)?;
            x = layer.forward(&x, step)?;
        }
        self.norm.forward(&x)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        scaled(self.lm_head.forward(hidden)?, self.logit_scale)
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn context(&self) -> usize {
        self.context
    }

    fn blueprint(&self) -> Option<Blueprint> {
        Some(self.blueprint.clone())
    }
}

impl Layer {
    fn load(config: &Config, attention: &Attention, weights: &Weights) -> Result<Layer> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let heads = config.heads();
        let own = weights.at("self_attn");
        let norm = |name: Option<&str>| {
            name.map(|name| RmsNorm::load(&weights.at(name), hidden, eps))
                .transpose()
        };
        let head_norm = |name, count| {
            let size = config.head_norms.size(count, heads.size);
            size.map(|size| RmsNorm::load(&own.at(name), size, eps)).transpose()
        };
        let [fused_qkv, fused_mlp] = config.fused;
        Ok(Layer {
            before_attention: norm(config.norms.before_attention)?,
            qkv: match fused_qkv {
                true => Qkv::load_fused(&own, hidden, heads, config.qkv_bias)?,
                false => Qkv::load(&own, hidden, heads, config.qkv_bias)?,
            },
            q_norm: head_norm("q_norm", heads.queries)?,
            k_norm: head_norm("k_norm", heads.keys)?,
            o_proj: Linear::load(&own.at("o_proj"), heads.queries * heads.size, hidden, config.o_bias)?,
            behind_attention: norm(config.norms.behind_attention)?,
            before_mlp: norm(config.norms.before_mlp)?,
            mlp: match fused_mlp {
                true => Mlp::load_fused(&weights.at("mlp"), hidden, inner, config.activation)?,
                false => Mlp::load(&weights.at("mlp"), hidden, inner, config.activation, config.mlp_bias)?,
            },
            behind_mlp: norm(config.norms.behind_mlp)?,
            residual_scale: config.residual_scale,
            attention: attention.clone(),
        })
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        let (mut q, mut k, v) = self.qkv.heads(&normed(&self.before_attention, x)?)?; // each (tokens, heads, head_dim)
        if let (Some(q_norm), Some(k_norm)) = (&self.q_norm, &self.k_norm) {
            (q, k) = (q_norm.forward_heads(&q)?, k_norm.forward_heads(&k)?);
        }
        let (q, k) = (step.rope(&q)?, step.rope(&k)?);
        let h = self.o_proj.forward(&step.attend(&q, &k, &v)?)?;
        let x = self.added(x, &normed(&self.behind_attention, &h)?)?;
        let h = self.mlp.forward(&normed(&self.before_mlp, &x)?)?;
        self.added(&x, &normed(&self.behind_mlp, &h)?)
    }

    /// Adds the output of one half of the layer to x.
    fn added(&self, x: &Tensor, h: &Tensor) -> candle_core::Result<Tensor> {
        residual(x, &scaled(h.clone(), self.residual_scale)?)
    }
}

/// x after a norm, if there is one.
fn normed(norm: &Option<RmsNorm>, x: &Tensor) -> candle_core::Result<Tensor> {
    match norm {
        Some(norm) => norm.forward(x),
        None => Ok(x.clone()),
    }
}

fn scaled(x: Tensor, scale: f64) -> candle_core::Result<Tensor> {
    if scale == 1.0 { Ok(x) } else { x * scale }
}
