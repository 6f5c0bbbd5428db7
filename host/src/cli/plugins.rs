//! `host plugins`: lists the registry's plugins, inspects a plugin's file, and checks whether it is reliable.

mod pin;

use super::{Common, print};
use crate::conformance;
use crate::failure::{Doing, Exit, Failure, Result};
use crate::plugin::note::Note;
use crate::plugin::{elf, trust};
use crate::registry::{Given, PluginSpec, Registry, settings};
use crate::scaffold;
use plugin_api::{AdapterNote, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

/// The commands of `host plugins`.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// List every plugin of the registry; runs no plugin code
    List,
    /// Show what a plugin's file says about itself; runs none of its code
    Inspect {
        /// The shared library
        file: PathBuf,
    },
    /// Test everything that the host relies on; exit with 4 if something fails
    ///
    /// Loads the plugin in separate processes, never in this one. Give weights and data with `--settings`; an adapter
    /// that lacks some of them is tested as far as possible.
    Check {
        /// The shared library, or the script of a Python model
        file: PathBuf,
        /// A setting for every adapter that has a setting of this name
        #[arg(long, short, value_name = "NAME=VALUE")]
        settings: Vec<String>,
    },
    /// Write a new plugin: a crate that builds and passes `check` as it is
    New {
        /// The name of the crate and of what it holds
        name: String,
        /// What it holds: `model`, `task`, `judge`, or `python-model` for a script in an environment of your own
        #[arg(long, value_parser = sort)]
        kind: Sort,
        /// The folder to write; NAME in the current one by default
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// A source folder of plugin-api to build with
        #[arg(long, value_name = "FOLDER")]
        api: Option<PathBuf>,
    },
    /// Write a plugin's sha256 into the registry: from then on no other file is loaded under its name
    Pin {
        /// The plugin's name in the registry
        name: String,
    },
}

/// What `host plugins new` writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sort {
    /// A crate that becomes a shared library.
    Crate(Kind),
    /// A script for the plugin that runs Python.
    PythonModel,
}

fn sort(word: &str) -> std::result::Result<Sort, String> {
    match Kind::from_word(word) {
        Some(kind) => Ok(Sort::Crate(kind)),
        None if word == "python-model" => Ok(Sort::PythonModel),
        None => Err("expected `model`, `task`, `judge` or `python-model`".to_owned()),
    }
}

/// Runs the command. Only commands that need the registry read it.
pub(super) fn run(command: &Command, common: &Common) -> Result<Exit> {
    let json = common.json;
    let text = match command {
        Command::List => list(&common.registry()?, json),
        Command::Inspect { file } => inspect(file, json)?,
        Command::Check { file, settings } => {
            let report = match file.extension().is_some_and(|end| end == "py") {
                true => check_script(file, given(settings)?, common)?,
                false => conformance::check(file, &given(settings)?)?,
            };
            print(&if json {
                pretty(&report.to_json())
            } else {
                report.render()
            });
            return Ok(if report.passed() { Exit::Ok } else { Exit::Refused });
        }
        Command::New { name, kind, out, api } => match kind {
            Sort::Crate(kind) => new(name, *kind, out, api)?,
            Sort::PythonModel => new_script(name, out.as_deref())?,
        },
        Command::Pin { name } => pin::pin(common.registry()?.plugin(name)?)?,
    };
    print(&text);
    Ok(Exit::Ok)
}

fn pretty(json: &Value) -> String {
    serde_json::to_string_pretty(json).unwrap_or_default() + "\n"
}

fn given(flags: &[String]) -> Result<BTreeMap<String, Given>> {
    let base = std::env::current_dir().unwrap_or_default();
    let mut given = BTreeMap::new();
    for flag in flags {
        let Some((name, value)) = flag.split_once('=') else {
            let message = format!("`--settings {flag}` gives no value");
            return Err(Failure::usage(message).help("write it as `--settings NAME=VALUE`"));
        };
        let setting = Given {
            value: value.into(),
            base: base.clone(),
            place: "--settings".to_owned(),
        };
        given.insert(name.to_owned(), setting);
    }
    Ok(given)
}

// --- list --------------------------------------------------------------------------------------------------------

fn list(registry: &Registry, as_json: bool) -> String {
    let plugins = registry.plugins.values();
    let entries: Vec<Value> = plugins.map(|spec| entry(spec, registry)).collect();
    if as_json {
        return pretty(&entries.into());
    }
    if entries.is_empty() {
        return "no registry names a plugin\n".to_owned();
    }
    let mut text = String::new();
    for entry in &entries {
        let word = |key: &str| entry[key].as_str().unwrap_or("?");
        let pinned = if entry["pinned"] == true {
            "pinned"
        } else {
            "not pinned"
        };
        text.push_str(&format!(
            "{} {}, plugin-api {}, {}, {pinned}: {}\n  {}\n",
            word("name"),
            word("version"),
            word("api"),
            word("isolation"),
            word("status"),
            word("path")
        ));
        for adapter in entry["adapters"].as_array().into_iter().flatten() {
            text.push_str(&format!("  {}\n", adapter.as_str().unwrap_or("?")));
        }
    }
    text
}

fn entry(spec: &PluginSpec, registry: &Registry) -> Value {
    let mut entry = json!({
        "name": spec.name,
        "path": spec.path.display().to_string(),
        "isolation": spec.isolation.word(),
        "pinned": spec.sha256.is_some(),
        "registry": spec.named_in.display().to_string(),
        "status": "ok",
    });
    match crate::plugin::look(spec) {
        Ok(note) => {
            let names = note.adapters.iter().map(|note| named(note, &spec.name, registry));
            entry["adapters"] = names.collect::<Vec<_>>().into();
            entry["version"] = note.version.into();
            entry["api"] = note.api.into();
        }
        Err(failure) if failure.exit == Exit::Missing => {
            entry["status"] = format!("missing: {}", failure.error).into();
        }
        Err(failure) => entry["status"] = format!("refused: {}", failure.error).into(),
    }
    entry
}

/// ``model `echo` ``, and what the registry calls it.
fn named(note: &AdapterNote, plugin: &str, registry: &Registry) -> String {
    let of = |spec: &&crate::registry::AdapterSpec| {
        spec.kind == note.kind && spec.plugin == plugin && spec.adapter == note.name
    };
    let names: Vec<_> = registry
        .adapters
        .values()
        .filter(of)
        .map(|spec| spec.name.as_str())
        .collect();
    let known = match names.as_slice() {
        [] => ", which no registry names".to_owned(),
        [name] if *name == note.name => String::new(),
        names => format!(", in the registry `{}`", names.join("`, `")),
    };
    format!("{} `{}`: {}{known}", note.kind, note.name, note.about)
}

// --- inspect -----------------------------------------------------------------------------------------------------

fn inspect(path: &Path, as_json: bool) -> Result<String> {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let file = File::open(&path).or_fail(Exit::Missing, || format!("cannot open `{}`", path.display()))?;
    let look = elf::look(&file, &path)?;
    let note = Note::of(&look, &path)?;
    let size = file.metadata().map_or(0, |found| found.len());
    let spec = PluginSpec {
        name: note.name.clone(),
        path: path.clone(),
        ..PluginSpec::default()
    };
    // A file that others could have written can still be inspected.
    let sha256 = trust::sha256(&path)?;
    let refused = crate::plugin::look(&spec)
        .err()
        .map(|failure| failure.error.to_string());
    let glibc: Vec<&String> = look.glibc.iter().collect();
    if as_json {
        return Ok(pretty(&json!({
            "file": path.display().to_string(), "bytes": size, "sha256": sha256,
            "name": note.name, "version": note.version, "api": note.api, "rustc": note.rustc,
            "panic": note.panic, "debug": note.debug, "exports": look.exports, "needs": look.needs, "glibc": glibc,
            "adapters": note.adapters, "refused": refused,
        })));
    }
    let build = if note.debug { "debug" } else { "release" };
    let mut text = format!("{} {}\n", note.name, note.version);
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<12} {value}\n"));
    line("file", &path.display().to_string());
    line("size", &format!("{size} bytes"));
    line("sha256", &sha256);
    line(
        "plugin-api",
        &format!("{} (this host: {})", note.api, plugin_api::VERSION),
    );
    line("build", &format!("{build}, panics {}, {}", note.panic, note.rustc));
    line("exports", &look.exports.to_string());
    line("needs", &look.needs.join(", "));
    line("glibc", &newest(&glibc));
    line("loadable", refused.as_ref().map_or("yes", |why| why.as_str()));
    for adapter in &note.adapters {
        text.push_str(&format!("\n{} `{}`: {}\n", adapter.kind, adapter.name, adapter.about));
        for option in &adapter.options {
            text.push_str(&format!("  {}\n", settings::describe(option)));
        }
    }
    Ok(text)
}

fn newest(versions: &[&String]) -> String {
    let number = |name: &&&String| -> Vec<u32> {
        let numbers = name.trim_start_matches("GLIBC_").split('.');
        numbers.map_while(|part| part.parse().ok()).collect()
    };
    versions
        .iter()
        .max_by_key(number)
        .map_or("none".to_owned(), |name| (**name).clone())
}

// --- new ---------------------------------------------------------------------------------------------------------

fn new_script(name: &str, out: Option<&Path>) -> Result<String> {
    let folder = scaffold::python::create(name, out)?;
    Ok(format!(
        "wrote the Python model `{name}` to `{0}`\n\nnext:\n  cd {0}\n  host plugins check {name}.py\n",
        folder.display()
    ))
}

/// A script has to pass the same tests as any plugin, through the plugin that runs it.
fn check_script(script: &Path, mut given: BTreeMap<String, Given>, common: &Common) -> Result<conformance::Report> {
    if !script.is_file() {
        return Err(Failure::missing(format!(
            "there is no script at `{}`",
            script.display()
        )));
    }
    let setting = Given {
        value: script.display().to_string().into(),
        base: std::env::current_dir().unwrap_or_default(),
        place: "the command line".to_owned(),
    };
    given.insert("script".to_owned(), setting);
    let registry = common.registry()?;
    let mut report = conformance::check(&registry.plugin("python")?.path, &given)?;
    report.file = script.display().to_string();
    Ok(report)
}

fn new(name: &str, kind: Kind, out: &Option<PathBuf>, api: &Option<PathBuf>) -> Result<String> {
    let folder = scaffold::create(&scaffold::Request {
        name: name.to_owned(),
        kind,
        out: out.clone(),
        api: api.clone(),
    })?;
    let library = format!("target/debug/lib{}.so", name.replace('-', "_"));
    Ok(format!(
        "wrote the {kind} `{name}` to `{0}`\n\nnext:\n  cd {0}\n  cargo test\n  cargo build\n  host plugins check {library}\n\n`README.md` has the registry entry that makes `host run` find it.\n",
        folder.display()
    ))
}
