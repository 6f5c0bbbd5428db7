//! A PEFT folder: `adapter_config.json` and `adapter_model.safetensors`, as version 0.21.2 writes them.

use crate::LoraSettings;
use crate::engine::files::{write_synced, write_tensors};
use nn::Weights;
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(crate) const SETTINGS: &str = "adapter_config.json";
pub(crate) const TENSORS: &str = "adapter_model.safetensors";
/// PEFT's prefix of a model's module names.
pub(crate) const WRAPPED: &str = "base_model.model.";

/// Settings that change what a LoRA computes, and their supported values.
const KINDS: [&str; 6] = [
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "fan_in_fan_out",
    "layer_replication",
];

/// Reads the settings of a folder.
pub(crate) fn read_settings(folder: &Path) -> Result<LoraSettings> {
    let path = folder.join(SETTINGS);
    let missing = || {
        let message = format!("`{}` holds no LoRA (looked for {SETTINGS})", folder.display());
        Error::new(Code::MISSING, message).help("give a folder as PEFT writes it, with its two files")
    };
    let text = std::fs::read_to_string(&path).map_err(|why| missing().cause(why.to_string()))?;
    let malformed = |why: String| Error::new(Code::DATA, format!("`{}` is malformed", path.display())).cause(why);
    let mut value: Map<String, Value> = serde_json::from_str(&text).map_err(|why| malformed(why.to_string()))?;
    if value
        .get("peft_type")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind != "LORA")
    {
        return Err(malformed(format!(
            "`peft_type` is {}, expected LORA",
            value["peft_type"]
        )));
    }
    let set = |value: &Value| !matches!(value, Value::Null | Value::Bool(false));
    if let Some(kind) = KINDS.iter().find(|kind| value.get(**kind).is_some_and(set)) {
        let message = format!("`{}` sets `{kind}`, which is not supported in training", path.display());
        return Err(Error::new(Code::UNSUPPORTED, message));
    }
    value.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(value)).map_err(|why| malformed(why.to_string()))
}

/// The settings in PEFT's format.
pub(crate) fn settings_file(settings: &LoraSettings, base: &str) -> Value {
    json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": settings.alpha_pattern,
        "arrow_config": null,
        "auto_mapping": null,
        "base_model_name_or_path": base,
        "bias": settings.bias,
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": settings.exclude_modules,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": settings.init_lora_weights,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": settings.layers_pattern,
        "layers_to_transform": settings.layers_to_transform,
        "loftq_config": {},
        "lora_alpha": whole(settings.lora_alpha),
        "lora_bias": false,
        "lora_dropout": settings.lora_dropout,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": settings.modules_to_save,
        "monteclora_config": null,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": settings.r,
        "rank_pattern": settings.rank_pattern,
        "revision": null,
        "target_modules": listed(&settings.target_modules),
        "target_parameters": null,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": settings.use_rslora,
        "velora_config": null,
    })
}

/// A number without a fraction as an integer, as in PEFT's settings.
fn whole(number: f64) -> Value {
    match number.fract() == 0.0 && number.abs() < 1e15 {
        true => json!(number as i64),
        false => json!(number),
    }
}

/// Names separated by commas as a list.
fn listed(targets: &Value) -> Value {
    match targets {
        Value::Null => json!(["q_proj", "v_proj"]),
        Value::String(text) if text.contains(',') && !text.contains(['(', '|', '*', '[']) => {
            let mut names: Vec<&str> = text.split(',').map(str::trim).collect();
            names.sort_unstable();
            json!(names)
        }
        other => other.clone(),
    }
}

/// Writes both files.
pub(crate) fn write(
    folder: &Path,
    settings: &LoraSettings,
    base: &str,
    tensors: &[(String, Vec<usize>, &[f32])],
) -> Result<Vec<String>> {
    let text = serde_json::to_string_pretty(&settings_file(settings, base))?;
    write_synced(&folder.join(SETTINGS), text.as_bytes())?;
    write_tensors(&folder.join(TENSORS), tensors, &json!({ "format": "pt" }))?;
    Ok(vec![SETTINGS.to_owned(), TENSORS.to_owned()])
}

/// The tensors of a folder by module name, without PEFT's prefix and without an adapter's name.
pub(crate) fn open(folder: &Path) -> Result<Weights> {
    let path = folder.join(TENSORS);
    Weights::of_file(&path, candle_core::DType::F32, &candle_core::Device::Cpu).map_err(crate::engine::failed)
}
