//! Settings, and the options that an adapter declares for them.

use crate::{Code, Error, Result, Secret};
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
    /// A data set: a file or folder, or a data set's hub id that the host turns into a folder. Where a user names
    /// several, separated by commas, the setting is a list.
    Data,
    /// Named folders: `PATH`, `NAME=PATH,…`, or a table. Each may be a model's hub id. A plugin reads them with
    /// [`Settings::folders`].
    Folders,
    /// A key of a service. The value is the *name* of an environment variable, or several names separated by commas,
    /// of which the first that is set counts. The key itself is in no setting, and so in no record. A plugin reads it
    /// with [`Settings::secret`].
    Secret,
    /// Accepts every undeclared setting under its own name, unchanged: for adapters whose settings depend on a file
    /// that they read. The option itself has no value.
    Open,
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
            OptionType::Folders => "folders",
            OptionType::Secret => "secret",
            OptionType::Open => "open",
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
    /// True if it is required.
    #[serde(default)]
    pub required: bool,
    /// The default.
    #[serde(default)]
    pub default: Value,
    /// The allowed values, if they can be listed.
    #[serde(default, deserialize_with = "without_nulls")]
    pub allowed: Vec<Value>,
    /// True if it affects only speed or memory, and never an answer or a score: changing it does not make another run.
    #[serde(default)]
    pub neutral: bool,
    /// What it does, in one line.
    #[serde(default)]
    pub help: String,
}

// The macros end each list with a null, which spares them special cases.
pub(crate) fn without_nulls<'de, D, T>(from: D) -> std::result::Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: DeserializeOwned,
{
    let items = Vec::<Option<T>>::deserialize(from)?;
    Ok(items.into_iter().flatten().collect())
}

/// The settings an adapter is made with. The host has checked them against the declared options and filled in the
/// defaults.
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

    /// The setting as folders with their names, in the order given; none when it was not given.
    ///
    /// ```
    /// use plugin_api::Settings;
    ///
    /// let settings: Settings = serde_json::from_str(r#"{"lora": "brief=/loras/a,/loras/polite"}"#).unwrap();
    /// let folders = settings.folders("lora").unwrap();
    /// assert_eq!(folders[0], ("brief".to_owned(), "/loras/a".into()));
    /// assert_eq!(folders[1], ("polite".to_owned(), "/loras/polite".into()));
    /// ```
    pub fn folders(&self, name: &str) -> Result<Vec<(String, PathBuf)>> {
        let named = match self.0.get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => named_folders(value),
        };
        let folders =
            named.map_err(|why| Error::new(Code::SETTINGS, format!("setting `{name}` can't be used")).cause(why))?;
        Ok(folders
            .into_iter()
            .map(|(name, folder)| (name, folder.into()))
            .collect())
    }

    /// The key that a setting of type [`OptionType::Secret`] leads to: the value of the first of its environment
    /// variables that is set and not empty. None if none is, or if the setting was not given.
    pub fn secret(&self, name: &str) -> Result<Option<Secret>> {
        let names: Option<String> = self.get(name)?;
        Secret::read(name, names.as_deref().unwrap_or_default(), |name| {
            std::env::var(name).ok()
        })
    }

    /// All settings as an author's own struct.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(Value::Object(self.0.clone()))
            .map_err(|why| Error::new(Code::SETTINGS, format!("settings can't be used: {why}")))
    }
}

/// What a value of the type [`OptionType::Folders`] names: the folders or hub ids as they are given, with their names.
/// For hosts; plugins use [`Settings::folders`].
///
/// The default name is the last part of the path. A path with a comma needs a table.
pub fn named_folders(value: &Value) -> std::result::Result<Vec<(String, String)>, String> {
    let mut named: Vec<(String, String)> = Vec::new();
    let mut add = |name: &str, folder: &str| {
        let (name, folder) = (name.trim(), folder.trim());
        if name.is_empty() || folder.is_empty() {
            return Err(format!("`{name}={folder}` lacks a name or a folder"));
        }
        if name == "none" || named.iter().any(|(known, _)| known == name) {
            return Err(format!("the name `{name}` is taken"));
        }
        named.push((name.to_owned(), folder.to_owned()));
        Ok(())
    };
    match value {
        Value::String(text) => {
            for piece in text.split(',').filter(|piece| !piece.trim().is_empty()) {
                match piece.split_once('=').filter(|(name, _)| !name.contains('/')) {
                    Some((name, folder)) => add(name, folder)?,
                    None => add(own_name(piece), piece)?,
                }
            }
        }
        Value::Object(table) => {
            for (name, folder) in table {
                let folder = folder
                    .as_str()
                    .ok_or_else(|| format!("`{name}` is {folder}, expected a folder"))?;
                add(name, folder)?;
            }
        }
        other => return Err(format!("expected `PATH`, `NAME=PATH,…` or a table, got {other}")),
    }
    Ok(named)
}

/// The last part of a path, or of a hub id without its revision.
fn own_name(text: &str) -> &str {
    let text = text.trim().trim_end_matches('/');
    let last = text.rsplit('/').next().unwrap_or(text);
    match text.starts_with(['.', '/', '~']) {
        true => last,
        false => last.split('@').next().unwrap_or(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(value: Value, expected: &[(&str, &str)]) {
        let named = named_folders(&value).unwrap();
        let named: Vec<_> = named
            .iter()
            .map(|(name, folder)| (name.as_str(), folder.as_str()))
            .collect();
        assert_eq!(named, expected, "{value}");
    }

    #[track_caller]
    fn check_refused(value: Value, says: &str) {
        let why = named_folders(&value).unwrap_err();
        assert!(why.contains(says), "{why}");
    }

    #[test]
    fn folders_have_names() {
        check(json!("/a/b/"), &[("b", "/a/b/")]);
        check(json!("x=/a/b"), &[("x", "/a/b")]);
        check(json!("x=a, y = /b/c ,./d"), &[("x", "a"), ("y", "/b/c"), ("d", "./d")]);
        check(json!("org/name@main"), &[("name", "org/name@main")]);
        check(json!("/a/step=100"), &[("step=100", "/a/step=100")]);
        check(json!("x=/a/step=100"), &[("x", "/a/step=100")]);
        check(json!({ "x": "/a,b", "y": "c" }), &[("x", "/a,b"), ("y", "c")]);
        check(json!(""), &[]);
    }

    #[test]
    fn names_are_given_once_and_none_is_none() {
        check_refused(json!("x=a,x=b"), "`x` is taken");
        check_refused(json!("a/b,c/b"), "`b` is taken");
        check_refused(json!("none=a"), "`none` is taken");
        check_refused(json!("=a"), "lacks a name");
        check_refused(json!("x="), "lacks a name or a folder");
        check_refused(json!({ "x": 7 }), "`x` is 7");
        check_refused(json!(["a"]), "expected `PATH`");
    }
}
