//! `host plugins check`: tests one plugin for everything that the host relies on.
//!
//! It is meant for a plugin author's own continuous integration, so its messages point to the line to change; the
//! repository's own plugins have to pass it, too. The file is inspected before it is loaded, and it is loaded only into
//! workers: a plugin under test may well crash, and the check must survive to report it.

mod adapter_under_test;
mod common;
mod files;
mod judge;
mod load;
mod model;
mod report;
mod serving;
mod static_checks;
mod task;

pub(crate) use load::run_probe;
pub use report::{Check, Report, Verdict};

use crate::failure::{Exit, Failure, Result};
use crate::plugin::OpenPlugin;
use crate::registry::settings;
use crate::registry::{Given, Isolation, PluginSpec, nearest_hint};
use plugin_api::{AdapterNote, Error, Kind, OptionType, Settings};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// A call that takes longer counts as hanging. Long enough to read weights, and short enough for continuous
/// integration.
const LONGEST_CALL: Duration = Duration::from_secs(120);

/// Checks a plugin's file. `given` holds settings by name, for every adapter that has a setting of that name.
pub fn check(path: &Path, given: &BTreeMap<String, Given>) -> Result<Report> {
    let path = path.canonicalize().map_err(|why| {
        let message = format!("there is no plugin at `{}`", path.display());
        Failure::new(Exit::Missing, message).cause(why)
    })?;
    let mut report = Report {
        file: path.display().to_string(),
        ..Report::default()
    };
    let Some(note) = static_checks::check(&mut report, &path) else {
        return Ok(report);
    };
    report.plugin = Some(format!("{} {}", note.name, note.version));
    refuse_unknown(given, &note.adapters)?;
    let spec = PluginSpec {
        name: note.name.clone(),
        path,
        isolation: Isolation::Process,
        deadline: Some(LONGEST_CALL),
        ..PluginSpec::default()
    };
    let mut all_settings = BTreeMap::new();
    for note in &note.adapters {
        all_settings.insert(load::title(note), settings_of(note, given)?);
    }
    let Some(plugin) = load::check(&mut report, &spec, &note, &all_settings) else {
        return Ok(report);
    };
    for note in &note.adapters {
        let settings = all_settings.remove(&load::title(note)).unwrap_or_default();
        check_adapter(&mut report, &plugin, note, settings);
    }
    for note in &note.files {
        files::check(&mut report, &plugin, &note.task);
    }
    Ok(report)
}

/// Those of the given settings that this adapter has, checked as the registry's are, and its defaults.
fn settings_of(note: &AdapterNote, given: &BTreeMap<String, Given>) -> Result<Settings> {
    let has = |name: &String| is_open(note) || note.options.iter().any(|option| option.name == *name);
    let own = given.iter().filter(|(name, _)| has(name));
    let own: BTreeMap<String, Given> = own.map(|(name, given)| (name.clone(), given.clone())).collect();
    Ok(settings::check(&own, note)?.settings)
}

/// Whether it takes undeclared settings, such as those of a script that it reads.
fn is_open(note: &AdapterNote) -> bool {
    note.options.iter().any(|option| option.kind == OptionType::Open)
}

fn check_adapter(report: &mut Report, plugin: &OpenPlugin, note: &AdapterNote, settings: Settings) {
    let make = |settings: &Settings| {
        let made = plugin.make(note.kind, &note.name, settings);
        made.map(|made| made.adapter)
            .map_err(|failure| without_context(failure.error))
    };
    let given = settings.clone();
    if let Some(subject) = common::make(report, note, settings, &make) {
        if note.kind == Kind::Model && plugin.note().estimates(&note.name) {
            estimates_memory(report, plugin, note, &given);
        }
        match note.kind {
            Kind::Model => model::check(report, &subject),
            Kind::Task => task::check(report, &subject),
            Kind::Judge => judge::check(report, &subject),
        }
        common::manners(report, &subject);
    }
}

/// A model that can be made must be able to say what it takes.
fn estimates_memory(report: &mut Report, plugin: &OpenPlugin, note: &AdapterNote, settings: &Settings) {
    report.check(&load::title(note), "its memory is estimated", || {
        let estimate = plugin.estimate(&note.name, settings).map_err(|failure| failure.error)?;
        let bytes = estimate.map_or(0, |estimate| estimate.weights_bytes);
        Ok(format!("{} of weights", crate::process::in_words(bytes)))
    });
}

/// Shortens an error, since the report already names plugin and adapter.
fn without_context(mut error: Error) -> Error {
    if error.message.starts_with("cannot make ") && !error.causes.is_empty() {
        error.message = error.causes.remove(0);
    }
    error
}

fn refuse_unknown(given: &BTreeMap<String, Given>, adapters: &[AdapterNote]) -> Result<()> {
    let known = || {
        adapters
            .iter()
            .flat_map(|note| &note.options)
            .map(|option| option.name.as_str())
    };
    if adapters.iter().any(is_open) {
        return Ok(());
    }
    match given.keys().find(|name| known().all(|known| known != name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let message = format!("no adapter of this plugin has a setting `{name}`");
            Err(Failure::usage(message).help(nearest_hint(name, known())))
        }
    }
}
