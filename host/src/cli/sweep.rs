//! `host faithfulness RUN`: experiments on the chains of a run.

use super::config::{Config, Names};
use super::figures::{splitter, summary};
use super::{Common, note, print, stop_on_signals};
use crate::ask::pool::{Copy, Limits, Pool};
use crate::ask::transcriber::Transcriber;
use crate::catalog::{Catalog, Resolved};
use crate::failure::{Exit, Failure, Result};
use crate::faithfulness::baseline::{Baseline, Reading};
use crate::faithfulness::plan::Plan;
use crate::faithfulness::session::{Session, Writer};
use crate::faithfulness::{
    Release, costs, figures, import_of, records, sweeps, sweeps_of, write_plots, write_provenance, write_results,
};
use crate::registry::nearest_hint;
use crate::run::calls::Spending;
use crate::run::report::page_of;
use crate::run::store::hash::hash_json;
use faithfulness::experiment::Experiment;
use faithfulness::family::Family;
use faithfulness::mask::Place;
use faithfulness::reasoning::Sanitizer;
use faithfulness::texts::Filler;
use plugin_api::{Kind, ModelCard};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

#[derive(Debug, Clone, clap::Args)]
pub struct SweepArgs {
    /// A run directory
    #[arg(value_name = "RUN")]
    run: Option<PathBuf>,
    /// Experiments, separated by commas, or `all`; without it, show the figures of earlier sweeps
    #[arg(long, short = 'e', value_name = "NAMES")]
    experiments: Vec<String>,
    /// Who writes mistakes and paraphrases: `self`, or a model by its registry name
    #[arg(long, value_name = "MODEL", default_value = "self")]
    writer: String,
    /// A setting of the writer
    #[arg(short = 'W', value_name = "KEY=VALUE")]
    writer_settings: Vec<String>,
    /// Mistakes and paraphrases written beforehand (JSONL); the writer is asked for what the file lacks
    #[arg(long, value_name = "FILE")]
    perturbations: Option<PathBuf>,
    /// Spoken hints (JSONL: id, out_correct, out_wrong, wrong_choice)
    #[arg(long, value_name = "FILE")]
    hints: Option<PathBuf>,
    /// How to split a reasoning into sentences: punkt, regex or lines
    #[arg(long, value_name = "NAME", default_value = "punkt")]
    splitter: String,
    /// How to remove the stated answer: r1, r2, r3, legacy, tags or whole [default: by what a chain looks like]
    #[arg(long, value_name = "NAME")]
    sanitizer: Option<String>,
    /// How to ask for the answer: prefill, or one of the published families by its name
    #[arg(long, value_name = "NAME", default_value = "prefill")]
    family: String,
    /// What replaces words: dots or lorem
    #[arg(long, value_name = "NAME", default_value = "dots")]
    filler: String,
    /// Chains of 1 to 6 sentences only
    #[arg(long)]
    restricted: bool,
    /// Chains of 1 to N sentences only
    #[arg(long, value_name = "N")]
    max_sentences: Option<usize>,
    /// The first N chains of each question only
    #[arg(long, value_name = "N")]
    num_chains: Option<u64>,
    /// The first N questions only
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Percentages of fillers and masks in place of the published ones, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    points: Vec<f64>,
    /// Levels of noise in dB, separated by commas
    #[arg(long, value_name = "LIST", value_delimiter = ',', allow_hyphen_values = true, default_values_t = [20.0, 10.0, 5.0, 0.0, -5.0, -10.0])]
    levels: Vec<f64>,
    /// Masks as FILL_PLACE: silence or noise, and start, end, random or scattered
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_value = "silence_random")]
    mask: Vec<String>,
    /// Seed of random choices
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Keep every clip as it was heard, as WAV files in the sweep's directory
    #[arg(long)]
    keep_audio: bool,
    /// Ask again what failed before
    #[arg(long)]
    retry_errors: bool,
    /// The width of a curve's bins in percent
    #[arg(long = "bin", value_name = "PERCENT")]
    bin: Option<f64>,
}

pub fn sweep(args: &SweepArgs, common: &Common) -> Result<Exit> {
    let Some(run) = &args.run else {
        return Err(Failure::usage("no run is given")
            .help("`host faithfulness RUN --experiments all`; `host ls runs` lists the runs"));
    };
    let plan = plan(args)?;
    if args.experiments.is_empty() {
        return show_all(run, &plan, args.bin, common);
    }
    let config = config_of(run)?;
    let baseline = Baseline::read(run, reading(&plan))?;
    check(run, &baseline)?;
    let stop = stop_on_signals();
    let common = &Common {
        offline: common.offline || config.offline,
        ..common.clone()
    };
    common.with_catalog(config.demo, &stop.clone(), |catalog| {
        let (folder, figures) = work(args, run, plan, &baseline, &config, catalog, &stop, common)?;
        match common.json {
            true => print(&format!("{figures}\n")),
            false => print(&summary(&figures)),
        }
        if !common.quiet {
            note(&format!("records: {}", folder.display()));
        }
        Ok(Exit::Ok)
    })
}

fn plan(args: &SweepArgs) -> Result<Plan> {
    let unknown = |what: &str, name: &str, known: &[&str]| {
        Failure::usage(format!("unknown {what} `{name}`")).help(nearest_hint(name, known.iter().copied()))
    };
    let names: Vec<&str> = args
        .experiments
        .iter()
        .flat_map(|text| text.split(','))
        .map(str::trim)
        .filter(|name| !name.is_empty())
        .collect();
    let mut experiments = Vec::new();
    for name in names {
        if name == "all" {
            experiments.extend(
                Experiment::all().filter(|one| !matches!(one, Experiment::Baseline | Experiment::JascoMasking)),
            );
            continue;
        }
        let known: Vec<&str> = Experiment::all().map(Experiment::name).collect();
        experiments.push(
            Experiment::parse(name)
                .filter(|one| *one != Experiment::Baseline)
                .ok_or_else(|| unknown("experiment", name, &known))?,
        );
    }
    experiments.sort_unstable();
    experiments.dedup();
    let sanitizer = args
        .sanitizer
        .as_deref()
        .map(|name| Sanitizer::parse(name).ok_or_else(|| unknown("sanitizer", name, &Sanitizer::NAMES)));
    for mask in &args.mask {
        let known = mask
            .split_once('_')
            .filter(|(fill, place)| matches!(*fill, "silence" | "noise") && Place::parse(place).is_some());
        if known.is_none() {
            return Err(Failure::usage(format!("`--mask {mask}` is not FILL_PLACE"))
                .help("for example silence_random or noise_scattered"));
        }
    }
    if let Some(wrong) = args.points.iter().find(|point| !(0.0..=100.0).contains(*point)) {
        return Err(Failure::usage(format!(
            "`--points` has {wrong}, expected percentages from 0 to 100"
        )));
    }
    if args.max_sentences == Some(0) || args.num_chains == Some(0) {
        return Err(Failure::usage(
            "`--max-sentences` and `--num-chains` must be at least 1",
        ));
    }
    Ok(Plan {
        experiments,
        splitter: splitter(&args.splitter)?,
        sanitizer: sanitizer.transpose()?,
        family: Family::parse(&args.family).ok_or_else(|| unknown("family", &args.family, &Family::NAMES))?,
        filler: match args.filler.as_str() {
            "dots" => Filler::Dots,
            "lorem" => Filler::Lorem,
            other => return Err(unknown("filler", other, &["dots", "lorem"])),
        },
        seed: args.seed,
        max_sentences: args.max_sentences.or(args.restricted.then_some(6)),
        num_chains: args.num_chains,
        limit: args.limit,
        points: (!args.points.is_empty()).then(|| args.points.clone()),
        levels: args.levels.clone(),
        masks: args
            .mask
            .iter()
            .filter_map(|mask| mask.split_once('_'))
            .map(|(fill, place)| (fill.to_owned(), place.to_owned()))
            .collect(),
        writer: args.writer.clone(),
        perturbations: args.perturbations.clone(),
        hints: args.hints.clone(),
        keep_audio: args.keep_audio,
    })
}

fn reading(plan: &Plan) -> Reading {
    Reading {
        splitter: plan.splitter,
        sanitizer: plan.sanitizer,
    }
}

fn config_of(run: &Path) -> Result<Config> {
    let file = run.join("run.toml");
    if !file.exists() {
        let failure = Failure::missing(format!(
            "`{}` is not a run directory: it has no run.toml",
            run.display()
        ));
        return Err(failure.help(
            "`host ls runs` lists the runs; files of the published experiments go to `host faithfulness import`",
        ));
    }
    Config::read(&file)
}

/// A run without reasoning can't be used for a sweep.
fn check(run: &Path, baseline: &Baseline) -> Result<()> {
    if baseline.chains.is_empty() {
        return Err(Failure::missing(format!("the run `{}` has no reply", run.display()))
            .help("finish it first: `host run --config RUN/run.toml`"));
    }
    if baseline.chains.len() == baseline.without_reasoning {
        let failure = Failure::missing(format!("no reply of the run `{}` holds a reasoning", run.display()));
        return Err(
            failure.help("run the task so that the model reasons first: `-T reasoning=true`, `-T thinking=true`")
        );
    }
    Ok(())
}

/// The only name in the run's file.
fn one(names: Option<&Names>, what: &str) -> Result<String> {
    match names.cloned().map(Names::list).unwrap_or_default().as_slice() {
        [name] => Ok(name.clone()),
        _ => Err(Failure::missing(format!("the run's `run.toml` names no {what}"))),
    }
}

#[allow(clippy::too_many_arguments)] // everything that a sweep depends on, once
fn work(
    args: &SweepArgs,
    run: &Path,
    mut plan: Plan,
    baseline: &Baseline,
    config: &Config,
    catalog: &Catalog,
    stop: &Arc<AtomicBool>,
    common: &Common,
) -> Result<(PathBuf, Value)> {
    let (model_name, task_name) = (one(config.model.as_ref(), "model")?, one(config.task.as_ref(), "task")?);
    let resolved = catalog.resolve(Kind::Model, &model_name, &config.given(&config.model_settings))?;
    let task_flags = config.given(&config.task_settings);
    let task_resolved = catalog.resolve(Kind::Task, &task_name, &task_flags)?;
    let task = task_resolved.task()?;
    let card = task.card()?;
    if !card.has_clips {
        let of_sound = [
            Experiment::AudioMasking,
            Experiment::Snr,
            Experiment::Swap,
            Experiment::Hearing,
        ];
        if let Some(one) = plan.experiments.iter().find(|one| of_sound.contains(one))
            && !args.experiments.iter().any(|text| text.contains("all"))
        {
            return Err(Failure::usage(format!(
                "`{}` changes the sound, and task `{task_name}` has none",
                one.name()
            )));
        }
        plan.experiments.retain(|one| !of_sound.contains(one));
    }
    let plain = plain_task(&task_resolved, &task_name, config, catalog)?;
    let writer = match args.writer.as_str() {
        "self" => None,
        name => {
            let flags = super::Flags::parse("-W", &args.writer_settings)?;
            Some(catalog.resolve(Kind::Model, name, &flags.of(name))?)
        }
    };
    let (pool, model_card) = pool_of(&resolved, stop)?;
    let changes = config.changes()?;
    let transcriber = config
        .transcriber
        .as_ref()
        .filter(|_| card.has_clips && !model_card.hears());
    let transcriber = transcriber.map(|name| {
        let resolved = catalog.resolve(Kind::Model, name, &config.given(&config.model_settings))?;
        Ok::<_, Failure>(Transcriber::new(
            resolved,
            config.transcriber_prompt.clone(),
            stop.clone(),
        ))
    });
    let transcriber = transcriber.transpose()?;
    let mut identity = json!({
        "baseline": baseline.hash, "model": resolved.identity, "task": task_resolved.identity, "plan": plan.identity(),
    });
    if let Some(writer) = &writer {
        identity["writer"] = writer.identity.clone();
    }
    if let Some(transcriber) = &transcriber {
        identity["transcriber"] = transcriber.identity()?;
    }
    let hash = hash_json(&identity);
    let folder = sweeps_of(run).join(&hash[..8]);
    std::fs::create_dir_all(&folder).map_err(|why| Failure::unwritable(&folder, why))?;
    let dataset = dataset_name(&task_name, &card.other);
    identity["names"] = json!({ "model": model_name, "dataset": dataset });
    identity["reading"] = json!({ "splitter": plan.splitter.name(), "sanitizer": plan.sanitizer.map(Sanitizer::name) });
    write_provenance(&folder, &identity)?;
    if let Some(transcriber) = &transcriber {
        // A clip that a service has heard is paid for once, however often the sweep is begun.
        Spending::default().open_transcriber(&folder, transcriber)?;
    }
    let writing = writer.as_ref().map(|writer| pool_of(writer, stop)).transpose()?;
    let session = Session {
        baseline,
        plan: &plan,
        model: &pool,
        card: &model_card,
        task: &task,
        plain_task: plain.as_ref(),
        transcriber: transcriber.as_ref(),
        changes: &changes,
        writer: Writer {
            pool: writing.as_ref().map_or(&pool, |(writer, _)| writer),
            name: &args.writer,
        },
        folder: folder.clone(),
        retry_errors: args.retry_errors,
        stop,
    };
    let done = session.run()?;
    let found = figures(baseline, &records(&folder)?, &model_name, &dataset, args.bin);
    write_results(&folder, &found)?;
    write_plots(
        &folder.join("plots"),
        &import_of(baseline, &records(&folder)?, &model_name, &dataset),
    )?;
    page_of(run, &run.join("report.html"), None)?;
    if !common.quiet {
        done.notes.iter().for_each(|text| note(&format!("note: {text}")));
        if done.failed > 0 {
            note(&format!(
                "note: {} answers failed; `--retry-errors` asks again",
                done.failed
            ));
        }
        let cost = costs(&folder);
        let sum = |name: &str| -> f64 {
            cost.as_object()
                .into_iter()
                .flatten()
                .filter_map(|(_, one)| one[name].as_f64())
                .sum()
        };
        note(&format!(
            "{} answers asked, {} known before; in all {} prompt tokens read, {} reused",
            done.asked,
            done.known,
            sum("tokens_read"),
            sum("tokens_reused")
        ));
    }
    Ok((folder, found))
}

/// A model at work.
fn pool_of(resolved: &Resolved, stop: &Arc<AtomicBool>) -> Result<(Pool, ModelCard)> {
    let (client, made) = resolved.model()?;
    let card = client.card()?;
    let limits = Limits::of(&card, 1, None, resolved.plugin.spec().deadline);
    let control = made.control;
    let pool = Pool::start(
        &resolved.spec.name,
        vec![Copy { client, control }],
        &limits,
        stop.clone(),
    );
    Ok((pool, card))
}

/// The task with its request for reasons left out, where it has such a setting.
fn plain_task(
    task: &Resolved,
    name: &str,
    config: &Config,
    catalog: &Catalog,
) -> Result<Option<plugin_api::client::TaskClient>> {
    if !task.note.options.iter().any(|option| option.name == "reasoning") {
        return Ok(None);
    }
    let mut settings = config.task_settings.clone();
    settings.insert("reasoning".to_owned(), json!(false));
    let resolved = catalog.resolve(Kind::Task, name, &config.given(&settings))?;
    resolved.task().map(Some)
}

/// The data set's name in figures and files: a track of SAKURA has one of its own.
fn dataset_name(task: &str, other: &serde_json::Map<String, Value>) -> String {
    match other.get("track").and_then(Value::as_str) {
        Some(track) => format!("{task}-{track}"),
        None => task.to_owned(),
    }
}

/// The figures of everything that was asked about a run before.
fn show_all(run: &Path, plan: &Plan, bin: Option<f64>, common: &Common) -> Result<Exit> {
    let found = sweeps(run);
    if found.is_empty() {
        let failure = Failure::missing(format!("nothing was asked yet about the chains of `{}`", run.display()));
        return Err(failure.help("`host faithfulness RUN --experiments all` asks everything"));
    }
    let mut whole = Vec::new();
    for folder in &found {
        let (baseline, model, dataset) = open(folder, plan)?;
        whole.push((folder, figures(&baseline, &records(folder)?, &model, &dataset, bin)));
    }
    match (common.json, whole.as_slice()) {
        (true, [(_, only)]) => print(&format!("{only}\n")),
        (true, all) => {
            let map: serde_json::Map<String, Value> = all
                .iter()
                .map(|(folder, figures)| (folder.display().to_string(), figures.clone()))
                .collect();
            print(&format!("{}\n", Value::Object(map)));
        }
        (false, all) => all
            .iter()
            .for_each(|(folder, figures)| print(&format!("{}\n{}\n", folder.display(), summary(figures)))),
    }
    Ok(Exit::Ok)
}

/// A sweep's baseline and names, from its provenance.
pub(super) fn open(folder: &Path, plan: &Plan) -> Result<(Baseline, String, String)> {
    let text = std::fs::read_to_string(folder.join("provenance.json")).unwrap_or_default();
    let provenance: Value = serde_json::from_str(&text).unwrap_or_default();
    let name = |key: &str| provenance["names"][key].as_str().unwrap_or("unknown").to_owned();
    let own = &provenance["reading"];
    let reading = Reading {
        splitter: own["splitter"]
            .as_str()
            .and_then(faithfulness::Splitter::parse)
            .unwrap_or(plan.splitter),
        sanitizer: own["sanitizer"].as_str().and_then(Sanitizer::parse),
    };
    let run = folder.parent().and_then(Path::parent).unwrap_or(folder);
    let baseline = Baseline::read(run, reading)?;
    if provenance["baseline"].as_str() != Some(baseline.hash.as_str()) {
        let failure = Failure::missing(format!(
            "the records of `{}` are not the ones that `{}` asked about",
            run.display(),
            folder.display()
        ));
        return Err(failure.help(
            "the run went on or was scored again since then; ask again: `host faithfulness RUN --experiments …`",
        ));
    }
    Ok((baseline, name("model"), name("dataset")))
}

/// The release whose columns an export format stands for.
pub(super) fn release(format: &str) -> Option<Release> {
    match format {
        "faithfulness-r1" => Some(Release::R1),
        "faithfulness-r3" => Some(Release::R3),
        _ => None,
    }
}

/// `host export RUN --format faithfulness-r3`: the run's chains and all its sweeps, or one sweep of a run.
pub(super) fn export(run: &Path, out: Option<&Path>, format: &str, release: Release, common: &Common) -> Result<Exit> {
    let found = sweeps(run);
    let of_run = match run.join("provenance.json").exists() {
        true => run.parent().and_then(Path::parent).unwrap_or(run),
        false => run,
    };
    let plan = plan(&SweepArgs::default())?;
    let (baseline, model, dataset) = match found.first() {
        Some(folder) => open(folder, &plan)?,
        None => {
            let config = config_of(of_run)?;
            let baseline = Baseline::read(of_run, reading(&plan))?;
            let names = (one(config.model.as_ref(), "model")?, one(config.task.as_ref(), "task")?);
            (baseline, names.0, names.1)
        }
    };
    check(of_run, &baseline)?;
    let out = out.map_or_else(|| run.join("export").join(format), Path::to_owned);
    let written = crate::faithfulness::export(&baseline, &found, &model, &dataset, release, &out)?;
    let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
    match common.json {
        true => print(&format!("{}\n", json!({ "format": format, "files": paths }))),
        false => print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>()),
    }
    Ok(Exit::Ok)
}

/// The default flags of a sweep.
impl Default for SweepArgs {
    fn default() -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: SweepArgs,
        }
        <Alone as clap::Parser>::parse_from(["host"]).args
    }
}
