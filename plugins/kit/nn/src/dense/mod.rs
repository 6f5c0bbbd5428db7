//! The decoder that most open models share, in the order a token meets its layers: Llama's, Qwen2's and Qwen3's.
//!
//! A model file of its own is the rule here; this one is in the kit because the text models and every model that
//! hears have the very same language model. What the three differ in is settled by [`Config`].

mod audio;
mod config;

use crate::{Attention, Blueprint, Embedding, Linear, Mlp, Qkv, Result, RmsNorm, Rope, Step, Weights, residual};
pub use audio::{AudioEncoder, AudioLanguageModel, Parts};
use candle_core::{DType, Device, Tensor};
pub use config::{Config, TextConfig};

pub struct Decoder {
    embed_tokens: Embedding,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
    context: usize,
    dtype: DType,
    device: Device,
    blueprint: Blueprint,
}

struct Layer {
    input_norm: RmsNorm,
    qkv: Qkv,
    head_norms: Option<HeadNorms>,
    o_proj: Linear,
    post_attention_norm: RmsNorm,
    mlp: Mlp,
    attention: Attention,
}

/// What Qwen3 does to queries and keys, before they are turned by their positions.
struct HeadNorms {
    q_norm: RmsNorm,
    k_norm: RmsNorm,
}

impl Decoder {
    /// Reads `model.*` and `lm_head` below this point in the checkpoint.
    pub fn load(config: &Config, weights: &Weights) -> Result<Decoder> {
        Decoder::of_parts(config, &weights.at("model"), &weights.at("lm_head"))
    }

    /// Reads the layers and the head from where they stand.
    pub fn of_parts(config: &Config, model: &Weights, lm_weights: &Weights) -> Result<Decoder> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let embed_tokens = Embedding::load(&model.at("embed_tokens"), config.vocab_size, hidden)?;
        let rope = Rope::new(config.head_dim, config.rope_theta, config.rope_scaling);
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::load(config, index, &rope, &model.at("layers").at(index)))
            .collect::<Result<_>>()?;
        // Some files store the head although it is tied: it is the same matrix, and is passed over.
        let lm_head = match config.tie_word_embeddings {
            true => embed_tokens.tied_head(),
            false => Linear::load(lm_weights, hidden, config.vocab_size, false)?,
        };
        Ok(Decoder {
            embed_tokens,
            layers,
            norm: RmsNorm::load(&model.at("norm"), hidden, eps)?,
            lm_head,
            context: config.max_position_embeddings,
            dtype: model.dtype(),
            device: model.device().clone(),
            blueprint: blueprint(config, &rope, model, lm_weights),
        })
    }
}

/// The decoder of a config, its weights where they stand.
fn blueprint(config: &Config, rope: &Rope, model: &Weights, lm_head: &Weights) -> Blueprint {
    let attention = |index| Attention {
        window: config.window(index),
        ..Attention::plain(rope.clone(), config.head_dim)
    };
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
        norms_behind: false,
        embed_scale: 1.0,
        softcap: None,
        layers: (0..config.num_hidden_layers).map(attention).collect(),
        context: config.max_position_embeddings,
        audio: None,
    }
}

impl crate::Decoder for Decoder {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.embed_tokens.forward(ids)
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
        self.lm_head.forward(hidden)
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
    fn load(config: &Config, index: usize, rope: &Rope, weights: &Weights) -> Result<Layer> {
        let (hidden, eps, head) = (config.hidden_size, config.rms_norm_eps, config.head_dim);
        let heads = config.heads();
        let attention = weights.at("self_attn");
        let head_norms = || {
            Ok::<_, crate::Error>(HeadNorms {
                q_norm: RmsNorm::load(&attention.at("q_norm"), head, eps)?,
                k_norm: RmsNorm::load(&attention.at("k_norm"), head, eps)?,
            })
        };
        Ok(Layer {
            input_norm: RmsNorm::load(&weights.at("input_layernorm"), hidden, eps)?,
            qkv: Qkv::load(&attention, hidden, heads, config.qkv_bias)?,
            head_norms: config.head_norms.then(head_norms).transpose()?,
            o_proj: Linear::load(&attention.at("o_proj"), heads.queries * head, hidden, config.o_bias)?,
            post_attention_norm: RmsNorm::load(&weights.at("post_attention_layernorm"), hidden, eps)?,
            mlp: Mlp::load(
                &weights.at("mlp"),
                hidden,
                config.intermediate_size,
                config.activation,
                config.mlp_bias,
            )?,
            attention: Attention {
                window: config.window(index),
                ..Attention::plain(rope.clone(), head)
            },
        })
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        let h = self.input_norm.forward(x)?;
        let (mut q, mut k, v) = self.qkv.heads(&h)?; // each (tokens, heads, head_dim)
        if let Some(HeadNorms { q_norm, k_norm }) = &self.head_norms {
            (q, k) = (q_norm.forward(&q)?, k_norm.forward(&k)?);
        }
        let (q, k) = (step.rope(&q)?, step.rope(&k)?);
        let x = residual(x, &self.o_proj.forward(&step.attend(&q, &k, &v)?)?)?;
        let h = self.post_attention_norm.forward(&x)?;
        residual(&x, &self.mlp.forward(&h)?)
    }
}
