//! Names to adapters: registry entry, plugin, checked settings, weights and data as folders, and the adapter made.

mod flags;

pub use flags::Flags;

use crate::failure::{Doing, Exit, Failure, Result};
use crate::fingerprint::fingerprint;
use crate::plugin::{self, OpenAdapter, OpenPlugin};
use crate::registry::settings::{Checked, Source, check, check_complete};
use crate::registry::{AdapterSpec, Given, Registry};
use hub::{Hub, HubId, Progress};
use plugin_api::client::{JudgeClient, ModelClient, TaskClient};
use plugin_api::{AdapterNote, Kind, OptionType, Settings};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// The files that a model needs from a repository; other formats of the same weights are not fetched.
const WEIGHT_FILES: &[&str] = &[
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.gguf",
    "pytorch_model*.bin",       // where there is nothing else
    "*non_lora_trainables.bin", // what a training beside a LoRA changed
    "!onnx/*",
    "!openvino/*",
];

/// The registry, and the options of this command.
pub struct Catalog<'a> {
    pub registry: &'a Registry,
    /// Never touch the network.
    pub offline: bool,
    /// Lay the demo settings over the others.
    pub demo: bool,
    /// Shows the progress of a download.
    pub show: &'a (dyn Fn(&str, Progress<'_>) + Sync),
    pub stop: &'a AtomicBool,
}

/// An adapter by its registry name with everything that it needs, not created yet.
pub struct Resolved {
    pub spec: AdapterSpec,
    pub plugin: Arc<OpenPlugin>,
    pub note: AdapterNote,
    pub settings: Settings,
    /// Everything that answers depend on: names, versions, hashes, settings, weights and data.
    pub identity: Value,
    /// True if it is the registry's demo, without other settings.
    pub is_demo: bool,
}

impl Catalog<'_> {
    /// Checks everything about an adapter that can be checked before it is created. Fetches weights and data if
    /// necessary.
    pub fn resolve(&self, kind: Kind, name: &str, flags: &BTreeMap<String, Given>) -> Result<Resolved> {
        let mut spec = self.registry.adapter(kind, name)?.clone();
        let plugin = plugin::open(self.registry.plugin(&spec.plugin)?)?;
        let note = plugin.note().meant(&spec)?.clone();
        spec.adapter.clone_from(&note.name);
        let mut given = spec.settings.clone();
        if self.demo {
            given.extend(spec.demo.clone().unwrap_or_default());
        }
        let is_demo = self.demo && spec.keeps_demo(flags);
        given.extend(flags.clone());
        let checked = check(&given, &note)?;
        check_complete(&checked.settings, &note)?;
        let (settings, sources) = self.fetch(kind, name, checked)?;
        let hash = plugin.sha256().to_owned();
        let mut plain = settings.0.clone();
        // The path of a folder is not part of the identity; the hash of its contents is.
        sources.keys().for_each(|option| drop(plain.remove(option)));
        // Options that affect only speed or memory do not make another run.
        let neutral = note.options.iter().filter(|option| option.neutral);
        neutral.for_each(|option| drop(plain.remove(&option.name)));
        let identity = json!({
            "name": name, "adapter": spec.adapter, "plugin": plugin.note().name, "plugin_version": plugin.note().version,
            "plugin_sha256": hash, "settings": plain, "sources": sources,
        });
        Ok(Resolved {
            spec,
            plugin,
            note,
            settings,
            identity,
            is_demo,
        })
    }

    /// What an adapter's plugin says about it, without checking or running anything.
    pub fn plugin_note(&self, spec: &AdapterSpec) -> Result<AdapterNote> {
        let note = plugin::Note::read(&self.registry.plugin(&spec.plugin)?.path)?;
        note.meant(spec).cloned()
    }

    /// Replaces hub ids by folders, and hashes the contents of each.
    fn fetch(&self, kind: Kind, name: &str, checked: Checked) -> Result<(Settings, Map<String, Value>)> {
        let Checked { mut settings, sources } = checked;
        let mut identities = Map::new();
        for (option, (of, sources)) in sources {
            let place = || format!("`{option}` of {kind} `{name}`");
            let mut found = Vec::new();
            for source in sources {
                found.push(match source {
                    Source::Local(path) => {
                        if of != OptionType::Path && !path.exists() {
                            let failure = Failure::missing(format!("{} is not there: `{}`", place(), path.display()));
                            return Err(failure.help(
                                "give a file or folder that exists, or a hub id as `org/name` or `org/name@revision`",
                            ));
                        }
                        let content =
                            fingerprint(&path).or_fail(Exit::Missing, || format!("cannot read {}", place()))?;
                        (path, json!({ "content": content }))
                    }
                    Source::Hub(id) => {
                        let snapshot = self
                            .snapshot(of, &id)
                            .map_err(|failure| failure.context(format!("{} can't be had", place())))?;
                        let mut identity = json!({ "hub": snapshot.name, "commit": snapshot.commit });
                        if let Some(file) = snapshot.gguf() {
                            identity["file"] = file.into();
                        }
                        (snapshot.place(), identity)
                    }
                });
            }
            let (folders, found): (Vec<Value>, Vec<Value>) = found
                .into_iter()
                .map(|(folder, identity)| (folder.display().to_string().into(), identity))
                .unzip();
            // One path is a text; several are a list, or an object if they have names.
            let names = settings.0.get(&option).and_then(Value::as_object);
            let names: Option<Vec<String>> = names.map(|named| named.keys().cloned().collect());
            let one = |mut list: Vec<Value>| match &names {
                Some(names) => Value::Object(names.iter().cloned().zip(list).collect()),
                None if list.len() == 1 => list.remove(0),
                None => list.into(),
            };
            settings.0.insert(option.clone(), one(folders));
            identities.insert(option, one(found));
        }
        Ok((settings, identities))
    }

    /// A repository of the hub as a folder: from the cache if it is there.
    pub fn snapshot(&self, of: OptionType, id: &str) -> Result<hub::Snapshot> {
        let (kind, patterns) = match of {
            OptionType::Data => (hub::Kind::Dataset, &[][..]),
            _ if id.starts_with("datasets/") => (hub::Kind::Dataset, &[][..]),
            _ => (hub::Kind::Model, WEIGHT_FILES),
        };
        let parsed = HubId::parse(id, kind)?;
        let hub = Hub::from_env(self.offline)?;
        let mut show = |progress: Progress<'_>| (self.show)(id, progress);
        Ok(hub.snapshot(&parsed, patterns, &mut show, self.stop)?)
    }
}

impl Resolved {
    /// What the scores of a task or judge depend on: its version stands for its plugin's bytes, since rebuilding a
    /// plugin changes no score.
    pub fn scorer_identity(&self, version: &str) -> Value {
        let mut identity = self.identity.clone();
        if let Some(map) = identity.as_object_mut() {
            map.remove("plugin_sha256");
            map.remove("plugin_version");
            map.insert("version".to_owned(), json!(version));
        }
        identity
    }

    /// Makes the adapter. For a model this loads its weights.
    pub fn make(&self) -> Result<OpenAdapter> {
        self.plugin.make(self.spec.kind, &self.spec.adapter, &self.settings)
    }

    pub fn model(&self) -> Result<(ModelClient, OpenAdapter)> {
        let made = self.make()?;
        Ok((ModelClient(made.adapter.clone()), made))
    }

    pub fn task(&self) -> Result<TaskClient> {
        Ok(TaskClient(self.make()?.adapter))
    }

    pub fn judge(&self) -> Result<JudgeClient> {
        Ok(JudgeClient(self.make()?.adapter))
    }
}
