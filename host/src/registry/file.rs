//! One registry file, as written.
//!
//! Unknown keys are refused, with the nearest known one as a hint: a misspelt `isolaton` that is silently ignored would
//! run a stranger's code in this process.

use crate::failure::{Doing, Exit, Failure, Result};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tables of one file.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RegistryFile {
    pub plugins: BTreeMap<String, PluginEntry>,
    pub models: BTreeMap<String, AdapterEntry>,
    pub tasks: BTreeMap<String, AdapterEntry>,
    pub judges: BTreeMap<String, AdapterEntry>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
    /// Where it was read from.
    #[serde(skip)]
    pub path: PathBuf,
}

/// `[plugins.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct PluginEntry {
    pub path: Option<String>,
    pub sha256: Option<String>,
    pub version: Option<String>,
    pub isolation: Option<String>,
    pub env: BTreeMap<String, String>,
    pub memory: Option<String>,
    pub deadline: Option<String>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

/// `[models.NAME]`, `[tasks.NAME]`, `[judges.NAME]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AdapterEntry {
    pub plugin: Option<String>,
    pub adapter: Option<String>,
    pub settings: Map<String, Value>,
    pub demo: Option<Map<String, Value>>,
    #[serde(rename = "train-demo")]
    pub train_demo: Option<Map<String, Value>>,
    pub taught: Option<Vec<String>>,
    pub all: Option<bool>,
    #[serde(flatten)]
    unknown: BTreeMap<String, toml::Value>,
}

const TABLES: &[&str] = &["plugins", "models", "tasks", "judges"];
const PLUGIN_KEYS: &[&str] = &["path", "sha256", "version", "isolation", "env", "memory", "deadline"];
const ADAPTER_KEYS: &[&str] = &["plugin", "adapter", "settings", "demo", "train-demo", "taught", "all"];

impl RegistryFile {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<RegistryFile> {
        let text = std::fs::read_to_string(path)
            .or_fail(Exit::Usage, || format!("cannot read the registry `{}`", path.display()))?;
        RegistryFile::parse(&text, path)
    }

    /// Reads a text that stands in the file `path`.
    pub fn parse(text: &str, path: &Path) -> Result<RegistryFile> {
        let mut file: RegistryFile = toml::from_str(text).map_err(|why| {
            let message = format!("the registry `{}` is malformed", path.display());
            Failure::usage(message).cause(why.to_string().trim_end())
        })?;
        file.path = path.to_owned();
        file.refuse_unknown_keys()?;
        Ok(file)
    }

    fn refuse_unknown_keys(&self) -> Result<()> {
        self.refuse("", &self.unknown, TABLES)?;
        for (name, entry) in &self.plugins {
            self.refuse(&format!("plugins.{name}"), &entry.unknown, PLUGIN_KEYS)?;
        }
        for (table, entries) in [
            ("models", &self.models),
            ("tasks", &self.tasks),
            ("judges", &self.judges),
        ] {
            for (name, entry) in entries {
                self.refuse(&format!("{table}.{name}"), &entry.unknown, ADAPTER_KEYS)?;
            }
        }
        Ok(())
    }

    fn refuse(&self, table: &str, unknown: &BTreeMap<String, toml::Value>, known: &[&str]) -> Result<()> {
        let Some(key) = unknown.keys().next() else {
            return Ok(());
        };
        let place = if table.is_empty() {
            String::new()
        } else {
            format!(" in `[{table}]`")
        };
        let message = format!("unknown key `{key}`{place} of the registry `{}`", self.path.display());
        let mut failure = Failure::usage(message).help(super::nearest_hint(key, known.iter().copied()));
        if known == ADAPTER_KEYS {
            failure = failure.cause(format!("settings of the adapter itself stand in `[{table}.settings]`"));
        }
        Err(failure)
    }
}
