//! One run: a model on a task in its directory, and everything that its parts share.

use super::sample_clips;
use super::select::select;
use super::store::directory::RunDirectory;
use super::store::hash::hash_json;
use super::{Model, Options, Task};
use crate::ask::pool::kernels_of;
use crate::ask::transcriber::Transcriber;
use crate::audio::interventions::Intervention;
use crate::catalog::Resolved;
use crate::failure::{Failure, Result};
use plugin_api::{LoraUse, TaskCard};
use serde_json::{Value, json};
use std::time::Instant;

/// One run, opened.
pub struct RunContext<'a> {
    pub model: &'a Model,
    pub task: &'a Task,
    pub options: &'a Options,
    pub directory: RunDirectory,
    /// Its samples, in the order of the data.
    pub selection: Vec<usize>,
    /// How many samples the command selected; a shard has its part of them.
    pub selected: usize,
    /// Everything that all of its records depend on.
    pub identity: Value,
    /// The transcriber, if this model needs one for this task. Otherwise it is not part of the run, whatever the flags
    /// say.
    pub transcriber: Option<&'a Transcriber>,
    /// Changes to clips before they are heard. None where no model hears clips: then they are not part of the run.
    pub changes: &'a [Intervention],
    pub began: Instant,
}

impl<'a> RunContext<'a> {
    /// Opens the run's directory, which it makes if needed, and writes down how the run is made.
    pub fn open(model: &'a Model, task: &'a Task, options: &'a Options) -> Result<RunContext<'a>> {
        let selection = select(&task.client, &task.name, options.limit, &options.sample_ids)?;
        let transcriber = transcriber_in_use(model, task, options)?;
        let hears = task.card.has_clips && (model.card.hears() || transcriber.is_some());
        let changes = if hears { &options.audio[..] } else { &[] };
        let identity = identity(model, task, transcriber, changes, options)?;
        let selected = selection.len();
        let mut name = format!("{}-{}-{}", model.name, task.name, &hash_json(&identity)[..8]);
        let selection = match options.shard {
            Some(shard) => {
                name += &shard.suffix();
                shard.deal(&task.client, options.seed, &selection)
            }
            None => selection,
        };
        let directory = RunDirectory::open(&options.out.join(name), options.fresh)?;
        crate::log::to_file(&directory.path.join("log.jsonl"))?;
        write_run_toml(&directory, &identity, model, options)?;
        Ok(RunContext {
            model,
            task,
            options,
            directory,
            selection,
            selected,
            identity,
            transcriber,
            changes,
            began: Instant::now(),
        })
    }

    /// The hash of what the task's scores depend on.
    pub fn scorer_hash(&self) -> String {
        hash_json(&self.identity["task"])
    }

    /// How many records the whole run has.
    pub fn expected(&self) -> usize {
        self.selection.len() * self.options.chains.max(1) as usize
    }
}

fn transcriber_in_use<'a>(model: &Model, task: &Task, options: &'a Options) -> Result<Option<&'a Transcriber>> {
    let transcriber = options.transcriber.as_deref();
    let Some(transcriber) = transcriber.filter(|_| task.card.has_clips && !model.card.hears()) else {
        return Ok(None);
    };
    transcriber
        .load()
        .map_err(|error| Failure::from(error.context("cannot use the model of `--transcriber`")))?;
    Ok(Some(transcriber))
}

fn identity(
    model: &Model,
    task: &Task,
    transcriber: Option<&Transcriber>,
    changes: &[Intervention],
    options: &Options,
) -> Result<Value> {
    let mut identity = json!({
        "model": model.resolved.identity, "task": task_identity(&task.resolved, &task.card), "seed": options.seed,
    });
    if let Some(transcriber) = transcriber {
        identity["transcriber"] = transcriber.identity()?;
    }
    if !changes.is_empty() {
        identity["audio"] = sample_clips::identity(changes)?;
    }
    if options.lora != LoraUse::AsLoaded {
        identity["lora"] = json!(options.lora);
    }
    if let Some(class) = kernels_of(&model.card) {
        identity["kernels"] = class;
    }
    Ok(identity)
}

/// What a task's scores depend on.
pub fn task_identity(resolved: &Resolved, card: &TaskCard) -> Value {
    resolved.scorer_identity(&card.version)
}

fn write_run_toml(run: &RunDirectory, identity: &Value, model: &Model, options: &Options) -> Result<()> {
    let mut repeat = options.repeat.clone();
    if let Some(map) = repeat.as_object_mut() {
        map.insert("host_version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        map.insert("resolved".to_owned(), identity.clone());
        // The engine, as far as it tells: a server's version and abilities, an environment's packages.
        if let Some(engine) = model.card.other.get("engine") {
            map.insert("engine".to_owned(), engine.clone());
        }
    }
    let text = toml::to_string_pretty(&without_nulls(repeat)).unwrap_or_default();
    let head = "# Everything that this run depends on. `host run --config run.toml` repeats it.\n";
    run.write_file("run.toml", format!("{head}{text}").as_bytes())
}

/// TOML has no null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().filter(|v| !v.is_null()).map(without_nulls).collect()),
        other => other,
    }
}
