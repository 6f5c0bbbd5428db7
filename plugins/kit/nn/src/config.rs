//! `config.json`, as far as it is alike for all models.

use crate::{Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Reads a checkpoint's `config.json`, or what a GGUF file says instead, if it is of one of the architectures that the caller knows.
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

/// Reads a JSON file of a checkpoint.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Read {
        path: path.to_owned(),
        source,
    })?;
    serde_json::from_str(&text).map_err(|e| Error::Malformed {
        path: path.to_owned(),
        reason: e.to_string(),
    })
}

/// Checks a number that a stranger's config gives before anything is allocated by it.
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
