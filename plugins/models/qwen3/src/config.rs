//! `config.json` as published, with the defaults of the reference's class where a file leaves something out.

use nn::{Activation, Result, RopeConfig, read_config, within};
use serde::Deserialize;
use std::path::Path;

#[derive(Debug, Clone, Deserialize)]
pub struct Config {
    #[serde(default = "vocab_size")]
    pub vocab_size: usize,
    #[serde(default = "hidden_size")]
    pub hidden_size: usize,
    #[serde(default = "intermediate_size")]
    pub intermediate_size: usize,
    #[serde(default = "thirty_two")]
    pub num_hidden_layers: usize,
    #[serde(default = "thirty_two")]
    pub num_attention_heads: usize,
    #[serde(default = "thirty_two")]
    pub num_key_value_heads: usize,
    #[serde(default = "head_dim")]
    pub head_dim: usize,
    #[serde(default = "max_position_embeddings")]
    pub max_position_embeddings: usize,
    #[serde(default = "rms_norm_eps")]
    pub rms_norm_eps: f64,
    #[serde(default)]
    pub tie_word_embeddings: bool,
    #[serde(default)]
    pub attention_bias: bool,
    #[serde(default = "hidden_act")]
    pub hidden_act: String,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    #[serde(default = "max_window_layers")]
    max_window_layers: usize,
    layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    pub rope: RopeConfig,
}

impl Config {
    /// The base of the rotary embedding where a file gives none.
    pub const ROPE_THETA: f64 = 10_000.0;

    pub fn from_folder(folder: &Path) -> Result<Config> {
        let config: Config = read_config(folder, &["qwen3"])?;
        // The limits are far beyond any published model; they keep a spoilt file from asking for terabytes.
        within("vocab_size", config.vocab_size, 1..=4_000_000)?;
        within("hidden_size", config.hidden_size, 1..=262_144)?;
        within("intermediate_size", config.intermediate_size, 1..=1_048_576)?;
        within("num_hidden_layers", config.num_hidden_layers, 1..=1024)?;
        within("num_attention_heads", config.num_attention_heads, 1..=4096)?;
        within(
            "num_key_value_heads",
            config.num_key_value_heads,
            1..=config.num_attention_heads,
        )?;
        within("head_dim", config.head_dim, 2..=4096)?;
        within("max_position_embeddings", config.max_position_embeddings, 2..=1 << 30)?;
        let shared = config.num_attention_heads % config.num_key_value_heads;
        within("num_attention_heads modulo num_key_value_heads", shared, 0..=0)?;
        within("head_dim modulo 2", config.head_dim % 2, 0..=0)?;
        Activation::from_name(&config.hidden_act)?;
        Ok(config)
    }

    /// The window of a layer: the last layers have one in checkpoints that use it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        let slides = match &self.layer_types {
            Some(types) => types.get(layer).is_some_and(|kind| kind == "sliding_attention"),
            None => self.use_sliding_window && layer >= self.max_window_layers,
        };
        self.sliding_window.filter(|_| slides)
    }
}

fn vocab_size() -> usize {
    151_936
}

fn hidden_size() -> usize {
    4096
}

fn intermediate_size() -> usize {
    22_016
}

fn thirty_two() -> usize {
    32
}

fn head_dim() -> usize {
    128
}

fn max_position_embeddings() -> usize {
    32_768
}

fn max_window_layers() -> usize {
    28
}

fn rms_norm_eps() -> f64 {
    1e-6
}

fn hidden_act() -> String {
    "silu".to_owned()
}
