//! `config.json` as published, with the defaults of the reference's class where a file leaves something out.
//!
//! Three classes share this file. What they differ in is settled here, so that the layers never ask which it is.

use crate::{Activation, Error, Heads, Result, RopeConfig, RopeScaling, positive, read_config, within};
use candle_core::DType;
use serde::Deserialize;
use std::path::Path;

/// A checkpoint's shape, with nothing left open.
#[derive(Debug, Clone)]
pub struct Config {
    /// `qwen3`, `qwen2` or `llama`.
    pub class: &'static str,
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
    pub activation: Activation,
    /// Whether the projections in front of attention have biases.
    pub qkv_bias: bool,
    /// Whether the projection behind attention has one.
    pub o_bias: bool,
    /// Whether the feed-forward has them.
    pub mlp_bias: bool,
    /// Whether queries and keys are normalised per head.
    pub head_norms: bool,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    windows: Vec<Option<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    Qwen3,
    Qwen2, // Qwen2.5 and its Coder as well
    Llama,
}

/// The fields as published: a text model's whole file, or the `text_config` of one that also hears.
#[derive(Debug, Clone, Deserialize)]
pub struct TextConfig {
    model_type: Class,
    vocab_size: Option<usize>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
    sliding_window: Option<usize>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    #[serde(flatten)]
    rope: RopeConfig,
}

/// Published shapes, by the names that the setting `shape` has for them; the first is for tests.
const SHAPES: [(&str, [usize; 6], bool); 5] = [
    // hidden, inner, layers, heads, key heads, head size; whether the head is tied
    ("nano", [64, 128, 2, 4, 2, 16], true),
    ("qwen3-0.6b", [1024, 3072, 28, 16, 8, 128], true),
    ("qwen3-1.7b", [2048, 6144, 28, 16, 8, 128], true),
    ("qwen3-4b", [2560, 9728, 36, 32, 8, 128], true),
    ("qwen3-8b", [4096, 12_288, 36, 32, 8, 128], false),
];

impl Config {
    /// A Qwen3 by the name of its shape, for weights that nobody trained.
    pub fn of_shape(name: &str) -> Result<Config> {
        let Some((_, sizes, tied)) = SHAPES.iter().find(|(known, ..)| *known == name) else {
            return Err(Error::Config {
                what: "setting `shape`".to_owned(),
                got: format!("`{name}`"),
                expected: SHAPES.map(|(known, ..)| known).join(", "),
            });
        };
        let [hidden, inner, layers, heads, key_heads, head] = sizes;
        let published = serde_json::json!({
            "model_type": "qwen3", "vocab_size": if name == "nano" { 512 } else { 151_936 }, "hidden_size": hidden,
            "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": heads,
            "num_key_value_heads": key_heads, "head_dim": head, "max_position_embeddings": 40_960,
            "tie_word_embeddings": tied, "rope_theta": 1_000_000,
        });
        let malformed = |e: serde_json::Error| Error::Malformed {
            path: name.into(),
            reason: e.to_string(),
        };
        serde_json::from_value::<TextConfig>(published)
            .map_err(malformed)?
            .settle()
    }

    /// Of a folder that holds a text model.
    pub fn from_folder(folder: &Path) -> Result<Config> {
        let config: TextConfig = read_config(folder, &["qwen3", "qwen2", "llama"])?;
        config.settle().map_err(|error| error.about(folder))
    }

    pub(super) fn heads(&self) -> Heads {
        Heads {
            queries: self.num_attention_heads,
            keys: self.num_key_value_heads,
            size: self.head_dim,
        }
    }

    /// Bytes of the cache of so many tokens.
    pub fn cache_bytes(&self, dtype: DType, tokens: usize) -> u64 {
        let values = 2 * self.num_hidden_layers * self.num_key_value_heads * self.head_dim;
        (values * dtype.size_in_bytes()) as u64 * tokens as u64
    }

    /// The window of a layer: the last layers have one in checkpoints that use it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.windows.get(layer).copied().flatten()
    }
}

impl TextConfig {
    pub fn settle(self) -> Result<Config> {
        let class = self.model_type;
        let by_class = |qwen, llama| if class == Class::Llama { llama } else { qwen };
        // The limits are far beyond any published model; they keep a spoilt file from asking for terabytes.
        let size = |what, given: Option<usize>, default, most| within(what, given.unwrap_or(default), 1..=most);
        let hidden_size = size("hidden_size", self.hidden_size, 4096, 262_144)?;
        let layers = size("num_hidden_layers", self.num_hidden_layers, 32, 1024)?;
        let heads = size("num_attention_heads", self.num_attention_heads, 32, 4096)?;
        let key_heads = size(
            "num_key_value_heads",
            self.num_key_value_heads,
            by_class(heads.min(32), heads),
            heads,
        )?;
        within(
            "num_attention_heads modulo num_key_value_heads",
            heads % key_heads,
            0..=0,
        )?;
        let head_dim = self.head_dim.unwrap_or(match class {
            Class::Qwen3 => 128,
            Class::Qwen2 | Class::Llama => hidden_size / heads,
        });
        within("head_dim", head_dim, 2..=4096)?;
        within("head_dim modulo 2", head_dim % 2, 0..=0)?;
        within("sliding_window", self.sliding_window.unwrap_or(1), 1..=1 << 30)?;
        let context = self.max_position_embeddings.unwrap_or(by_class(32_768, 2048));
        Ok(Config {
            class: match class {
                Class::Qwen3 => "qwen3",
                Class::Qwen2 => "qwen2",
                Class::Llama => "llama",
            },
            vocab_size: size("vocab_size", self.vocab_size, by_class(151_936, 32_000), 4_000_000)?,
            hidden_size,
            intermediate_size: size(
                "intermediate_size",
                self.intermediate_size,
                by_class(22_016, 11_008),
                1_048_576,
            )?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_heads,
            head_dim,
            max_position_embeddings: within("max_position_embeddings", context, 2..=1 << 30)?,
            rms_norm_eps: positive("rms_norm_eps", self.rms_norm_eps.unwrap_or(1e-6))?,
            tie_word_embeddings: self.tie_word_embeddings,
            activation: Activation::from_config("hidden_act", self.hidden_act.as_deref().unwrap_or("silu"))?,
            qkv_bias: class == Class::Qwen2 || self.attention_bias,
            o_bias: class != Class::Qwen2 && self.attention_bias,
            mlp_bias: class == Class::Llama && self.mlp_bias,
            head_norms: class == Class::Qwen3,
            rope_theta: positive("rope_theta", self.rope.theta(10_000.0))?,
            rope_scaling: self.rope.scaling(context)?,
            windows: (0..layers).map(|layer| self.window(layer)).collect(),
        })
    }

    fn window(&self, layer: usize) -> Option<usize> {
        let slides = match &self.layer_types {
            Some(types) => types.get(layer).is_some_and(|kind| kind == "sliding_attention"),
            None => layer >= self.max_window_layers.unwrap_or(28),
        };
        let used = self.model_type != Class::Llama && self.use_sliding_window;
        self.sliding_window.or(Some(4096)).filter(|_| used && slides)
    }
}
