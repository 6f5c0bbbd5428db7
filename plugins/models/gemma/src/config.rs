//! `config.json` as published, with the reference class's defaults for missing fields.
//!
//! Multimodal checkpoints keep the text model's part under `text_config`, and leave out much of it.

use candle_core::DType;
use nn::{Activation, Error, Heads, Result, RopeConfig, positive, read_config, within};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    pub rms_norm_eps: f64,
    pub tie_word_embeddings: bool,
    pub attention_bias: bool,
    pub hidden_activation: String,
    /// Queries are divided by its square root, whatever the head size.
    pub query_pre_attn_scalar: f64,
    pub final_logit_softcapping: Option<f64>,
    sliding_window: Option<usize>,
    /// If `layer_types` is missing, every layer whose number is a multiple of this is global.
    sliding_window_pattern: Option<usize>,
    /// The name of the same field in newer files. Files that were saved again have both.
    #[serde(rename = "_sliding_window_pattern")]
    newer_pattern: Option<usize>,
    layer_types: Option<Vec<String>>,
    use_bidirectional_attention: Option<bool>,
    /// The ropes of global and of local layers.
    #[serde(skip)]
    pub ropes: (RopeConfig, RopeConfig),
}

impl Default for Config {
    fn default() -> Config {
        Config {
            vocab_size: 262_208,
            hidden_size: 2304,
            intermediate_size: 9216,
            num_hidden_layers: 26,
            num_attention_heads: 8,
            num_key_value_heads: 4,
            head_dim: 256,
            max_position_embeddings: 131_072,
            rms_norm_eps: 1e-6,
            tie_word_embeddings: true,
            attention_bias: false,
            hidden_activation: "gelu_pytorch_tanh".to_owned(),
            query_pre_attn_scalar: 256.0,
            final_logit_softcapping: None,
            sliding_window: Some(4096),
            sliding_window_pattern: None,
            newer_pattern: None,
            layer_types: None,
            use_bidirectional_attention: None,
            ropes: Default::default(),
        }
    }
}

impl Config {
    /// The bases of the rotary embedding if a file gives none.
    pub const GLOBAL_THETA: f64 = 1_000_000.0;
    pub const LOCAL_THETA: f64 = 10_000.0;

    pub fn from_folder(folder: &Path) -> Result<Config> {
        let whole: Value = read_config(folder, &["gemma3_text", "gemma3"])?;
        let text = match whole["model_type"] == "gemma3" {
            true => &whole["text_config"],
            false => &whole,
        };
        let read = || {
            let ropes = (
                rope(text, "full_attention", "rope_theta", "rope_scaling")?,
                rope(text, "sliding_attention", "rope_local_base_freq", "")?,
            );
            Ok(Config {
                ropes,
                ..Config::deserialize(text)?
            })
        };
        let config = read().map_err(|e: serde_json::Error| Error::Malformed {
            path: folder.join("config.json"),
            reason: e.to_string(),
        })?;
        config.check().map_err(|error| error.about(folder))?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        // The limits are far above any published model, so that a damaged file cannot ask for terabytes.
        within("vocab_size", self.vocab_size, 1..=4_000_000)?;
        within("hidden_size", self.hidden_size, 1..=262_144)?;
        within("intermediate_size", self.intermediate_size, 1..=1_048_576)?;
        within("num_hidden_layers", self.num_hidden_layers, 1..=1024)?;
        within("num_attention_heads", self.num_attention_heads, 1..=4096)?;
        within(
            "num_key_value_heads",
            self.num_key_value_heads,
            1..=self.num_attention_heads,
        )?;
        within("head_dim", self.head_dim, 2..=4096)?;
        within("max_position_embeddings", self.max_position_embeddings, 2..=1 << 30)?;
        let shared = self.num_attention_heads % self.num_key_value_heads;
        within("num_attention_heads modulo num_key_value_heads", shared, 0..=0)?;
        within("head_dim modulo 2", self.head_dim % 2, 0..=0)?;
        within("sliding_window_pattern", self.pattern(), 1..=1024)?;
        within("sliding_window", self.sliding_window.unwrap_or(1), 1..=1 << 30)?;
        positive("final_logit_softcapping", self.final_logit_softcapping.unwrap_or(1.0))?;
        positive("query_pre_attn_scalar", self.query_pre_attn_scalar)?;
        positive("rms_norm_eps", self.rms_norm_eps)?;
        positive("rope_theta", self.ropes.0.theta(Config::GLOBAL_THETA))?;
        positive("rope_local_base_freq", self.ropes.1.theta(Config::LOCAL_THETA))?;
        if self.use_bidirectional_attention == Some(true) {
            return Err(Error::Config {
                what: "`use_bidirectional_attention` in config.json".to_owned(),
                got: "true, as embedding models have it".to_owned(),
                expected: "false".to_owned(),
            });
        }
        self.activation().map(|_| ())
    }

    pub fn activation(&self) -> Result<Activation> {
        Activation::from_config("hidden_activation", &self.hidden_activation)
    }

    pub fn heads(&self) -> Heads {
        Heads {
            queries: self.num_attention_heads,
            keys: self.num_key_value_heads,
            size: self.head_dim,
        }
    }

    /// Bytes of the cache of this many tokens.
    pub fn cache_bytes(&self, dtype: DType, tokens: usize) -> u64 {
        let values = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim;
        (values * dtype.size_in_bytes()) as u64 * tokens as u64
    }

    /// The window of a layer; a global layer has none.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.filter(|_| self.is_local(layer))
    }

    fn pattern(&self) -> usize {
        self.sliding_window_pattern.or(self.newer_pattern).unwrap_or(6)
    }

    pub fn is_local(&self, layer: usize) -> bool {
        match &self.layer_types {
            Some(types) => types.get(layer).is_some_and(|kind| kind == "sliding_attention"),
            None => !(layer + 1).is_multiple_of(self.pattern()),
        }
    }
}

/// The rope of one kind of layer: newer files have a table by kind, older ones a field for each number. Of a file with
/// both, the older scaling wins and the newer base, as in the reference.
fn rope(config: &Value, kind: &str, theta: &str, scaling: &str) -> serde_json::Result<RopeConfig> {
    let fields = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let mut newer = fields(&config["rope_parameters"][kind]);
    newer.extend(fields(&config[scaling]));
    newer.entry("rope_theta").or_insert_with(|| config[theta].clone());
    RopeConfig::deserialize(json!({ "rope_parameters": newer }))
}
