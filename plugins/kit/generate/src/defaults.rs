//! `generation_config.json`: the publisher's defaults for sampling.

use checkpoint::{Error, Result};
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// Defaults for settings that a prompt leaves open.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Defaults {
    pub do_sample: bool,
    pub temperature: Option<f32>,
    pub top_k: Option<u32>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub max_new_tokens: Option<u32>,
    /// The minimum length of an answer, or of prompt and answer together; the first counts if both are given.
    pub min_new_tokens: Option<u32>,
    pub min_length: Option<u32>,
    pub num_beams: Option<u32>,
    pub length_penalty: Option<f32>,
    pub early_stopping: EarlyStop,
    #[serde(rename = "eos_token_id", deserialize_with = "one_or_many")]
    pub stop_tokens: Vec<u32>,
}

/// When a search with as many finished answers as beams ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EarlyStop {
    /// When the best beam, if it ended now, would be no better than the worst finished answer.
    #[default]
    No,
    /// At once.
    Yes,
    /// When the best beam can no longer beat the worst finished answer, however long it grows.
    Never,
}

impl<'de> Deserialize<'de> for EarlyStop {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> std::result::Result<EarlyStop, D::Error> {
        match Value::deserialize(from)? {
            Value::Null | Value::Bool(false) => Ok(EarlyStop::No),
            Value::Bool(true) => Ok(EarlyStop::Yes),
            Value::String(word) if word == "never" => Ok(EarlyStop::Never),
            other => Err(serde::de::Error::custom(format!(
                "`early_stopping` must be true, false or \"never\", not {other}"
            ))),
        }
    }
}

impl Defaults {
    /// Reads `generation_config.json`; stop tokens that it lacks come from `config.json` or the GGUF file.
    pub fn from_folder(folder: &Path) -> Result<Defaults> {
        let stop_tokens = checkpoint::from_gguf::stop_tokens(folder)?;
        let beside = match &stop_tokens {
            Some(_) if folder.is_file() => folder.parent().unwrap_or(folder),
            _ => folder,
        };
        let mut defaults = match read(&beside.join("generation_config.json")) {
            Err(Error::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Defaults::default(),
            other => other?,
        };
        if defaults.stop_tokens.is_empty() {
            defaults.stop_tokens = match stop_tokens {
                Some(stop_tokens) => stop_tokens,
                None => read(&folder.join("config.json"))?.stop_tokens,
            };
        }
        Ok(defaults)
    }

    /// The minimum length of an answer to a prompt of this many tokens.
    pub fn least(&self, prompt: usize) -> usize {
        match (self.min_new_tokens, self.min_length) {
            (Some(tokens), _) => tokens as usize,
            (None, Some(tokens)) => (tokens as usize).saturating_sub(prompt),
            (None, None) => 0,
        }
    }
}

fn read(path: &Path) -> Result<Defaults> {
    checkpoint::read_json(path)
}

fn one_or_many<'de, D: serde::Deserializer<'de>>(from: D) -> std::result::Result<Vec<u32>, D::Error> {
    let wrong = || serde::de::Error::custom("`eos_token_id` must be a token id or a list of them");
    let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok()).ok_or_else(wrong);
    match Value::deserialize(from)? {
        Value::Null => Ok(Vec::new()),
        Value::Array(ids) => ids.iter().map(id).collect(),
        one => Ok(vec![id(&one)?]),
    }
}
