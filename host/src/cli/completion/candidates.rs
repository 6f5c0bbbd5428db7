//! What a word can become: names of the registry, settings of plugins, run directories.

use super::asked::given;
use crate::export::GENERIC;
use crate::plugin::Note;
use crate::registry::Registry;
use clap_complete::engine::CompletionCandidate;
use plugin_api::{Kind, OptionSpec, OptionType};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Names of these kinds, one or several with commas between them.
pub fn adapters(current: &OsStr, kinds: &[Kind], more: &[&str]) -> Vec<CompletionCandidate> {
    let Some((registry, text)) = registry().zip(current.to_str()) else {
        return Vec::new();
    };
    let (before, last) = text.rfind(',').map_or(("", text), |comma| text.split_at(comma + 1));
    let known = kinds.iter().flat_map(|kind| registry.names(*kind));
    let names = known.chain(more.iter().map(|name| (*name).to_owned()));
    names
        .filter(|name| name.starts_with(last) && !before.split(',').any(|given| given == name))
        .map(|name| CompletionCandidate::new(format!("{before}{name}")))
        .collect()
}

/// `judge=MODEL`
pub fn role(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_str().unwrap_or_default();
    match (text.split_once('='), registry()) {
        (Some((role, model)), Some(registry)) => registry
            .names(Kind::Model)
            .into_iter()
            .filter(|name| name.starts_with(model))
            .map(|name| CompletionCandidate::new(format!("{role}={name}")))
            .collect(),
        _ => starting(text, ["judge="]),
    }
}

/// Settings of the adapters that the command line names, or of all of the kind, and the values of one.
pub fn settings(current: &OsStr, kind: Kind) -> Vec<CompletionCandidate> {
    let Some((registry, text)) = registry().zip(current.to_str()) else {
        return Vec::new();
    };
    let flags = match kind {
        Kind::Model => ["--model", "-m"],
        Kind::Task => ["--task", "-t"],
        Kind::Judge => ["--judge", "-j"],
    };
    let mut names: Vec<String> = given(&flags)
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::to_owned)
        .collect();
    // `NAME:key=value` is for one of several.
    let key_end = text.find('=').unwrap_or(text.len());
    let (before, rest) = match text[..key_end].find(':') {
        Some(colon) => text.split_at(colon + 1),
        None => ("", text),
    };
    if !before.is_empty() {
        names = vec![before.trim_end_matches(':').to_owned()];
    }
    names.retain(|name| registry.adapter(kind, name).is_ok());
    if names.is_empty() {
        names = registry.names(kind);
    }
    let options = options_of(&registry, kind, &names);
    match rest.split_once('=') {
        None => {
            let matching = options.into_iter().filter(|option| option.name.starts_with(rest));
            matching
                .filter(|option| option.kind != OptionType::Open)
                .map(|option| {
                    CompletionCandidate::new(format!("{before}{}=", option.name)).help(Some(option.help.into()))
                })
                .collect()
        }
        Some((key, value)) => match options.into_iter().find(|option| option.name == key) {
            Some(option) => values(&option, value, &format!("{before}{key}=")),
            None => Vec::new(),
        },
    }
}

/// The LoRAs that `-M lora=NAME=FOLDER` gives, or the registry, and `none`.
pub fn loras(current: &OsStr) -> Vec<CompletionCandidate> {
    let mut names = vec!["none".to_owned()];
    let named = |text: &str| -> Vec<String> {
        let pairs = text.split(',').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, _)| name.to_owned()).collect()
    };
    for setting in given(&["-M"]) {
        let lora = setting
            .split_once("lora=")
            .filter(|(before, _)| before.is_empty() || before.ends_with(':'));
        names.extend(lora.map(|(_, text)| named(text)).unwrap_or_default());
    }
    let registry = registry().unwrap_or_default();
    for model in given(&["--model", "-m"]).iter().flat_map(|text| text.split(',')) {
        let spec = registry.adapter(Kind::Model, model).ok();
        match spec
            .and_then(|spec| spec.settings.get("lora"))
            .map(|given| &given.value)
        {
            Some(Value::Object(folders)) => names.extend(folders.keys().cloned()),
            Some(Value::String(text)) => names.extend(named(text)),
            _ => {}
        }
    }
    let text = current.to_str().unwrap_or_default();
    let (before, last) = text.rfind(',').map_or(("", text), |comma| text.split_at(comma + 1));
    let matching = names.into_iter().filter(|name| name.starts_with(last));
    matching
        .map(|name| CompletionCandidate::new(format!("{before}{name}")))
        .collect()
}

/// Formats that a run of any task can be written in.
pub fn formats(current: &OsStr) -> Vec<CompletionCandidate> {
    starting(current.to_str().unwrap_or_default(), GENERIC.map(|(name, _)| name))
}

/// Run directories and trainings, and folders on the way to them. With nothing typed: those in `runs`.
pub fn runs(current: &OsStr) -> Vec<CompletionCandidate> {
    let text = current.to_string_lossy();
    let (folder, last) = text.rfind('/').map_or(("", &*text), |slash| text.split_at(slash + 1));
    let mut found = entries(folder, last);
    if folder.is_empty() {
        let runs = entries("runs/", last).into_iter().filter(|(_, is_run)| *is_run);
        found.extend(runs.collect::<Vec<_>>());
    }
    let shown = |(path, is_run): (String, bool)| CompletionCandidate::new(if is_run { path } else { path + "/" });
    found.into_iter().map(shown).collect()
}

/// Folders whose names begin so, and whether each is a run.
fn entries(folder: &str, start: &str) -> Vec<(String, bool)> {
    let place = if folder.is_empty() {
        Path::new(".")
    } else {
        Path::new(folder)
    };
    let names = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut found: Vec<(String, bool)> = names
        .filter_map(|entry| {
            let (name, path) = (entry.file_name().into_string().ok()?, entry.path());
            let wanted = name.starts_with(start) && (start.starts_with('.') || !name.starts_with('.'));
            let is_run = ["samples.jsonl", "metrics.jsonl"]
                .iter()
                .any(|file| path.join(file).exists());
            (wanted && path.is_dir()).then(|| (format!("{folder}{name}"), is_run))
        })
        .collect();
    found.sort();
    found
}

/// What an option can be: what it lists, yes or no, or a path.
fn values(option: &OptionSpec, value: &str, before: &str) -> Vec<CompletionCandidate> {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let listed: Vec<String> = match option.kind {
        OptionType::Flag => vec!["true".to_owned(), "false".to_owned()],
        OptionType::Path | OptionType::Weights | OptionType::Data | OptionType::Folders => paths(value),
        _ => option.allowed.iter().map(plain).collect(),
    };
    let matching = listed.into_iter().filter(|text| text.starts_with(value));
    matching
        .map(|text| CompletionCandidate::new(format!("{before}{text}")))
        .collect()
}

/// Files and folders whose paths begin so.
fn paths(text: &str) -> Vec<String> {
    let (folder, last) = text.rfind('/').map_or(("", text), |slash| text.split_at(slash + 1));
    let place = if folder.is_empty() {
        PathBuf::from(".")
    } else {
        PathBuf::from(folder)
    };
    let names = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut found: Vec<String> = names
        .filter_map(|entry| {
            let name = entry
                .file_name()
                .into_string()
                .ok()
                .filter(|name| name.starts_with(last))?;
            let slash = if entry.path().is_dir() { "/" } else { "" };
            Some(format!("{folder}{name}{slash}"))
        })
        .collect();
    found.sort();
    found
}

fn options_of(registry: &Registry, kind: Kind, names: &[String]) -> Vec<OptionSpec> {
    let mut options: Vec<OptionSpec> = Vec::new();
    for name in names {
        let Ok(spec) = registry.adapter(kind, name) else {
            continue;
        };
        let note = registry
            .plugin(&spec.plugin)
            .and_then(|plugin| Note::read(&plugin.path));
        let meant = note.and_then(|note| note.meant(spec).cloned());
        for option in meant.map(|note| note.options).unwrap_or_default() {
            if !options.iter().any(|known| known.name == option.name) {
                options.push(option);
            }
        }
    }
    options
}

fn registry() -> Option<Registry> {
    let extra: Vec<PathBuf> = given(&["--registry"]).into_iter().map(PathBuf::from).collect();
    Registry::load(&extra).ok()
}

fn starting<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<CompletionCandidate> {
    let known = known.into_iter().filter(|name| name.starts_with(text));
    known.map(CompletionCandidate::new).collect()
}
