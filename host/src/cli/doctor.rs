//! `host doctor`: what is missing on this machine, and the command that gets it.
//!
//! It runs no plugin code, uses no network and writes nothing: it reads files and asks the kernel, so it can be run
//! before anything is trusted. Only `--memory` runs plugins, for models whose weights are on this machine.

use super::{Common, memory, print};
use crate::catalog::Catalog;
use crate::failure::{Exit, Failure, Result};
use crate::plugin::Note;
use crate::registry::settings::{Source, check, check_complete};
use crate::registry::{AdapterSpec, Registry};
use plugin_api::{AdapterNote, Kind, OptionType};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

mod machine;

pub(super) use machine::free_memory;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Each line says `ok`, `warning` or `missing`. The exit code is 0 when every plugin of the registry can be used and
everything that `--demo` needs is there, else 3. Weights and data that a run would fetch, keys that aren't set and a
machine without a GPU are told, but leave the exit code at 0.")]
pub struct DoctorArgs {
    /// Also estimate the memory of every model whose weights are on this machine; this runs plugin code
    #[arg(long)]
    memory: bool,
}

/// The state of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Warning,
    Missing,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Missing => "missing",
        }
    }
}

/// One line.
#[derive(Debug, Clone)]
struct Finding {
    /// What kind of thing it is about: `plugin`, `model`, `memory`.
    about: String,
    state: State,
    says: String,
    hint: Option<String>,
    /// Without this, not even the demo works.
    needed: bool,
}

impl Finding {
    fn new(state: State, about: impl Into<String>, says: impl Into<String>) -> Finding {
        Finding {
            about: about.into(),
            state,
            says: says.into(),
            hint: None,
            needed: false,
        }
    }

    fn of_failure(about: impl Into<String>, failure: &Failure) -> Finding {
        let causes = failure.error.causes.iter().map(|cause| format!(": {cause}"));
        let says = failure.error.message.clone() + &causes.collect::<String>();
        let found = Finding::new(State::Missing, about, says);
        match &failure.error.help {
            Some(help) => found.hint(help),
            None => found,
        }
    }

    fn hint(mut self, hint: impl Into<String>) -> Finding {
        self.hint = Some(hint.into());
        self
    }

    fn needed(mut self) -> Finding {
        self.needed = true;
        self
    }

    fn as_json(&self) -> Value {
        json!({ "about": self.about, "state": self.state.word(), "says": self.says, "hint": self.hint,
            "needed": self.needed })
    }
}

pub fn doctor(args: DoctorArgs, common: &Common) -> Result<Exit> {
    let registry = common.registry()?;
    let mut findings = layers(&registry);
    let mut notes = BTreeMap::new();
    for spec in registry.plugins.values() {
        let about = format!("plugin {}", spec.name);
        findings.push(match crate::plugin::look(spec) {
            Ok(note) => {
                let pin = if spec.sha256.is_some() { "pinned" } else { "not pinned" };
                let says = format!(
                    "{} {} (plugin-api {}, {}, {pin})",
                    note.name,
                    note.version,
                    note.api,
                    spec.isolation.word()
                );
                notes.insert(spec.name.clone(), note);
                Finding::new(State::Ok, about, says)
            }
            Err(failure) => Finding::of_failure(about, &failure).needed(),
        });
    }
    for spec in registry.adapters.values() {
        // Without its plugin nothing is known about an adapter; the missing plugin has been reported already.
        if let Some(note) = notes.get(&spec.plugin) {
            let found = adapter(&registry, spec, note);
            let usable = found.first().is_some_and(|found| found.state == State::Ok);
            findings.extend(found);
            if args.memory && usable && spec.kind == Kind::Model {
                findings.extend(weight(&registry, spec));
            }
        }
    }
    findings.extend(hub_cache());
    findings.extend(machine::findings());
    show(&findings, common);
    let broken = findings.iter().any(|it| it.needed && it.state == State::Missing);
    Ok(if broken { Exit::Missing } else { Exit::Ok })
}

fn layers(registry: &Registry) -> Vec<Finding> {
    if registry.files.is_empty() {
        let hint = "give one with `--registry`, or write `~/.config/host/registry.toml`";
        return vec![
            Finding::new(State::Missing, "registry", "there is none")
                .hint(hint)
                .needed(),
        ];
    }
    let line = |path: &std::path::PathBuf| Finding::new(State::Ok, "registry", path.display().to_string());
    registry.files.iter().map(line).collect()
}

/// Whether an adapter could be made: with the settings it has, and with those of the demo.
fn adapter(registry: &Registry, spec: &AdapterSpec, note: &Note) -> Vec<Finding> {
    let about = format!("{} {}", spec.kind, spec.name);
    let note = match note.meant(spec) {
        Ok(note) => note,
        Err(failure) => return vec![Finding::of_failure(about, &failure).needed()],
    };
    let mut findings = vec![match sources(registry, spec, note, false) {
        Ok(says) => Finding::new(State::Ok, &about, says),
        Err(failure) => Finding::of_failure(&about, &failure),
    }];
    if spec.demo.is_some() {
        let about = format!("{about}, demo");
        findings.push(match sources(registry, spec, note, true) {
            Ok(says) => Finding::new(State::Ok, about, says),
            Err(failure) => Finding::of_failure(about, &failure).needed(),
        });
    }
    findings
}

/// The memory of a model, if its plugin can estimate it.
fn weight(registry: &Registry, spec: &AdapterSpec) -> Option<Finding> {
    let about = format!("{} {}, memory", spec.kind, spec.name);
    Some(match memory::of_entry(registry, spec) {
        Ok(None) => return None,
        Ok(Some(estimate)) => {
            let state = if estimate.fits() { State::Ok } else { State::Warning };
            let found = Finding::new(state, about, memory::in_a_line(&estimate));
            match estimate.fits() {
                true => found,
                false => found.hint("it does not fit: store it in fewer bits, or choose a smaller model"),
            }
        }
        Err(failure) => Finding::of_failure(about, &failure),
    })
}

/// What its settings name, if all of it is on this machine.
fn sources(registry: &Registry, spec: &AdapterSpec, note: &AdapterNote, demo: bool) -> Result<String> {
    let mut given = spec.settings.clone();
    if demo {
        given.extend(spec.demo.clone().unwrap_or_default());
    }
    let checked = check(&given, note)?;
    check_complete(&checked.settings, note)?;
    let catalog = Catalog {
        registry,
        offline: true,
        demo,
        show: &|_, _| (),
        stop: &AtomicBool::new(false),
    };
    let mut says = Vec::new();
    let sources = checked.sources.into_iter();
    let sources =
        sources.flat_map(|(option, (of, sources))| sources.into_iter().map(move |source| (option.clone(), of, source)));
    for (option, of, source) in sources {
        says.push(match source {
            Source::Local(path) if of == OptionType::Path || path.exists() => format!("{option}: {}", path.display()),
            Source::Local(path) => {
                let message = format!("{option}: `{}` is not there", path.display());
                let hint = "give a file or folder that exists, or a hub id as `org/name` or `org/name@revision`";
                return Err(Failure::missing(message).help(hint));
            }
            Source::Hub(id) => {
                let snapshot = catalog.snapshot(of, &id).map_err(|_| {
                    let message = format!("{option}: the cached snapshot of `{id}` is incomplete");
                    Failure::missing(message).help(pull_command(spec, of, &id))
                })?;
                format!("{option}: {id} ({})", &snapshot.commit[..7.min(snapshot.commit.len())])
            }
        });
    }
    let takes = note
        .options
        .iter()
        .filter(|option| matches!(option.kind, OptionType::Weights | OptionType::Data));
    let takes: Vec<String> = takes.map(|option| format!("`{}`", option.name)).collect();
    Ok(if says.is_empty() && !takes.is_empty() {
        format!("not given: {}", takes.join(", "))
    } else if says.is_empty() {
        "needs nothing".to_owned()
    } else {
        says.join(", ")
    })
}

/// The command that fetches it.
fn pull_command(spec: &AdapterSpec, of: OptionType, id: &str) -> String {
    match (spec.kind, of) {
        (Kind::Model | Kind::Task, _) => format!("host pull --{} {}", spec.kind, spec.name),
        (_, OptionType::Data) => format!("host pull --data {id}"),
        _ => format!("host pull {id}"),
    }
}

/// The cache of weights and data, and the token, of which only the existence is shown.
fn hub_cache() -> Vec<Finding> {
    let settings = match hub::Settings::from_variables(|name| std::env::var(name).ok()) {
        Ok(settings) => settings,
        Err(fault) => return vec![Finding::of_failure("hub", &fault.into())],
    };
    let mut findings = vec![machine::folder(
        "cache",
        &settings.cache,
        "set HF_HOME to a folder that you may write to",
    )];
    if settings.offline {
        let says = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set: nothing is fetched";
        findings.push(Finding::new(State::Warning, "hub", says));
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let key = |name: &str, set: bool, what: &str| {
        let found = Finding::new(
            State::Ok,
            format!("key {name}"),
            if set {
                "set".to_owned()
            } else {
                format!("not set; {what}")
            },
        );
        Finding {
            state: if set { State::Ok } else { State::Warning },
            ..found
        }
    };
    findings.push(key(
        "HF_TOKEN",
        settings.token.is_some(),
        "gated models and data sets can't be pulled",
    ));
    findings.push(key(
        "GEMINI_API_KEY",
        is_set("GEMINI_API_KEY"),
        "plugins that ask Gemini can't",
    ));
    findings
}

fn show(findings: &[Finding], common: &Common) {
    if common.json {
        let all: Vec<Value> = findings.iter().map(Finding::as_json).collect();
        print(&(serde_json::to_string_pretty(&json!({ "findings": all })).unwrap_or_default() + "\n"));
        return;
    }
    let width = |text: &dyn Fn(&Finding) -> usize| findings.iter().map(text).max().unwrap_or(0);
    let wide = width(&|it| it.about.chars().count());
    let mut text = String::new();
    for found in findings {
        text += &format!("{:<7}  {:<wide$}  {}\n", found.state.word(), found.about, found.says);
        if let Some(hint) = &found.hint {
            text += &format!("{:<7}  {:<wide$}  hint: {hint}\n", "", "");
        }
    }
    print(&text);
}

/// The nearest existing parent folder.
fn there(path: &Path) -> &Path {
    path.ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(Path::new("/"))
}
