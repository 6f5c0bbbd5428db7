//! Writes all parts into one folder of safetensors, without unused tensors.

use crate::architecture::encoder_in;
use crate::files::Files;
use checkpoint::{Copied, write_weights};
use nn::{Error, Weights};
use plugin_api::{Call, Code, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The tokenizer's files in the language model's folder.
const WORDS: [&str; 4] = [
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
];

/// Answers `{"out": FOLDER}`, which must be new or empty, with a list of the written files.
pub fn convert(files: &Files, request: &Value, call: &Call) -> Result<Value> {
    let Some(out) = request["out"].as_str().map(PathBuf::from) else {
        return Err(plugin_api::Error::new(
            Code::DATA,
            "`convert` needs a folder to write to, as `out`",
        ));
    };
    let failed = |source| Error::Write {
        path: out.clone(),
        source,
    };
    std::fs::create_dir_all(&out).map_err(|e| failed(e).into_plugin_error())?;
    let mut there = std::fs::read_dir(&out).map_err(|e| failed(e).into_plugin_error())?;
    if there.next().is_some() {
        let message = format!("`{}` is not empty", out.display());
        return Err(plugin_api::Error::new(Code::SETTINGS, message).help("name a folder that is new or empty"));
    }

    let copied = tensors(files).map_err(Error::into_plugin_error)?;
    let path = out.join("model.safetensors");
    let bytes = write_weights(&path, &copied, |share| {
        call.progress(share, "converting") && !call.stop_asked()
    });
    if call.stop_asked() {
        call.check()?;
    }
    let bytes = bytes.map_err(Error::into_plugin_error)?;
    let mut written = vec![path];
    for name in WORDS {
        let from = files.words.join(name);
        if from.is_file() {
            std::fs::copy(&from, out.join(name)).map_err(|e| failed(e).into_plugin_error())?;
            written.push(out.join(name));
        }
    }
    // Written last, because it makes the folder a checkpoint.
    let path = out.join("config.json");
    let mut described = files.described.clone();
    let in_four_bits = |one: &Copied| one.weights.belongs_to_four_bits(&one.weights.path(&one.tensor));
    if let (Some(vicuna), false) = (described["vicuna"].as_object_mut(), copied.iter().any(in_four_bits)) {
        vicuna.remove("quantization_config"); // all of it became blocks
    }
    let text = format!("{described:#}\n");
    std::fs::write(&path, text).map_err(|e| failed(e).into_plugin_error())?;
    written.push(path);
    let shown: Vec<String> = written.iter().map(|path: &PathBuf| shown(path)).collect();
    Ok(json!({ "files": shown, "bytes": bytes, "tensors": copied.len() }))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// The used tensors of each part, with their names in the folder.
fn tensors(files: &Files) -> nn::Result<Vec<Copied<'_>>> {
    let whisper = encoder_in(&files.whisper_weights).path("");
    let within = files.whisper_weights.path("");
    let whisper = whisper
        .strip_prefix(&within)
        .unwrap_or(&whisper)
        .trim_start_matches('.')
        .to_owned();
    let mut all = Vec::new();
    let mut take = |weights, part: &str, kept: &dyn Fn(&str) -> Option<String>| {
        for tensor in below(weights) {
            if let Some(name) = kept(&tensor) {
                let name = format!("{part}.{name}");
                all.push(Copied { name, weights, tensor });
            }
        }
    };
    let same = |name: &str| Some(name.to_owned());
    take(&files.whisper_weights, "whisper", &|name| {
        let inner = name.strip_prefix(&whisper)?.strip_prefix('.')?;
        Some(format!("encoder.{inner}"))
    });
    // The classifier is not used, and layers other than the first repeat its table.
    take(&files.beats_weights, "beats", &|name| {
        let repeated = name.contains("relative_attention_bias") && !name.contains("layers.0.");
        same(name).filter(|name| !name.starts_with("predictor.") && !repeated)
    });
    take(&files.trained, "salmonn", &|name| {
        let used = ["speech_", "ln_"].iter().any(|start| name.starts_with(start)) || name.contains(".lora_");
        same(name).filter(|name| used && !name.ends_with("position_ids"))
    });
    take(&files.vicuna_weights, "vicuna", &|name| {
        same(name).filter(|name| !name.ends_with("rotary_emb.inv_freq"))
    });
    let mut kept = Vec::new();
    for one in all {
        if !one.weights.goes_with_blocks(&one.tensor)? {
            kept.push(one);
        }
    }
    Ok(kept)
}

/// The names of all tensors at this point and below it.
fn below(weights: &Weights) -> Vec<String> {
    let prefix = weights.path("");
    let names = weights.names().into_iter();
    let inner = |name: String| match prefix.is_empty() {
        true => Some(name),
        false => Some(name.strip_prefix(&prefix)?.strip_prefix('.')?.to_owned()),
    };
    names.filter_map(inner).collect()
}
