//! The registry's entries, after all layers were merged.

use plugin_api::Kind;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Where a plugin's code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// In this process: fast, but its crash is ours.
    InProcess,
    /// In a worker process. The default for every plugin that this repository didn't build.
    #[default]
    Process,
}

impl Isolation {
    /// The word that the registry uses.
    pub fn word(self) -> &'static str {
        match self {
            Isolation::InProcess => "in-process",
            Isolation::Process => "process",
        }
    }
}

/// One plugin of the registry.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PluginSpec {
    /// Its name in the registry.
    pub name: String,
    /// The file, absolute. Plugins are loaded from nowhere else.
    pub path: PathBuf,
    /// The sha256 that the file must have.
    pub sha256: Option<String>,
    /// The versions that may be loaded, as Cargo writes them.
    pub version: Option<String>,
    /// Where its code runs.
    pub isolation: Isolation,
    /// Environment variables of its worker.
    pub env: BTreeMap<String, String>,
    /// The most memory its worker may take, in bytes.
    pub memory: Option<u64>,
    /// The longest that one call may take, including the one that makes an adapter.
    pub deadline: Option<Duration>,
    /// The registry file that names it.
    pub named_in: PathBuf,
}

/// One model, task or judge of the registry.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterSpec {
    /// Its kind.
    pub kind: Kind,
    /// Its name in the registry: what `--model` and its siblings take.
    pub name: String,
    /// The plugin that holds it.
    pub plugin: String,
    /// Its name inside the plugin.
    pub adapter: String,
    /// Its settings.
    pub settings: BTreeMap<String, Given>,
    /// Settings that `--demo` lays over these.
    pub demo: Option<BTreeMap<String, Given>>,
    /// Settings that `host train --demo` lays over these: what it starts from.
    pub train_demo: Option<BTreeMap<String, Given>>,
    /// The tasks that the demo's weights were taught, by their names in tables of results; other numbers mean nothing.
    pub taught: Vec<String>,
    /// False if `all` leaves it out: it needs a key, a server or a script of the user's, or is one of many of a kind.
    pub in_all: bool,
}

impl AdapterSpec {
    /// Whether the given settings override none of the demo's.
    pub fn keeps_demo<V>(&self, given: &BTreeMap<String, V>) -> bool {
        let demo = self.demo.as_ref();
        demo.is_some_and(|demo| demo.keys().all(|key| !given.contains_key(key)))
    }
}

/// A setting as given, and where it was given.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The value; from the command line it is always text.
    pub value: Value,
    /// The folder that a relative path in it starts from.
    pub base: PathBuf,
    /// Where it was given, for messages: a file, or a flag.
    pub place: String,
}
