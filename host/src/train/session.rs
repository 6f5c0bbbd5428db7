//! A training run from end to end.

use super::class::Class;
use super::environment;
use super::memory::Memory;
use super::names::Given;
use super::options::{Options, Output};
use super::record::write_json;
use super::rows::RowFile;
use super::scan::{Ears, Most, Scan, Scans, scan};
use super::settle::{About, method, plan};
use super::source::{Empty, Lessons, Source};
use super::task_lessons::{Hearing, TaskLessons};
use super::tasks::{Part, TaskSet};
use super::{dry_run, show, then_run};
use crate::catalog::{Catalog, Resolved};
use crate::failure::Exit;
use crate::failure::{Failure, Result};
use crate::registry::Given as Setting;
use crate::trackers::Trackers;
use plugin_api::client::ModelClient;
use plugin_api::{Code, Kind, Learnt, ModelCard, Plan};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A few rows are enough to check that everything works.
const SMOKE: u64 = 8;

/// Trains, or shows what would be trained.
pub fn run(options: Options, catalog: &Catalog, output: &Output) -> Result<Exit> {
    let place = environment::read()?;
    // Only the first process prints results.
    let quiet = Output {
        quiet: true,
        progress: false,
        ..output.clone()
    };
    let output = match &place {
        Some(place) if place.rank > 0 => &quiet,
        _ => output,
    };
    let Some(name) = options.model.clone() else {
        let known = catalog.registry.names(Kind::Model).join("`, `");
        return Err(Failure::usage("no model is given").help(format!("give one with `--model`: `{known}`")));
    };
    if options.task.is_none() && options.rows.is_none() {
        let failure = Failure::usage("neither a task nor rows to learn from are given");
        return Err(failure.help("give `--task NAME`, or `--rows FILE` with tokenised rows"));
    }
    options
        .model_flags
        .check_names(Kind::Model, std::slice::from_ref(&name))?;
    let tasks = options
        .task
        .as_deref()
        .map(|task| TaskSet::new(task, &options, catalog))
        .transpose()?;
    let given = merged(&options, tasks.as_ref())?;
    let method = method(&options, &given)?;
    let mut model_settings = model_settings(&name, &options, &given);
    if options.demo {
        let start = catalog.registry.adapter(Kind::Model, &name)?.train_demo.clone();
        for (key, value) in start.unwrap_or_default() {
            model_settings.entry(key).or_insert(value);
        }
    }
    let dtype = model_settings
        .get("dtype")
        .and_then(|given| given.value.as_str())
        .map(str::to_owned);
    let resolved = catalog.resolve(Kind::Model, &name, &model_settings)?;
    let (client, _made) = resolved.model()?;
    let card = client.card()?;
    if options.dry_run && !card.learns {
        return Err(Failure::refused(format!("model `{name}` cannot be trained")));
    }
    let lessons = lessons(&options, &given, tasks.as_ref(), &card, catalog, output)?;
    if let Some(count) = options.show {
        show::show(&client, lessons.train.as_ref(), count, output)?;
        return Ok(Exit::Ok);
    }
    let out = out(&options, &given, &name, &method);
    let most = Most {
        tokens: given.whole("max_length"),
        context: card.context.map(u64::from),
        cut: &given.text("truncation").unwrap_or_else(|| "right".to_owned()),
    };
    let scans = scans(&client, &lessons, most, Ears::of(&card), catalog.stop, output);
    let untrainable = |failure: Failure| match failure.error.code.is_inability() && !card.learns {
        true => failure
            .context(format!("model `{name}` cannot be trained"))
            .exit(Exit::Refused),
        false => failure,
    };
    let scans = scans.map_err(untrainable)?;
    let writes = place.as_ref().is_none_or(|place| place.rank == 0);
    if writes && options.fresh && !options.dry_run {
        set_aside(&out)?;
    }
    let about = About {
        method: &method,
        out: out.clone(),
        resume: resume(&out, &given, &options)?,
        has_eval: lessons.held_out.len() > 0,
        rows_hash: lessons.train.hash() + " " + &lessons.held_out.hash(),
        model_identity: identity(&resolved),
        dtype,
        place: place.as_ref(),
        hearing_cache: hearing_cache(),
    };
    let (plan, notes) = plan(&given, &options, about)?;
    notes.iter().for_each(|note| output.say(&format!("note: {note}")));
    let memory = Memory {
        model: &resolved,
        plan: &plan,
        held: client
            .memory()
            .map_or(0, |memory| memory.host_bytes + memory.device_bytes),
    };
    if options.dry_run {
        return dry_run::dry_run(&memory, &scans, &lessons, output);
    }
    memory.check(&scans.train, lessons.train.as_ref())?;
    let _lock = if writes { Some(lock(&out)?) } else { None };
    let args = arguments(&options, &given, &plan, &resolved, tasks.as_ref());
    let trackers = match writes {
        true => Trackers::new(&out, &given.map, &args)?,
        false => Trackers::none(),
    };
    let class = Class::new(
        &lessons,
        &out,
        catalog.stop,
        output,
        &name,
        writes.then_some(&args),
        trackers,
    );
    let learnt = client.learn(&plan, &class);
    let failed = class.finish(learnt.is_ok());
    // A run that ends because its files cannot be written is not one that somebody interrupted.
    let interrupted = learnt.as_ref().is_err_and(|error| error.code == Code::CANCELLED);
    if interrupted && !catalog.stop.load(Ordering::Relaxed) {
        failed.clone()?;
    }
    let learnt = learnt.map_err(|error| cannot(&name, error))?;
    failed?;
    let mut timing = timing(&learnt);
    if !writes {
        return Ok(Exit::Ok);
    }
    write_json(&out.join("timing.json"), &timing)?;
    class.say(&format!("learnt {} steps: `{}`", learnt.steps, learnt.path.display()));
    drop(client);
    let wanted = options.then_run || options.baseline || options.demo || given.flag("do_test");
    let results = match (wanted, &tasks) {
        (true, Some(tasks)) => then_run::then_run(&then_run::Trained {
            options: &options,
            given: &given,
            model: &name,
            model_settings: &model_settings,
            tasks,
            method: &method,
            learnt: &learnt,
            out: &out,
            output,
            stop: catalog.stop,
        })?,
        (true, None) => {
            output.say("note: rows have no test; give `--task` to run one afterwards");
            Value::Null
        }
        _ => Value::Null,
    };
    if let Some(seconds) = results["seconds"].as_f64() {
        timing["test_inference_seconds"] = json!(seconds);
        write_json(&out.join("timing.json"), &timing)?;
    }
    super::table::print(&options, &learnt, &timing, &results, place.as_ref(), output);
    Ok(Exit::Ok)
}

/// The settings of the task's script, overridden by the given ones.
fn merged(options: &Options, tasks: Option<&TaskSet>) -> Result<Given> {
    let mut given = Given::default();
    for (name, value) in tasks.map(|tasks| tasks.defaults(options.demo)).unwrap_or_default() {
        given.put(&name, &value)?;
    }
    given.notes.clear();
    given.map.extend(options.given.map.clone());
    given.notes.extend(options.given.notes.clone());
    // If a number of steps is given, the strategy is `steps`, whatever the script says.
    for (steps, strategy) in [("eval_steps", "eval_strategy"), ("save_steps", "save_strategy")] {
        if options.given.get(steps).is_some() && options.given.get(strategy).is_none() {
            given.map.insert(strategy.to_owned(), json!("steps"));
        }
    }
    let searched = given.whole("generation_num_beams").filter(|beams| *beams > 1);
    if searched.is_some() || given.flag("generation_do_sample") {
        let failure = Failure::usage("the test after a training is answered greedily, with neither beams nor draws");
        return Err(failure.help(
            "leave out `generation_num_beams` and `generation_do_sample`; `host run` searches as `generation_config.json` says",
        ));
    }
    if given.flag("smoke") {
        given.map.insert("num_train_epochs".to_owned(), json!(1));
        // The first warm-up step has rate 0, so a run of a single step would leave a LoRA unchanged.
        given.map.insert("warmup_ratio".to_owned(), json!(0.0));
        given.map.remove("warmup_steps");
        given.map.entry("max_samples".to_owned()).or_insert(json!(SMOKE));
    }
    Ok(given)
}

/// The model's settings: `model_name` of scripts is the folder or hub id of the weights.
fn model_settings(name: &str, options: &Options, given: &Given) -> BTreeMap<String, Setting> {
    let mut settings = options.model_flags.of(name);
    if let Some(weights) = given.text("model_name")
        && !settings.contains_key("weights")
        && !options.demo
    {
        let setting = Setting {
            value: weights.into(),
            base: std::env::current_dir().unwrap_or_default(),
            place: "model_name".to_owned(),
        };
        settings.insert("weights".to_owned(), setting);
    }
    settings
}

/// What must be equal for a run to be continued: the model, its settings and weights. The plugin may have been built
/// again.
fn identity(resolved: &Resolved) -> Value {
    let mut identity = resolved.identity.clone();
    if let Some(map) = identity.as_object_mut() {
        map.retain(|key, _| !key.starts_with("plugin"));
    }
    identity
}

/// The rows or samples for training and evaluation.
fn lessons(
    options: &Options,
    given: &Given,
    tasks: Option<&TaskSet>,
    card: &ModelCard,
    catalog: &Catalog,
    output: &Output,
) -> Result<Lessons> {
    let of_all = given.whole("max_samples").filter(|most| *most > 0);
    let most = |name: &str, share: u64| {
        let own = given.whole(name).filter(|most| *most > 0);
        let all = of_all.map(|most| most.div_ceil(share));
        own.into_iter()
            .chain(all)
            .min()
            .map_or(usize::MAX, |most| most as usize)
    };
    let limit = options.limit.map_or(usize::MAX, |limit| limit as usize);
    let (train_most, eval_most) = (most("max_train_samples", 1).min(limit), most("max_eval_samples", 2));
    let eval_file = options
        .eval_rows
        .clone()
        .or_else(|| given.text("eval_file").map(PathBuf::from));
    let rows = |path: &Path, most: usize| -> Result<Box<dyn Source>> {
        Ok(Box::new(RowFile::open(path, card.sample_rate, most)?))
    };
    if let Some(path) = &options.rows {
        return Ok(Lessons {
            train: rows(path, train_most)?,
            held_out: match &eval_file {
                Some(path) => rows(path, eval_most)?,
                None => Box::new(Empty),
            },
        });
    }
    let Some(tasks) = tasks else {
        return Err(Failure::usage("there is nothing to learn from"));
    };
    let hearing = Hearing {
        rate: card.sample_rate,
        hears: card.hears(),
        add_text_only: given.flag("add_text_only"),
        strict: given.flag("strict_audio_missing"),
        no_fallback: given.flag("no_text_fallback_when_audio_missing"),
    };
    let of = |part: Part, most: usize, hearing: Hearing| -> Result<Option<Box<dyn Source>>> {
        let Some((resolved, task)) = tasks.make(part, catalog)? else {
            return Ok(None);
        };
        let count = task.count()?;
        let indexes: Vec<usize> = (0..count.min(most)).collect();
        let lessons = TaskLessons::new(task, resolved.identity["settings"].clone(), &indexes, hearing)?;
        let whose = if part == Part::Eval { "evaluation: " } else { "" };
        lessons
            .notes
            .iter()
            .for_each(|note| output.say(&format!("warning: {whose}{note}")));
        Ok(Some(Box::new(lessons)))
    };
    let held_out = match &options.eval_rows {
        Some(path) => rows(path, eval_most)?,
        None => {
            let hearing = Hearing {
                add_text_only: false,
                ..hearing
            };
            of(Part::Eval, eval_most, hearing)?.unwrap_or(Box::new(Empty))
        }
    };
    Ok(Lessons {
        train: of(Part::Train, train_most, hearing)?.unwrap_or(Box::new(Empty)),
        held_out,
    })
}

fn scans(
    client: &ModelClient,
    lessons: &Lessons,
    most: Most,
    ears: Option<Ears>,
    stop: &AtomicBool,
    output: &Output,
) -> Result<Scans> {
    let look = |source: &dyn Source, what: &str| -> Result<Scan> {
        let scan = scan(client, source, most, ears, stop)?;
        scan.notes(what)
            .iter()
            .for_each(|note| output.say(&format!("warning: {note}")));
        Ok(scan)
    };
    let train = look(lessons.train.as_ref(), "lessons")?;
    let held_out = look(lessons.held_out.as_ref(), "held-out lessons")?;
    train.check("lessons")?;
    held_out.check("held-out lessons")?;
    Ok(Scans { train, held_out })
}

fn out(options: &Options, given: &Given, model: &str, method: &str) -> PathBuf {
    let named = options
        .out
        .clone()
        .or_else(|| given.text("output_dir").map(PathBuf::from));
    let out = named.unwrap_or_else(|| {
        let what = options.task.as_deref().unwrap_or("rows");
        PathBuf::from("outputs").join(format!("{model}-{what}-{method}"))
    });
    std::path::absolute(&out).unwrap_or(out)
}

/// The checkpoint to continue from: the named one, or the newest.
fn resume(out: &Path, given: &Given, options: &Options) -> Result<Option<PathBuf>> {
    let newest = || {
        let entries = std::fs::read_dir(out).into_iter().flatten().flatten();
        let ours = entries.filter_map(|entry| {
            let name = entry.file_name();
            let step: u64 = name.to_str()?.strip_prefix("checkpoint-")?.parse().ok()?;
            let whole = entry.path().join("run.toml").is_file() && entry.path().join("trainer_state.json").is_file();
            whole.then_some((step, entry.path()))
        });
        ours.max().map(|(_, path)| path)
    };
    if options.fresh && given.get("resume_from_checkpoint").is_none() {
        return Ok(None);
    }
    match given.text("resume_from_checkpoint").as_deref() {
        None | Some("" | "true" | "True" | "latest") => Ok(newest().or_else(|| {
            // A finished run without checkpoints is continued from the model's own folder.
            let model = out.join("final_model");
            (model.join("run.toml").is_file()).then_some(model)
        })),
        Some("false" | "False") => Ok(None),
        Some(path) => {
            let folder = PathBuf::from(path);
            if !folder.join("run.toml").is_file() {
                let failure = Failure::missing(format!("`{path}` is not a checkpoint that a run can resume from"));
                return Err(failure.help("a checkpoint of this program has `run.toml` and `optimizer.safetensors`; start from the weights or the LoRA of another one"));
            }
            Ok(Some(std::path::absolute(&folder).unwrap_or(folder)))
        }
    }
}

/// Renames the results of an earlier run.
fn set_aside(out: &Path) -> Result<()> {
    if !out.exists() {
        return Ok(());
    }
    let name = out.file_name().unwrap_or_default().to_string_lossy();
    let free = (2..)
        .map(|number| out.with_file_name(format!("{name}--{number}")))
        .find(|other| !other.exists());
    match free {
        Some(other) => std::fs::rename(out, &other).map_err(|why| Failure::unwritable(&other, why)),
        None => Ok(()),
    }
}

/// Two runs in one folder would overwrite each other's files.
fn lock(out: &Path) -> Result<File> {
    std::fs::create_dir_all(out).map_err(|why| Failure::unwritable(out, why))?;
    let path = out.join(".lock");
    let file = File::create(&path).map_err(|why| Failure::unwritable(&path, why))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            let failure = Failure::usage(format!("another run is learning in `{}`", out.display()));
            Err(failure.help("wait for it, or give another `--out`"))
        }
        Err(std::fs::TryLockError::Error(why)) => Err(Failure::unwritable(&path, why)),
    }
}

/// The folder for frozen towers' outputs, which is kept between runs.
fn hearing_cache() -> Option<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let base = base.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))?;
    Some(base.join("host").join("heard"))
}

/// All of the run's settings, for the record.
fn arguments(options: &Options, given: &Given, plan: &Plan, resolved: &Resolved, tasks: Option<&TaskSet>) -> Value {
    let mut all = Map::new();
    all.insert("model".to_owned(), resolved.identity.clone());
    all.insert("task".to_owned(), json!(options.task));
    all.insert(
        "task_settings".to_owned(),
        tasks.map(TaskSet::described).unwrap_or_default(),
    );
    all.insert("rows".to_owned(), json!(options.rows));
    all.insert("eval_rows".to_owned(), json!(options.eval_rows));
    all.insert("host_version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    let mut planned = serde_json::to_value(plan).unwrap_or_default();
    if let Some(map) = planned.as_object_mut() {
        map.remove("processes");
        map.remove("resume");
    }
    all.insert("plan".to_owned(), planned);
    for (name, value) in &given.map {
        all.insert(name.clone(), value.clone());
    }
    Value::Object(all)
}

fn timing(learnt: &Learnt) -> Value {
    let of = |key: &str| learnt.metrics.get(key).cloned().unwrap_or_default();
    let seconds = of("seconds");
    let eval = seconds["eval"].as_f64().unwrap_or_default();
    let train = of("train_runtime").as_f64().unwrap_or_default();
    let tokens = of("tokens").as_f64().unwrap_or_default();
    json!({
        "train_duration_seconds": train, "eval_duration_seconds": eval, "test_inference_seconds": null,
        "tokens": of("tokens"), "learnt_tokens": of("learnt_tokens"),
        "tokens_per_second": tokens / (train - eval).max(1e-9),
        "rows_per_second": of("train_samples_per_second"),
        "peak_memory_bytes": of("peak_memory_bytes"), "cuda_max_memory_bytes": of("cuda_max_memory_bytes"), "seconds": seconds,
    })
}

fn cannot(model: &str, error: plugin_api::Error) -> Failure {
    match error.code {
        code if code.is_inability() => {
            let help = error.help.clone();
            let failure = Failure::refused(format!("model `{model}` cannot learn this")).cause(&error);
            match help {
                Some(help) => failure.help(help),
                None => failure,
            }
        }
        Code::TOO_LONG => Failure {
            exit: Exit::Usage,
            error,
        },
        Code::CLIP => Failure {
            exit: Exit::Missing,
            error,
        },
        _ => Failure::from(error),
    }
}
