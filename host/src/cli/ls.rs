//! `host ls`: what there is. It reads notes from plugin files and runs none of their code; only `--memory` asks plugins.

use super::{Common, memory, note, print};
use crate::failure::{Exit, Failure, Result};
use crate::plugin::note::Note;
use crate::registry::settings::describe;
use crate::registry::{AdapterSpec, Registry};
use crate::run::directory::read_if_there;
use crate::table::{Align, Table};
use plugin_api::{AdapterNote, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
pub struct LsArgs {
    /// What to list
    what: What,
    /// Show every option of each
    #[arg(long, short)]
    verbose: bool,
    /// Say which models fit into memory, of those whose weights are on this machine; this runs plugin code
    #[arg(long)]
    memory: bool,
    /// Ask the server of each HTTP model what it can do, with about twenty short requests
    #[arg(long)]
    probe: bool,
    /// The folder with run directories
    #[arg(long, value_name = "DIR", default_value = "runs")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    Models,
    Tasks,
    Judges,
    Runs,
}

pub fn ls(args: LsArgs, common: &Common) -> Result<Exit> {
    if args.probe {
        return match args.what {
            What::Models => super::probe::probe(common),
            _ => Err(Failure::usage("`--probe` goes with `host ls models`")),
        };
    }
    if args.memory && !matches!(args.what, What::Models) {
        return Err(Failure::usage("`--memory` goes with `host ls models`"));
    }
    let kind = match args.what {
        What::Models => Kind::Model,
        What::Tasks => Kind::Task,
        What::Judges => Kind::Judge,
        What::Runs => return ls_runs(&args.out, common),
    };
    let registry = common.registry()?;
    let mut notes = BTreeMap::new();
    let mut listed = Vec::new();
    for name in registry.names(kind) {
        let spec = registry.adapter(kind, &name)?;
        let note = note_of(&registry, spec, &mut notes)?;
        listed.push((spec, note, files_of(spec, notes.get(&spec.plugin))));
    }
    let estimate = |spec: &AdapterSpec| match args.memory {
        true => memory::of_entry(&registry, spec),
        false => Ok(None),
    };
    if common.json {
        let all: Vec<Value> = listed
            .iter()
            .map(|(spec, note, files)| {
                let mut value = as_json(spec, note, files.as_deref());
                if let Ok(Some(estimate)) = estimate(spec) {
                    value["memory"] = memory::as_json(&estimate);
                }
                value
            })
            .collect();
        print(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
        return Ok(Exit::Ok);
    }
    let mut columns = vec![("Name", Align::Left), ("Plugin", Align::Left), ("Demo", Align::Left)];
    if args.memory {
        columns.push(("Memory", Align::Left));
    }
    columns.push(("What it is", Align::Left));
    let mut table = Table::new(&columns);
    for (spec, note, _) in &listed {
        let about = match note {
            Ok(note) => note.about.clone(),
            Err(why) => format!("unusable: {why}"),
        };
        let demo = if spec.demo.is_some() { "yes" } else { "" };
        let mut cells = vec![spec.name.clone(), spec.plugin.clone(), demo.to_owned()];
        if args.memory {
            cells.push(match estimate(spec) {
                Ok(estimate) => estimate.as_ref().map_or_else(String::new, memory::in_a_word),
                Err(failure) if failure.exit == Exit::Missing => "no weights here".to_owned(),
                Err(_) => "unknown".to_owned(),
            });
        }
        cells.push(about);
        table.row(cells);
    }
    if !args.verbose {
        print(&table.render());
        if matches!(args.what, What::Models) && !args.memory && !common.quiet {
            note("`--memory` says which fit into memory, `--verbose` lists their options");
        }
        return Ok(Exit::Ok);
    }
    for (spec, note, files) in &listed {
        print(&verbose(spec, note, files.as_deref()));
    }
    Ok(Exit::Ok)
}

type NoteOrWhy = std::result::Result<AdapterNote, String>;

fn note_of(
    registry: &Registry,
    spec: &AdapterSpec,
    read: &mut BTreeMap<String, std::result::Result<Note, String>>,
) -> Result<NoteOrWhy> {
    let plugin = registry.plugin(&spec.plugin)?;
    let note = read
        .entry(spec.plugin.clone())
        .or_insert_with(|| Note::read(&plugin.path).map_err(|failure| failure.to_string()));
    Ok(match note {
        Ok(note) => note.meant(spec).cloned().map_err(|failure| failure.to_string()),
        Err(why) => Err(why.clone()),
    })
}

/// The files that a task's plugin reads and writes.
fn files_of(spec: &AdapterSpec, note: Option<&std::result::Result<Note, String>>) -> Option<String> {
    let note = note?.as_ref().ok().filter(|_| spec.kind == Kind::Task)?;
    let files = note.task_files(&note.meant(spec).ok()?.name).ok()?;
    Some(files.about.clone())
}

fn as_json(spec: &AdapterSpec, note: &NoteOrWhy, files: Option<&str>) -> Value {
    let settings: BTreeMap<&String, &Value> = spec.settings.iter().map(|(name, given)| (name, &given.value)).collect();
    json!({
        "name": spec.name, "kind": spec.kind, "plugin": spec.plugin, "adapter": spec.adapter, "settings": settings,
        "demo": spec.demo.is_some(), "about": note.as_ref().ok().map(|note| &note.about),
        "options": note.as_ref().ok().map(|note| &note.options), "error": note.as_ref().err(), "files": files,
    })
}

fn verbose(spec: &AdapterSpec, note: &NoteOrWhy, files: Option<&str>) -> String {
    let mut text = format!("{}\n", spec.name);
    match note {
        Err(why) => text += &format!("  unusable: {why}\n"),
        Ok(note) => {
            text += &format!(
                "  {} (plugin {}, {} {})\n",
                note.about, spec.plugin, note.kind, note.name
            );
            for option in &note.options {
                text += &format!("  {}\n", describe(option));
            }
        }
    }
    if let Some(files) = files {
        text += &format!("  files: {files}; see `host score --task` and `host export`\n");
    }
    for (name, given) in &spec.settings {
        text += &format!("  set: {name} = {} ({})\n", given.value, given.place);
    }
    text + "\n"
}

fn ls_runs(out: &Path, common: &Common) -> Result<Exit> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(out)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    runs.retain(|run| run.join("samples.jsonl").exists());
    runs.sort();
    let results = |run: &PathBuf| -> Value {
        let text = read_if_there(&run.join("results.json"));
        text.and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or(Value::Null)
    };
    if common.json {
        let all: Vec<Value> = runs
            .iter()
            .map(|run| json!({ "directory": run, "results": results(run) }))
            .collect();
        print(&(serde_json::to_string_pretty(&all).unwrap_or_default() + "\n"));
        return Ok(Exit::Ok);
    }
    let mut table = Table::new(&[
        ("Run", Align::Left),
        ("Model", Align::Left),
        ("Task", Align::Left),
        ("Samples", Align::Right),
        ("Failed", Align::Right),
        ("State", Align::Left),
    ]);
    for run in &runs {
        let results = results(run);
        let counts = &results["host"]["counts"];
        let task = results["n-samples"].as_object().and_then(|map| map.iter().next());
        let wanted = task.and_then(|(_, n)| n["effective"].as_u64());
        let suspect = results["host"]["suspect"]
            .as_array()
            .is_some_and(|reasons| !reasons.is_empty());
        let state = match (results.is_null(), counts["finished"].as_u64() < wanted, suspect) {
            (true, ..) => "cut short before its first results",
            (_, true, _) => "cut short",
            (_, _, true) => "suspect",
            _ => "done",
        };
        let cell = |value: &Value| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
                .replace("null", "")
        };
        table.row([
            run.display().to_string(),
            cell(&results["model_name"]),
            task.map(|(name, _)| name.clone()).unwrap_or_default(),
            cell(&counts["finished"]),
            cell(&counts["failed"]),
            state.to_owned(),
        ]);
    }
    print(&table.render());
    Ok(Exit::Ok)
}
