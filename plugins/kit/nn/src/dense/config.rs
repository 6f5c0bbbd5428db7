//! `config.json` as published, with the defaults of the reference's class for missing fields.
//!
//! The differences between classes are resolved here, so that the layers do not know the class.

use super::class::Class;
use crate::{
    Activation, Error, HeadNorms, Heads, NormNames, Pairs, Result, RopeConfig, RopeScaling, positive, read_config,
    within,
};
use candle_core::DType;
use serde::{Deserialize, Deserializer};
use std::path::Path;

/// A checkpoint's shape, with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its `model_type`.
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
    /// Whether the projections before attention have biases.
    pub qkv_bias: bool,
    /// Whether the projection after attention has one.
    pub o_bias: bool,
    /// Whether the feed-forward has biases.
    pub mlp_bias: bool,
    pub head_norms: HeadNorms,
    pub norms: NormNames,
    /// Whether the projections before attention are one matrix, and whether gate and up are one.
    pub fused: [bool; 2],
    /// The factors of embeddings, of the outputs of both halves of a layer, and of logits.
    pub embed_scale: f64,
    pub residual_scale: f64,
    pub logit_scale: f64,
    /// The factor of queries.
    pub attention_scale: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    /// How many channels of a head are rotated, and which together.
    pub rope_channels: usize,
    pub rope_pairs: Pairs,
    layers: Vec<Layer>,
}

/// What may differ between layers of one model.
#[derive(Debug, Clone, Copy)]
struct Layer {
    window: Option<usize>,
    /// Whether queries and keys are rotated.
    rope: bool,
}

/// The fields as published: the whole file of a text model, or the `text_config` of an audio model.
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
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    #[serde(default)]
    mlp_bias: bool,
    hidden_act: Option<String>,
    #[serde(default)]
    use_sliding_window: bool,
    /// With `null` there is no window; without the field, the class's default applies.
    #[serde(default, deserialize_with = "given")]
    sliding_window: Option<Option<usize>>,
    max_window_layers: Option<usize>,
    layer_types: Option<Vec<String>>,
    /// 0 for a layer without positions.
    no_rope_layers: Option<Vec<u8>>,
    no_rope_layer_interval: Option<usize>,
    embedding_multiplier: Option<f64>,
    residual_multiplier: Option<f64>,
    attention_multiplier: Option<f64>,
    logits_scaling: Option<f64>,
    #[serde(flatten)]
    rope: RopeConfig,
}

fn given<'de, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<usize>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// Published shapes by their names in the setting `shape`; the first is for tests.
const SHAPES: [(&str, [usize; 6], bool); 5] = [
    // hidden, inner, layers, heads, key heads, head size; whether the head is tied
    ("nano", [64, 128, 2, 4, 2, 16], true),
    ("qwen3-0.6b", [1024, 3072, 28, 16, 8, 128], true),
    ("qwen3-1.7b", [2048, 6144, 28, 16, 8, 128], true),
    ("qwen3-4b", [2560, 9728, 36, 32, 8, 128], true),
    ("qwen3-8b", [4096, 12_288, 36, 32, 8, 128], false),
];

impl Config {
    /// A Qwen3 with the shape of this name, for random weights.
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

    /// The config of a text model's folder.
    pub fn from_folder(folder: &Path) -> Result<Config> {
        let config: TextConfig = read_config(folder, &Class::NAMES)?;
        config.settle().map_err(|error| error.about(folder))
    }

    pub(super) fn heads(&self) -> Heads {
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

    /// The window of a layer.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.layers.get(layer)?.window
    }

    /// Whether a layer rotates its queries and keys.
    pub(super) fn turns(&self, layer: usize) -> bool {
        self.layers.get(layer).is_none_or(|layer| layer.rope)
    }
}

impl TextConfig {
    pub fn settle(self) -> Result<Config> {
        let class = self.model_type;
        let usual = class.defaults();
        // The limits are far beyond any published model; they keep a damaged file from asking for terabytes.
        let size = |what, given: Option<usize>, default, most| within(what, given.unwrap_or(default), 1..=most);
        let hidden_size = size("hidden_size", self.hidden_size, usual.hidden, 262_144)?;
        let layers = size("num_hidden_layers", self.num_hidden_layers, usual.layers, 1024)?;
        let heads = size("num_attention_heads", self.num_attention_heads, usual.heads, 4096)?;
        let key_heads = size(
            "num_key_value_heads",
            self.num_key_value_heads,
            usual.key_heads.map_or(heads, |count| heads.min(count)),
            heads,
        )?;
        within(
            "num_attention_heads modulo num_key_value_heads",
            heads % key_heads,
            0..=0,
        )?;
        let head_dim = self.head_dim.or(usual.head_dim).unwrap_or(hidden_size / heads);
        within("head_dim", head_dim, 2..=4096)?;
        within("head_dim modulo 2", head_dim % 2, 0..=0)?;
        let window = self.sliding_window.unwrap_or(usual.window);
        within("sliding_window", window.unwrap_or(1), 1..=1 << 30)?;
        let context = self.max_position_embeddings.unwrap_or(usual.context);
        let rope_channels = match usual.turned {
            Some(part) => self.rope.turned(head_dim, part)?,
            None => head_dim,
        };
        let rope_scaling = self.rope.scaling(context)?;
        let context = match &rope_scaling {
            RopeScaling::LongRope(long) => {
                let pairs = rope_channels / 2;
                within("rope_scaling.short_factor.length", long.factors.len(), pairs..=pairs)?;
                context.min(long.trained_length as usize)
            }
            // Older files spell longrope `yarn`, with other fields.
            scaling if class == Class::Phi3 && *scaling != RopeScaling::Default => {
                return Err(Error::Config {
                    what: "the rope scaling in config.json of a `phi3`".to_owned(),
                    got: format!("`{}`", scaling.name()),
                    expected: "default or longrope".to_owned(),
                });
            }
            _ => context,
        };
        let scale = |what, given: Option<f64>| positive(what, given.unwrap_or(1.0));
        let bias = self.attention_bias.unwrap_or(usual.attention_bias);
        let attention_scale = match class {
            Class::Granite => scale("attention_multiplier", self.attention_multiplier)?,
            _ => 1.0 / (head_dim as f64).sqrt(),
        };
        Ok(Config {
            class: class.name(),
            vocab_size: size("vocab_size", self.vocab_size, usual.vocabulary, 4_000_000)?,
            hidden_size,
            intermediate_size: size("intermediate_size", self.intermediate_size, usual.inner, 1_048_576)?,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_heads,
            head_dim,
            max_position_embeddings: within("max_position_embeddings", context, 2..=1 << 30)?,
            rms_norm_eps: positive("rms_norm_eps", self.rms_norm_eps.unwrap_or(usual.eps))?,
            tie_word_embeddings: self.tie_word_embeddings.unwrap_or(usual.tied),
            activation: Activation::from_config("hidden_act", self.hidden_act.as_deref().unwrap_or("silu"))?,
            qkv_bias: class.qkv_bias(bias),
            o_bias: class.o_bias(bias),
            mlp_bias: class.has_mlp_bias() && self.mlp_bias,
            head_norms: class.head_norms(),
            norms: class.norms(),
            fused: class.fused(),
            embed_scale: scale("embedding_multiplier", self.embedding_multiplier)?,
            residual_scale: scale("residual_multiplier", self.residual_multiplier)?,
            logit_scale: 1.0 / scale("logits_scaling", self.logits_scaling)?,
            attention_scale,
            rope_theta: positive("rope_theta", self.rope.theta(usual.theta))?,
            rope_scaling,
            rope_channels,
            rope_pairs: class.rope_pairs(),
            layers: (0..layers).map(|layer| self.layer(layer, window)).collect(),
        })
    }

    fn layer(&self, layer: usize, window: Option<usize>) -> Layer {
        let rope = match (&self.no_rope_layers, self.model_type) {
            (_, class) if class != Class::SmolLM3 => true,
            (Some(layers), _) => layers.get(layer).is_none_or(|turned| *turned != 0),
            (None, _) => !(layer + 1).is_multiple_of(self.no_rope_layer_interval.unwrap_or(4)),
        };
        let listed = self.layer_types.as_ref();
        let listed = listed.map(|types| types.get(layer).is_some_and(|kind| kind == "sliding_attention"));
        let slides = match self.model_type {
            Class::Qwen3 | Class::Qwen2 => {
                self.use_sliding_window && listed.unwrap_or(layer >= self.max_window_layers.unwrap_or(28))
            }
            Class::SmolLM3 => self.use_sliding_window && listed.unwrap_or(!rope),
            Class::Mistral | Class::Phi3 => true,
            Class::Llama | Class::Olmo2 | Class::Granite | Class::Glm | Class::Glm4 => false,
        };
        let window = window.filter(|_| slides);
        Layer { window, rope }
    }
}
