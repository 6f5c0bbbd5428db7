//! The layers, in the order a token meets them.

use crate::config::Config;
use candle_core::{DType, Device, Tensor};
use nn::{
    Attention, Blueprint, Embedding, HeadNorms, Linear, Mlp, NormNames, Qkv, Result, RmsNorm, Rope, Step, Weights,
    residual, softcap,
};

/// The prefix of the text model's tensors: in text checkpoints, in multimodal ones as published, and as saved by newer
/// code.
const PREFIXES: [&str; 3] = ["model", "language_model.model", "model.language_model"];

pub struct Decoder {
    embed_tokens: Embedding,
    /// The factor of embeddings.
    embed_scale: f64,
    layers: Vec<Layer>,
    norm: RmsNorm,
    lm_head: Linear,
    softcap: Option<f64>,
    context: usize,
    dtype: DType,
    device: Device,
    blueprint: Blueprint,
}

struct Layer {
    input_norm: RmsNorm,
    qkv: Qkv,
    q_norm: RmsNorm,
    k_norm: RmsNorm,
    o_proj: Linear,
    post_attention_norm: RmsNorm,
    pre_feedforward_norm: RmsNorm,
    mlp: Mlp,
    post_feedforward_norm: RmsNorm,
    attention: Attention,
}

impl Decoder {
    pub fn load(config: &Config, weights: &Weights) -> Result<Decoder> {
        let (hidden, eps) = (config.hidden_size, config.rms_norm_eps);
        let holds_text = |prefix: &&&str| weights.at(prefix).has("embed_tokens.weight");
        let model = weights.at(PREFIXES.iter().find(holds_text).unwrap_or(&PREFIXES[0]));
        let embed_tokens = Embedding::load(&model.at("embed_tokens"), config.vocab_size, hidden)?;
        let (global, local) = &config.ropes;
        let context = config.max_position_embeddings;
        let global = Rope::new(
            config.head_dim,
            global.theta(Config::GLOBAL_THETA),
            global.scaling(context)?,
        );
        let local = Rope::new(
            config.head_dim,
            local.theta(Config::LOCAL_THETA),
            local.scaling(context)?,
        );
        let attention = |index| {
            let rope = if config.is_local(index) { &local } else { &global };
            Attention {
                rope: rope.clone(),
                scale: config.query_pre_attn_scalar.powf(-0.5),
                window: config.window(index),
                // The reference reads `attn_logit_softcapping`, which no published file sets, and applies no cap.
                softcap: None,
            }
        };
        let layers: Vec<Attention> = (0..config.num_hidden_layers).map(attention).collect();
        let layer = |(index, attention): (usize, &Attention)| {
            Layer::load(config, attention.clone(), &model.at("layers").at(index))
        };
        let head = (!config.tie_word_embeddings).then(|| {
            let inside = weights.at("language_model.lm_head");
            if inside.has("weight") {
                inside
            } else {
                weights.at("lm_head")
            }
        });
        let lm_head = match &head {
            None => embed_tokens.tied_head(),
            Some(head) => Linear::load(head, hidden, config.vocab_size, false)?,
        };
        Ok(Decoder {
            embed_tokens,
            embed_scale: (hidden as f64).sqrt(),
            layers: layers.iter().enumerate().map(layer).collect::<Result<_>>()?,
            norm: RmsNorm::load_from_one(&model.at("norm"), hidden, eps)?,
            lm_head,
            softcap: config.final_logit_softcapping,
            context,
            dtype: weights.dtype(),
            device: weights.device().clone(),
            blueprint: Blueprint {
                model,
                head,
                vocabulary: config.vocab_size,
                hidden,
                inner: config.intermediate_size,
                heads: config.heads(),
                activation: config.activation()?,
                eps,
                biases: [config.attention_bias, config.attention_bias, false],
                head_norms: HeadNorms::Each,
                norms_from_one: true,
                norms: NormNames {
                    before_attention: Some("input_layernorm"),
                    behind_attention: Some("post_attention_layernorm"),
                    before_mlp: Some("pre_feedforward_layernorm"),
                    behind_mlp: Some("post_feedforward_layernorm"),
                },
                fused: [false; 2],
                embed_scale: (hidden as f64).sqrt(),
                residual_scale: 1.0,
                logit_scale: 1.0,
                softcap: config.final_logit_softcapping,
                layers,
                context,
                audio: None,
                added: Vec::new(),
            },
        })
    }
}

impl nn::Decoder for Decoder {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        // The product rounds its factor to the tensor's own type, as the reference does.
        self.embed_tokens.forward(ids)? * self.embed_scale
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
        let logits = self.lm_head.forward(hidden)?;
        match self.softcap {
            Some(cap) => softcap(&logits, cap),
            None => Ok(logits),
        }
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
    fn load(config: &Config, attention: Attention, weights: &Weights) -> Result<Layer> {
        let (hidden, eps, head) = (config.hidden_size, config.rms_norm_eps, config.head_dim);
        let heads = config.heads();
        let own = weights.at("self_attn");
        let norm = |name| RmsNorm::load_from_one(&weights.at(name), hidden, eps);
        let activation = config.activation()?;
        Ok(Layer {
            input_norm: norm("input_layernorm")?,
            qkv: Qkv::load(&own, hidden, heads, config.attention_bias)?,
            q_norm: RmsNorm::load_from_one(&own.at("q_norm"), head, eps)?,
            k_norm: RmsNorm::load_from_one(&own.at("k_norm"), head, eps)?,
            o_proj: Linear::load(&own.at("o_proj"), heads.queries * head, hidden, config.attention_bias)?,
            post_attention_norm: norm("post_attention_layernorm")?,
            pre_feedforward_norm: norm("pre_feedforward_layernorm")?,
            mlp: Mlp::load(&weights.at("mlp"), hidden, config.intermediate_size, activation, false)?,
            post_feedforward_norm: norm("post_feedforward_layernorm")?,
            attention,
        })
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        let h = self.input_norm.forward(x)?;
        let (q, k, v) = self.qkv.heads(&h)?; // each (tokens, heads, head_dim)
        let q = step.rope(&self.q_norm.forward(&q)?)?;
        let k = step.rope(&self.k_norm.forward(&k)?)?;
        let h = self.o_proj.forward(&step.attend(&q, &k, &v)?)?;
        let x = residual(x, &self.post_attention_norm.forward(&h)?)?;
        let h = self.mlp.forward(&self.pre_feedforward_norm.forward(&x)?)?;
        residual(&x, &self.post_feedforward_norm.forward(&h)?)
    }
}
