//! Connects the two encoders and the language model: a Q-Former that reads a third of a second at a time.

use crate::config::{ConnectorConfig, QformerConfig};
use candle_core::{D, Tensor};
use nn::{Activation, LayerNorm, Linear, Result, Weights};

const EPS: f64 = 1e-5;

pub struct Connector {
    ln_speech: LayerNorm,
    ln_audio: LayerNorm,
    queries: Tensor, // (1, queries, width), normalised
    layers: Vec<Layer>,
    speech_llama_proj: Linear,
    window: usize,
    stride: usize,
}

impl Connector {
    /// `speech` and `sound` are the widths of the two encoders, `hidden` is the language model's.
    pub fn load(
        config: &ConnectorConfig,
        weights: &Weights,
        speech: usize,
        sound: usize,
        hidden: usize,
    ) -> Result<Connector> {
        let qformer = &config.qformer;
        let width = qformer.hidden_size;
        let bert = weights.at("speech_Qformer.bert");
        let tokens = weights.get("speech_query_tokens", &[1, config.queries, width])?;
        let norm = LayerNorm::load(&bert.at("embeddings.LayerNorm"), width, qformer.layer_norm_eps)?;
        let layers = (0..qformer.num_hidden_layers)
            .map(|index| Layer::load(qformer, speech + sound, &bert.at("encoder.layer").at(index)));
        Ok(Connector {
            ln_speech: LayerNorm::load(&weights.at("ln_speech"), speech, EPS)?,
            ln_audio: LayerNorm::load(&weights.at("ln_audio"), sound, EPS)?,
            queries: norm.forward(&tokens)?,
            layers: layers.collect::<Result<_>>()?,
            speech_llama_proj: Linear::load(&weights.at("speech_llama_proj"), width, hidden, true)?,
            window: config.window,
            stride: config.stride,
        })
    }

    /// How many vectors this many steps of both encoders become.
    pub fn tokens(&self, speech: usize, sound: usize) -> usize {
        self.starts(speech.max(sound)).count() * self.queries.dims()[1]
    }

    /// Where windows begin.
    fn starts(&self, steps: usize) -> impl Iterator<Item = usize> + use<> {
        (0..steps + 1 - self.window.min(steps + 1)).step_by(self.stride)
    }

    /// Turns the encoders' outputs, each (steps, width), into vectors (tokens, hidden) for the language model.
    pub fn forward(&self, speech: &Tensor, sound: &Tensor) -> candle_core::Result<Tensor> {
        let (speech, sound) = (self.ln_speech.forward(speech)?, self.ln_audio.forward(sound)?);
        // The shorter one is padded with zeros after its norm.
        let steps = speech.dim(0)?.max(sound.dim(0)?);
        let fill = |x: Tensor| x.pad_with_zeros(0, 0, steps - x.dim(0)?);
        let both = Tensor::cat(&[fill(speech)?, fill(sound)?], 1)?;
        let windows: Vec<Tensor> = self
            .starts(steps)
            .map(|start| both.narrow(0, start, self.window))
            .collect::<candle_core::Result<_>>()?;
        let windows = Tensor::stack(&windows, 0)?; // (windows, steps of each, width)
        let (_, queries, width) = self.queries.dims3()?;
        let mut x = self.queries.expand((windows.dim(0)?, queries, width))?.contiguous()?;
        for layer in &self.layers {
            x = layer.forward(&x, &windows)?;
        }
        self.speech_llama_proj.forward(&x.flatten_to(1)?)
    }
}

struct Layer {
    attention: Attention,
    crossattention: Attention,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn load(config: &QformerConfig, source: usize, weights: &Weights) -> Result<Layer> {
        let (width, inner) = (config.hidden_size, config.intermediate_size);
        let output = weights.at("output_query");
        Ok(Layer {
            attention: Attention::load(config, width, &weights.at("attention"))?,
            crossattention: Attention::load(config, source, &weights.at("crossattention"))?,
            intermediate: Linear::load(&weights.at("intermediate_query.dense"), width, inner, true)?,
            output: Linear::load(&output.at("dense"), inner, width, true)?,
            output_norm: LayerNorm::load(&output.at("LayerNorm"), width, config.layer_norm_eps)?,
        })
    }

    fn forward(&self, x: &Tensor, source: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.attention.forward(x, x)?;
        let x = self.crossattention.forward(&x, source)?;
        let h = Activation::GeluErf.forward(&self.intermediate.forward(&x)?)?;
        self.output_norm.forward(&(self.output.forward(&h)? + x)?)
    }
}

/// BERT's attention, with its residual and its norm.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    heads: usize,
}

impl Attention {
    fn load(config: &QformerConfig, source: usize, weights: &Weights) -> Result<Attention> {
        let width = config.hidden_size;
        let (inner, output) = (weights.at("self"), weights.at("output"));
        Ok(Attention {
            query: Linear::load(&inner.at("query"), width, width, true)?,
            key: Linear::load(&inner.at("key"), source, width, true)?,
            value: Linear::load(&inner.at("value"), source, width, true)?,
            dense: Linear::load(&output.at("dense"), width, width, true)?,
            norm: LayerNorm::load(&output.at("LayerNorm"), width, config.layer_norm_eps)?,
            heads: config.num_attention_heads,
        })
    }

    /// For each window: x (windows, queries, width) attends to `source` (windows, steps, width).
    fn forward(&self, x: &Tensor, source: &Tensor) -> candle_core::Result<Tensor> {
        let split = |y: Tensor| {
            let (windows, steps, width) = y.dims3()?;
            let y = y.reshape((windows, steps, self.heads, width / self.heads))?;
            y.transpose(1, 2)?.contiguous()
        };
        let q = split(self.query.forward(x)?)?;
        let (k, v) = (split(self.key.forward(source)?)?, split(self.value.forward(source)?)?);
        let scale = (q.dim(D::Minus1)? as f64).sqrt();
        let scores = (q.matmul(&k.t()?)? / scale)?;
        let mixed = candle_nn::ops::softmax_last_dim(&scores)?.matmul(&v)?;
        let mixed = mixed.transpose(1, 2)?.flatten_from(2)?;
        self.norm.forward(&(self.dense.forward(&mixed)? + x)?)
    }
}
