//! The settings of an engine, by the reference's names: all that changes a gradient or an update, except the rate.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The weights themselves.
    Full,
    /// Two small factors for each target matrix.
    #[default]
    Lora,
    /// The same with a base in four bits.
    Qlora,
}

/// The types of weights, products and states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// fp32 throughout. Frozen weights stay as the checkpoint stores them, and are widened exactly.
    #[default]
    Fp32,
    /// Numbers are rounded to bf16 before they are multiplied; sums, learnt weights, gradients and states are fp32.
    Bf16,
    /// Learnt weights and states are bf16, too: half the memory, but small updates are lost. LoRA factors stay fp32.
    #[serde(rename = "bf16-pure")]
    PureBf16,
}

/// The rule that turns gradients into updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Optimiser {
    #[default]
    #[serde(
        rename = "adamw",
        alias = "adamw_torch",
        alias = "adamw_torch_fused",
        alias = "adamw_hf"
    )]
    AdamW,
    /// States of large tensors in bytes.
    #[serde(rename = "adamw_8bit", alias = "adamw_bnb_8bit", alias = "paged_adamw_8bit")]
    AdamW8Bit,
    #[serde(rename = "sgd")]
    Sgd,
    #[serde(rename = "adafactor")]
    Adafactor,
}

/// The optimiser's settings; the rate comes with each step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct OptimSettings {
    pub optim: Optimiser,
    pub adam_beta1: f64,
    pub adam_beta2: f64,
    pub adam_epsilon: f64,
    pub weight_decay: f64,
    /// The norm that gradients are clipped to; 0 does not clip.
    pub max_grad_norm: f64,
    /// The learning rate of a LoRA's second factors as a multiple of the rate (LoRA+).
    pub loraplus_lr_ratio: f64,
    /// Multiples of the rate by regular expressions over parameter names; the first match counts.
    pub lr_ratios: BTreeMap<String, f64>,
}

impl Default for OptimSettings {
    fn default() -> Self {
        OptimSettings {
            optim: Optimiser::AdamW,
            adam_beta1: 0.9,
            adam_beta2: 0.999,
            adam_epsilon: 1e-8,
            weight_decay: 0.0,
            max_grad_norm: 1.0,
            loraplus_lr_ratio: 1.0,
            lr_ratios: BTreeMap::new(),
        }
    }
}

/// The matrices with factors and the factors' size; the keys are those of PEFT's `adapter_config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraSettings {
    pub r: usize,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub use_rslora: bool,
    /// `true` (A uniform, B zero), `false` (both random) or `"gaussian"`.
    pub init_lora_weights: Value,
    /// A list of names or name ends, a regular expression, `"all-linear"`, or null for the family's default.
    pub target_modules: Value,
    pub exclude_modules: Value,
    /// A number or a list of numbers of layers; null for all.
    pub layers_to_transform: Value,
    /// The part before the number of a layer; null for any.
    pub layers_pattern: Value,
    pub rank_pattern: BTreeMap<String, usize>,
    pub alpha_pattern: BTreeMap<String, f64>,
    /// Modules that are learnt themselves, beside the factors.
    #[serde(deserialize_with = "one_or_many")]
    pub modules_to_save: Option<Vec<String>>,
    /// Which biases are learnt: `none`, `all` or `lora_only`.
    pub bias: String,
}

/// A list of names, or the only one.
fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Names {
        One(String),
        Many(Vec<String>),
    }
    Ok(Option::deserialize(from)?.map(|names| match names {
        Names::One(name) => vec![name],
        Names::Many(names) => names,
    }))
}

impl Default for LoraSettings {
    fn default() -> Self {
        LoraSettings {
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            init_lora_weights: Value::Bool(true),
            target_modules: Value::Null,
            exclude_modules: Value::Null,
            layers_to_transform: Value::Null,
            layers_pattern: Value::Null,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: None,
            bias: "none".to_owned(),
        }
    }
}

/// All of it. Unknown keys are ignored here; code that knows all settings of a run refuses them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct EngineSettings {
    pub method: Method,
    pub precision: Precision,
    #[serde(flatten)]
    pub lora: LoraSettings,
    /// A PEFT folder to start from: its settings replace `lora`'s, and its factors are the initial ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adapter: Option<PathBuf>,
    /// Whether the scales of four-bit blocks are quantised as well.
    pub bnb_4bit_use_double_quant: bool,
    #[serde(flatten)]
    pub optim: OptimSettings,
    pub label_smoothing_factor: f64,
    /// Keeps only each layer's input, and recomputes the rest in the backward pass.
    pub gradient_checkpointing: bool,
    /// Parts of the names of frozen parameters. By default (null) the audio tower is frozen, and the language model
    /// and its head are learnt.
    pub freeze: Option<Vec<String>>,
    /// Parts of the names of parameters that are learnt although `freeze` matches them.
    pub unfreeze: Vec<String>,
    /// The seed of initial factors and of dropout.
    pub seed: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            method: Method::default(),
            precision: Precision::default(),
            lora: LoraSettings::default(),
            adapter: None,
            bnb_4bit_use_double_quant: true,
            optim: OptimSettings::default(),
            label_smoothing_factor: 0.0,
            gradient_checkpointing: false,
            freeze: None,
            unfreeze: Vec::new(),
            seed: 42,
        }
    }
}
