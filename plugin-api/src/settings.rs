//! Settings, and the options that an adapter declares for them.

use crate::{Code, Error, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What an option holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptionType {
    /// Words.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// Yes or no.
    Flag,
    /// A file or folder on this machine.
    Path,
    /// A checkpoint: a folder, or a model's hub id that the host turns into a folder.
    Weights,
    /// A data set: a file or folder, or a data set's hub id that the host turns into a folder. Where a user names several,
    /// separated by commas, the setting is a list.
    Data,
    /// A type that this version doesn't know; its values are not checked.
    #[serde(other)]
    Unknown,
}

impl OptionType {
    /// The type as a word.
    pub fn word(self) -> &'static str {
        match self {
            OptionType::Text => "text",
            OptionType::Integer => "integer",
            OptionType::Number => "number",
            OptionType::Flag => "flag",
            OptionType::Path => "path",
            OptionType::Weights => "weights",
            OptionType::Data => "data",
            OptionType::Unknown => "unknown",
        }
    }
}

/// One option, as `register_model!` and its siblings declare it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OptionSpec {
    /// What it is called.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: OptionType,
    /// True when the adapter can't be made without it.
    #[serde(default)]
    pub required: bool,
    /// What it is when it is not given.
    #[serde(default)]
    pub default: Value,
    /// The values it may have, when they can be listed.
    #[serde(default, deserialize_with = "without_nulls")]
    pub allowed: Vec<Value>,
    /// What it does, in a line.
    #[serde(default)]
    pub help: String,
}

// The macros end each list with a null, which saves them a comma's worth of cases.
pub(crate) fn without_nulls<'de, D, T>(from: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    let items = Vec::<Option<T>>::deserialize(from)?;
    Ok(items.into_iter().flatten().collect())
}

/// The settings an adapter is made with. The host has checked them against the declared options and filled in the defaults.
///
/// ```
/// use plugin_api::Settings;
///
/// let settings: Settings = serde_json::from_str(r#"{"weights": "/models/x", "rows": 4}"#).unwrap();
/// assert_eq!(settings.path("weights").unwrap().to_str(), Some("/models/x"));
/// assert_eq!(settings.get::<u32>("rows").unwrap(), Some(4));
/// assert!(settings.get::<u32>("weights").unwrap_err().message.contains("`weights`"));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Settings(pub Map<String, Value>);

impl Settings {
    /// The setting, or none when it was not given.
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => serde_json::from_value(value.clone()).map(Some).map_err(|why| {
                Error::new(Code::SETTINGS, format!("setting `{name}` has the wrong type: {value}"))
                    .cause(why.to_string())
            }),
        }
    }

    /// The setting, which must be there.
    pub fn need<T: DeserializeOwned>(&self, name: &str) -> Result<T> {
        self.get(name)?
            .ok_or_else(|| Error::new(Code::SETTINGS, format!("setting `{name}` is missing")))
    }

    /// The setting, or `default` when it was not given.
    pub fn or<T: DeserializeOwned>(&self, name: &str, default: T) -> Result<T> {
        Ok(self.get(name)?.unwrap_or(default))
    }

    /// The setting as a file or folder, which must be given.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        self.need(name)
    }

    /// All settings as an author's own struct.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|why| Error::new(Code::SETTINGS, format!("settings can't be used: {why}")))
    }
}
