//! `config.json`, as far as it is alike for all models.

use crate::{Error, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// Reads a checkpoint's `config.json`, if it is of one of the architectures that the caller knows.
///
/// `known` are values of `model_type`, such as `qwen3`.
pub fn read_config<T: DeserializeOwned>(folder: &Path, known: &[&str]) -> Result<T> {
    let path = folder.join("config.json");
    let config: Value = read_json(&path)?;
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

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T> {
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

/// How positions beyond the trained length are squeezed into it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RopeScaling {
    #[default]
    Default,
    /// All positions divided by this factor.
    Linear(f64),
}

/// The base of the rotary embedding and its scaling, in either of the two spellings that configs use.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RopeConfig {
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    rope_parameters: Option<RopeFields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RopeFields {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
}

impl RopeConfig {
    /// The base, or `default` where the config leaves it to its class.
    pub fn theta(&self, default: f64) -> f64 {
        let newer = self.rope_parameters.as_ref().and_then(|fields| fields.rope_theta);
        newer.or(self.rope_theta).unwrap_or(default)
    }

    pub fn scaling(&self) -> Result<RopeScaling> {
        let Some(fields) = self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()) else {
            return Ok(RopeScaling::Default);
        };
        match fields.rope_type.as_deref().unwrap_or("default") {
            "default" => Ok(RopeScaling::Default),
            "linear" => match fields.factor {
                Some(factor) if factor.is_finite() && factor > 0.0 => Ok(RopeScaling::Linear(factor)),
                got => Err(Error::Config {
                    what: "`factor` of the linear rope scaling".to_owned(),
                    got: got.map_or("missing".to_owned(), |factor| factor.to_string()),
                    expected: "a number above 0".to_owned(),
                }),
            },
            got => Err(Error::RopeScaling { got: got.to_owned() }),
        }
    }
}
