//! The differences between the classes that share the decoder, and the defaults of each.

use crate::{HeadNorms, NormNames, Pairs};
use serde::Deserialize;

/// A class by the `model_type` of its configs.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    Qwen3,
    Qwen2, // Qwen2.5 and its Coder as well
    Llama,
    Mistral,
    SmolLM3,
    Phi3, // Phi 4 and its mini as well
    Olmo2,
    Granite,
    Glm,
    Glm4,
}

/// Defaults of a class.
pub(super) struct Defaults {
    pub vocabulary: usize,
    pub hidden: usize,
    pub inner: usize,
    pub layers: usize,
    pub heads: usize,
    /// As many as heads if none.
    pub key_heads: Option<usize>,
    /// The hidden size divided by the heads if none.
    pub head_dim: Option<usize>,
    pub context: usize,
    pub window: Option<usize>,
    pub eps: f64,
    pub theta: f64,
    pub tied: bool,
    pub attention_bias: bool,
    /// The rotated part of a head, in classes whose configs have that field.
    pub turned: Option<f64>,
}

const LLAMA: Defaults = Defaults {
    vocabulary: 32_000,
    hidden: 4096,
    inner: 11_008,
    layers: 32,
    heads: 32,
    key_heads: None,
    head_dim: None,
    context: 2048,
    window: None,
    eps: 1e-6,
    theta: 10_000.0,
    tied: false,
    attention_bias: false,
    turned: None,
};

const QWEN2: Defaults = Defaults {
    vocabulary: 151_936,
    inner: 22_016,
    key_heads: Some(32),
    context: 32_768,
    window: Some(4096),
    ..LLAMA
};

const GLM: Defaults = Defaults {
    vocabulary: 151_552,
    inner: 13_696,
    layers: 40,
    key_heads: Some(2),
    head_dim: Some(128),
    context: 131_072,
    eps: 1.5625e-7,
    attention_bias: true,
    turned: Some(0.5),
    ..LLAMA
};

impl Class {
    pub const NAMES: [&str; 10] = [
        "qwen3", "qwen2", "llama", "mistral", "smollm3", "phi3", "olmo2", "granite", "glm", "glm4",
    ];

    pub fn name(self) -> &'static str {
        Class::NAMES[self as usize]
    }

    pub fn defaults(self) -> Defaults {
        match self {
            Class::Qwen3 => Defaults {
                head_dim: Some(128),
                ..QWEN2
            },
            Class::Qwen2 => QWEN2,
            Class::Llama | Class::Granite => LLAMA,
            Class::Mistral => Defaults {
                inner: 14_336,
                key_heads: Some(8),
                context: 131_072,
                window: Some(4096),
                ..LLAMA
            },
            Class::SmolLM3 => Defaults {
                vocabulary: 128_256,
                hidden: 2048,
                layers: 36,
                heads: 16,
                key_heads: Some(4),
                context: 32_768,
                theta: 2_000_000.0,
                tied: true,
                ..LLAMA
            },
            Class::Phi3 => Defaults {
                vocabulary: 32_064,
                hidden: 3072,
                inner: 8192,
                context: 4096,
                eps: 1e-5,
                turned: Some(1.0),
                ..LLAMA
            },
            Class::Olmo2 => Defaults {
                vocabulary: 50_304,
                eps: 1e-5,
                ..LLAMA
            },
            Class::Glm | Class::Glm4 => GLM,
        }
    }

    /// Whether the projections before attention have biases, given the config's field.
    pub fn qkv_bias(self, said: bool) -> bool {
        match self {
            Class::Qwen2 => true,
            Class::Mistral | Class::Phi3 => false,
            _ => said,
        }
    }

    /// The same for the projection after it.
    pub fn o_bias(self, said: bool) -> bool {
        said && !matches!(
            self,
            Class::Qwen2 | Class::Mistral | Class::Phi3 | Class::Glm | Class::Glm4
        )
    }

    pub fn has_mlp_bias(self) -> bool {
        matches!(self, Class::Llama | Class::SmolLM3 | Class::Granite)
    }

    pub fn head_norms(self) -> HeadNorms {
        match self {
            Class::Qwen3 => HeadNorms::Each,
            Class::Olmo2 => HeadNorms::All,
            _ => HeadNorms::None,
        }
    }

    pub fn norms(self) -> NormNames {
        match self {
            Class::Olmo2 => NormNames {
                before_attention: None,
                behind_attention: Some("post_attention_layernorm"),
                before_mlp: None,
                behind_mlp: Some("post_feedforward_layernorm"),
            },
            Class::Glm4 => NormNames {
                behind_attention: Some("post_self_attn_layernorm"),
                behind_mlp: Some("post_mlp_layernorm"),
                ..NormNames::BEFORE
            },
            _ => NormNames::BEFORE,
        }
    }

    /// Whether the projections before attention are one matrix, and whether gate and up are one.
    pub fn fused(self) -> [bool; 2] {
        match self {
            Class::Phi3 => [true, true],
            Class::Glm | Class::Glm4 => [false, true],
            _ => [false, false],
        }
    }

    pub fn rope_pairs(self) -> Pairs {
        match self {
            Class::Glm | Class::Glm4 => Pairs::Neighbours,
            _ => Pairs::Halves,
        }
    }
}
