//! Reads `config.json` and checks its numbers.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Reads a checkpoint's `config.json`, or its equivalent in a GGUF file, and refuses architectures that the caller
/// does not know.
///
/// `known` are values of `model_type`, such as `qwen3`.
pub fn read_config<T: DeserializeOwned>(folder: &Path, known: &[&str]) -> Result<T> {
    let (path, config) = match crate::from_gguf::config(folder)? {
        Some(config) => (folder.to_owned(), config),
        None => {
            let path = folder.join("config.json");
            let config: Value = read_json(&path)?;
            (path, config)
        }
    };
    refuse_unread_quantisation(&path, &config)?;
    let got = config["model_type"].as_str().unwrap_or("none named");
    if !known.contains(&got) {
        return Err(Error::Architecture {
            path,
            got: got.to_owned(),
            known: known.join(", "),
        });
    }
    serde_json::from_value(config).map_err(|e| Error::Malformed {
        path,
        reason: e.to_string(),
    })
}

/// Refuses weights that are quantised by a method that is not read, according to the `config.json` beside them.
pub fn refuse_unread_quantisation(path: &Path, config: &Value) -> Result<()> {
    let quantised = [config, &config["text_config"]].map(|part| &part["quantization_config"]);
    match quantised.into_iter().find_map(unread_quantisation) {
        None => Ok(()),
        Some(method) => Err(Error::Quantised {
            path: path.to_owned(),
            method,
        }),
    }
}

/// The name of a quantisation that is not read, according to a `quantization_config`; none if it is read, or if there is
/// none.
fn unread_quantisation(config: &Value) -> Option<String> {
    let by = config.as_object()?;
    let on = |key: &str| by.get(key) == Some(&Value::Bool(true));
    let [four_bits, eight_bits] = ["load_in_4bit", "load_in_8bit"].map(on);
    let method = match by.get("quant_method").and_then(Value::as_str) {
        None if four_bits || eight_bits => "bitsandbytes", // early files name no method
        None => return Some("an unnamed method".to_owned()),
        Some(method) => method,
    };
    let kind = by.get("bnb_4bit_quant_type").and_then(Value::as_str).unwrap_or("fp4");
    match (method, four_bits, eight_bits) {
        ("bitsandbytes", true, false) if kind == "nf4" => None,
        ("bitsandbytes", true, false) => Some(format!("bitsandbytes' {kind} (`load_in_4bit`)")),
        ("bitsandbytes", _, true) => Some("bitsandbytes' LLM.int8 (`load_in_8bit`)".to_owned()),
        (other, ..) => Some(format!("`{other}`")),
    }
}

/// Reads a JSON file of a checkpoint, which must be an object.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    let malformed = |reason: String| Error::Malformed {
        path: path.to_owned(),
        reason,
    };
    // Otherwise serde would take the entries of a list for the fields of `T`.
    if text.trim_start().starts_with('[') {
        return Err(malformed("it is a list, expected an object".to_owned()));
    }
    serde_json::from_str(&text).map_err(|e| malformed(e.to_string()))
}

/// Refuses a number outside of `range` before anything is allocated by it.
pub fn within(what: &str, got: usize, range: std::ops::RangeInclusive<usize>) -> Result<usize> {
    if range.contains(&got) {
        return Ok(got);
    }
    let expected = format!("{} to {}", range.start(), range.end());
    Err(Error::Config {
        what: format!("`{what}` in config.json"),
        got: got.to_string(),
        expected,
    })
}

/// Refuses a number that is not above 0: it is divided by, or its root is taken.
pub fn positive(what: &str, got: f64) -> Result<f64> {
    if got.is_finite() && got > 0.0 {
        return Ok(got);
    }
    Err(Error::Config {
        what: format!("`{what}` in config.json"),
        got: got.to_string(),
        expected: "a number above 0".to_owned(),
    })
}
