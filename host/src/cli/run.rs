//! `host run`.

use super::config::{Config, changes};
use super::spending::SpendingArgs;
use super::{Common, Flags, memory, names, note, print, stop_on_signals};
use crate::ask::roles::Roles;
use crate::catalog::{Catalog, Resolved};
use crate::failure::{Exit, Failure, Result};
use crate::registry::values;
use crate::run::finish::is_taught;
use crate::run::ledger;
use crate::run::plan::RunPlan;
use crate::run::results::{self, Groups};
use crate::run::select::{Limit, select};
use crate::run::session::Session;
use crate::run::{Options, Outcome, Task};
use crate::score::judges;
use crate::trackers;
use plugin_api::client::TaskClient;
use plugin_api::{Kind, LoraUse};
use serde_json::{Map, Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[derive(Debug, Clone, Default, clap::Args)]
#[command(after_help = "Examples:
  host run --demo --model qwen3 --task arc
  host run --model qwen3 --task arc -M weights=/models/Qwen3-0.6B -T mode=loglikelihood --limit 0.1
  host run --model a,b --task all --judge rules --json
  host run --config runs/qwen3-arc-1a2b3c4d/run.toml
  host run --model af3 --task sakura --audio mask:percent=50,mode=start --keep-audio
  host run --model af3 --task sakura --audio noise:snr=10 --audio concat:file=hint.wav,place=before,gap=0.5

Changes of the clips (--audio), with what they do unless told otherwise:
  mask:percent=P,mode=random,type=silence,seed=42   P % of it; mode start, end, random or scattered; type silence or noise
  noise:snr=DB,seed=42                              white noise over all of it
  reverse                                           backwards
  silence                                           nothing but its length
  swap:seed=42                                      another question's clip
  concat:file=WAV,place=after,gap=0                 another file after it or before it, gap seconds apart
  overlay:file=WAV,snr=0,at=0                       another file over it, snr dB below it, from second `at` on")]
pub struct RunArgs {
    /// Models by their registry names, separated by commas, or `all`
    #[arg(long, short = 'm', value_name = "NAMES")]
    model: Vec<String>,
    /// Tasks by their registry names, separated by commas, or `all`
    #[arg(long, short = 't', value_name = "NAMES")]
    task: Vec<String>,
    /// Judges that rule on the answers, separated by commas: judges by name, `auto` for the one that suits the task, or
    /// a model that plays it
    #[arg(long, short = 'j', value_name = "NAMES")]
    judge: Vec<String>,
    /// A model that tasks and judges may ask: the role they ask for, and the model that plays it
    #[arg(long, value_name = "ROLE=MODEL")]
    role: Vec<String>,
    /// A model that transcribes clips for models that can't hear; its words replace each clip
    #[arg(long, alias = "ears", value_name = "MODEL")]
    transcriber: Option<String>,
    /// What the transcriber is asked about a clip [default: to write down what is said, or describe what is heard]
    #[arg(long, alias = "ears-prompt", value_name = "TEXT")]
    transcriber_prompt: Option<String>,
    /// A setting of the models (`NAME:key=value` for one of several)
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// A setting of the tasks
    #[arg(short = 'T', value_name = "KEY=VALUE")]
    task_settings: Vec<String>,
    /// A setting of the judges
    #[arg(short = 'J', value_name = "KEY=VALUE")]
    judge_settings: Vec<String>,
    /// Which of the LoRAs given with the setting `lora` to use, separated by commas, or `none` [default: all];
    /// `none,NAME` makes one run without and one with it, from one copy of the model
    #[arg(long, value_name = "NAMES|none")]
    lora: Vec<String>,
    /// Only the first N samples, a share of them (0.1), or a range of indexes (10-20, its end left out)
    #[arg(long, value_name = "N|SHARE|A-B")]
    limit: Option<String>,
    /// Only this sample; may be given several times
    #[arg(long, value_name = "ID")]
    sample_id: Vec<String>,
    /// This machine's part of the samples: `3/16` is the fourth of sixteen; `host join` joins all parts
    #[arg(long, value_name = "INDEX/COUNT")]
    shard: Option<String>,
    /// Seed of random draws [default: 0]
    #[arg(long)]
    seed: Option<u64>,
    /// Answers to each question, each drawn from a seed of its own [default: 1]
    #[arg(long, value_name = "N")]
    chains: Option<u32>,
    /// Prompts in flight at once, or `auto` to leave it to the model
    #[arg(long, value_name = "N|auto")]
    batch_size: Option<String>,
    /// Copies of the model that share the work
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// The folder that receives run directories [default: runs]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Start over; what an earlier run recorded is kept under another name
    #[arg(long)]
    fresh: bool,
    /// Try samples again that failed in an earlier run
    #[arg(long)]
    retry_errors: bool,
    /// Record the answers and score them later, with `host score RUN` or this command without the flag
    #[arg(long)]
    predict_only: bool,
    /// Keep every clip as it was heard, as WAV files in the run directory, so that the page plays them
    #[arg(long)]
    keep_audio: bool,
    /// Change every clip before the model hears it; several changes are made in the order given: `mask:percent=P`,
    /// `noise:snr=DB`, `reverse`, `silence`, `swap`, `concat:file=WAV`, `overlay:file=WAV` [see the examples]
    #[arg(long, value_name = "CHANGE")]
    audio: Vec<String>,
    /// Also write the numbers for trackers, in the run directory: `tensorboard`, `wandb` (offline), separated by commas
    #[arg(long, value_name = "NAMES")]
    report_to: Vec<String>,
    /// Skip the test on the first samples that silence in place of the clips changes something
    #[arg(long)]
    skip_hearing_test: bool,
    /// Show what would be done and what memory the models would take; load none
    #[arg(long)]
    dry_run: bool,
    /// Print the numbers by group as well
    #[arg(long)]
    groups: bool,
    /// Use the toy weights and samples that come with the repository
    #[arg(long)]
    demo: bool,
    /// Exit with 1 if more than this number or share of the samples failed [default: 0]
    #[arg(long, value_name = "N|SHARE")]
    fail_on_error: Option<String>,
    #[command(flatten)]
    spending: SpendingArgs,
    /// Start nothing new after this time (90s, 10min, 2h); exit with 5
    #[arg(long, value_name = "TIME")]
    time_limit: Option<String>,
    /// Flags from a file; those on the command line take precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The flags, resolved: what to run, and what only this command needs to know.
struct Args {
    plan: RunPlan,
    fail_on_error: Tolerance,
    dry_run: bool,
    groups: bool,
}

/// How many samples may fail.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tolerance {
    Count(u64),
    Share(f64),
}

impl Tolerance {
    fn parse(text: &str) -> Result<Tolerance> {
        let wrong = || {
            Failure::usage(format!(
                "`--fail-on-error {text}` is neither a number nor a share below 1"
            ))
        };
        match text.parse::<u64>() {
            Ok(count) => Ok(Tolerance::Count(count)),
            Err(_) => text
                .parse()
                .ok()
                .filter(|share| (0.0..=1.0).contains(share))
                .map(Tolerance::Share)
                .ok_or_else(wrong),
        }
    }

    fn exceeded(self, failed: u64, of: u64) -> bool {
        match self {
            Tolerance::Count(count) => failed > count,
            Tolerance::Share(share) => failed as f64 > share * of as f64,
        }
    }
}

pub fn run(args: RunArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    let config = args
        .config
        .as_deref()
        .map(Config::read)
        .transpose()?
        .unwrap_or_default();
    let common = Common {
        offline: common.offline || config.offline,
        ..common.clone()
    };
    let demo = args.demo || config.demo;
    common.with_catalog(demo, &stop.clone(), |catalog| {
        let args = resolve_args(args, config, catalog, &common, stop)?;
        run_all(&args, catalog, &common)
    })
}

fn resolve_args(
    args: RunArgs,
    config: Config,
    catalog: &Catalog,
    common: &Common,
    stop: Arc<AtomicBool>,
) -> Result<Args> {
    let list = |flags: Vec<String>, file: Option<super::config::Names>| match flags.is_empty() {
        true => file.map(super::config::Names::list).unwrap_or_default(),
        false => flags,
    };
    let text =
        |flag: Option<String>, file: &Option<super::config::Scalar>| flag.or(file.as_ref().map(ToString::to_string));
    let models = names(catalog.registry, Kind::Model, &list(args.model, config.model.clone()))?;
    let tasks = names(catalog.registry, Kind::Task, &list(args.task, config.task.clone()))?;
    let judges = judges::Wanted::parse(catalog.registry, &list(args.judge, config.judge.clone()))?;
    for (kind, names) in [(Kind::Model, &models), (Kind::Task, &tasks)] {
        if names.is_empty() {
            let known = catalog.registry.names(kind).join("`, `");
            return Err(
                Failure::usage(format!("no {kind} is given")).help(format!("give one with `--{kind}`: `{known}`"))
            );
        }
    }
    let flags = |flag: &str, texts: &[String], table: &Map<String, Value>| {
        Flags::parse(flag, texts).map(|flags| flags.over(config.given(table)))
    };
    let model_flags = flags("-M", &args.model_settings, &config.model_settings)?;
    let task_flags = flags("-T", &args.task_settings, &config.task_settings)?;
    let judge_flags = flags("-J", &args.judge_settings, &config.judge_settings)?;
    let roles = if args.role.is_empty() {
        config.role.clone()
    } else {
        args.role
    };
    let players = roles
        .iter()
        .filter_map(|role| role.split_once('='))
        .map(|(_, model)| model.to_owned());
    let transcriber = args.transcriber.or(config.transcriber.clone());
    let transcriber_prompt = args.transcriber_prompt.or(config.transcriber_prompt.clone());
    if transcriber.is_none() && transcriber_prompt.is_some() {
        let message = "`--transcriber-prompt` (or `--ears-prompt`) is given without `--transcriber` (or `--ears`)";
        return Err(Failure::usage(message));
    }
    let judging = judges.iter().filter_map(|wanted| wanted.model().map(str::to_owned));
    let judging = judging.chain(judges::panel_members(&judge_flags, catalog.registry));
    let players = players.chain(judging).chain(transcriber.clone());
    let part_takers = models.iter().cloned().chain(players);
    model_flags.check_names(Kind::Model, &part_takers.collect::<Vec<_>>())?;
    task_flags.check_names(Kind::Task, &tasks)?;
    judges::check_flags(&judge_flags, &judges, catalog.registry)?;
    let limit_text = text(args.limit, &config.limit);
    let limit = limit_text
        .as_deref()
        .map(str::parse::<Limit>)
        .transpose()
        .map_err(|why| Failure::usage(format!("`--limit`: {why}")))?;
    let batch_text = text(args.batch_size, &config.batch_size).filter(|text| text != "auto");
    let batch_size = batch_text.map(|text| match text.parse() {
        Ok(size) if size > 0 => Ok(size),
        _ => Err(Failure::usage(format!(
            "`--batch-size {text}` is neither a number above 0 nor `auto`"
        ))),
    });
    let workers = args.workers.or(config.workers).unwrap_or(1);
    if workers == 0 {
        return Err(Failure::usage("`--workers` must be at least 1, got `--workers 0`"));
    }
    let time_limit = text(args.time_limit, &config.time_limit);
    let time_limit =
        time_limit.map(|text| values::duration(&text).map_err(|why| Failure::usage(format!("`--time-limit`: {why}"))));
    let sample_ids = if args.sample_id.is_empty() {
        config.sample_id.clone()
    } else {
        args.sample_id
    };
    let audio = match args.audio.is_empty() {
        true => config.changes()?,
        false => changes(&args.audio, &std::env::current_dir().unwrap_or_default())?,
    };
    let shard = args.shard.or(config.shard.clone());
    let shard = shard.map(|text| text.parse().map_err(|why| Failure::usage(format!("`--shard`: {why}"))));
    let loras = loras(&list(args.lora, config.lora.clone()));
    let report_to = list(args.report_to, config.report_to.clone()).join(",");
    let report_to = report_to.split(',').map(str::trim).filter(|name| !name.is_empty());
    let report_to: Vec<String> = report_to.map(str::to_owned).collect();
    trackers::check(&report_to, "--report-to")?;
    let options = Options {
        limit,
        limit_text,
        sample_ids,
        shard: shard.transpose()?,
        chains: chains(args.chains.or(config.chains))?,
        lora: LoraUse::AsLoaded,
        seed: args.seed.or(config.seed).unwrap_or(0),
        batch_size: batch_size.transpose()?,
        out: args.out.or(config.out.clone()).unwrap_or_else(|| PathBuf::from("runs")),
        fresh: args.fresh,
        retry_errors: args.retry_errors,
        quiet: !common.shows_progress(),
        demo: catalog.demo,
        predict_only: args.predict_only || config.predict_only,
        keep_audio: args.keep_audio || config.keep_audio,
        audio,
        audio_check: !(args.skip_hearing_test || config.skip_hearing_test),
        report_to,
        until: time_limit.transpose()?.map(|limit| Instant::now() + limit),
        stop,
        roles: Arc::new(Roles::default()),
        transcriber: None,
        spending: Arc::new(args.spending.limits()),
        repeat: Value::Null,
    };
    let fail_on_error = text(args.fail_on_error, &config.fail_on_error)
        .map(|text| Tolerance::parse(&text))
        .transpose()?;
    Ok(Args {
        plan: RunPlan {
            models,
            tasks,
            judges,
            model_flags,
            task_flags,
            judge_flags,
            roles,
            loras,
            transcriber,
            transcriber_prompt,
            workers,
            options,
        },
        fail_on_error: fail_on_error.unwrap_or(Tolerance::Count(0)),
        dry_run: args.dry_run,
        groups: args.groups,
    })
}

/// The note about a demo's numbers, before there are any.
fn demo_words(session: &Session) -> &'static str {
    let mut pairs = session
        .models
        .iter()
        .flat_map(|model| session.tasks.iter().map(move |task| is_taught(model, task)));
    match (pairs.clone().all(|taught| taught), pairs.any(|taught| taught)) {
        (true, _) => "DEMO: a tiny model that `host train` taught such questions, and hand-made samples.",
        (_, true) => {
            "DEMO: tiny weights and hand-made samples. Where no note says that a model was taught the task, the numbers mean nothing."
        }
        _ => {
            "DEMO: tiny weights that were not taught these tasks, and hand-made samples. The numbers below mean nothing."
        }
    }
}

fn run_all(args: &Args, catalog: &Catalog, common: &Common) -> Result<Exit> {
    let session = Session::prepare(&args.plan, catalog)?;
    if args.dry_run {
        return dry_run(&args.plan, &session.models, &session.tasks, common);
    }
    if catalog.demo && !common.quiet {
        note(demo_words(&session));
    }
    let outcomes = session.run(&|outcome| {
        if !common.quiet && common.shows_progress() {
            note(&format!("records: {}", outcome.directory.display()));
        }
    })?;
    show(&outcomes, args.groups, common);
    if !common.quiet {
        for outcome in &outcomes {
            outcome.tracked.iter().for_each(|words| note(words));
            for words in ledger::words(&outcome.results) {
                note(&format!(
                    "{} on {}: {words}",
                    outcome.summary.model, outcome.summary.task
                ));
            }
        }
    }
    conclude(&outcomes, args.fail_on_error)
}

fn chains(given: Option<u32>) -> Result<u32> {
    const MOST: u32 = 10_000;
    match given.unwrap_or(1) {
        0 => Err(Failure::usage("`--chains` must be at least 1")),
        many if many > MOST => Err(Failure::usage(format!("`--chains {many}` is more than {MOST}"))),
        chains => Ok(chains),
    }
}

/// What `--lora` chooses: `none` beside others is an arm of its own, and so is each of the others.
fn loras(texts: &[String]) -> Vec<LoraUse> {
    let names = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    let names: Vec<String> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    match names.as_slice() {
        [] => vec![LoraUse::AsLoaded],
        several if several.iter().any(|name| name == "none") => several
            .iter()
            .map(|name| match name.as_str() {
                "none" => LoraUse::Off,
                name => LoraUse::Only(vec![name.to_owned()]),
            })
            .collect(),
        _ => vec![LoraUse::Only(names)],
    }
}

fn show(outcomes: &[Outcome], all_groups: bool, common: &Common) {
    if common.json {
        let runs: Vec<Value> = outcomes
            .iter()
            .map(|outcome| {
                let mut results = outcome.results.clone();
                results["host"]["directory"] = json!(outcome.directory);
                results
            })
            .collect();
        print(&(serde_json::to_string_pretty(&json!({ "runs": runs })).unwrap_or_default() + "\n"));
    } else {
        let groups = if all_groups { Groups::All } else { Groups::Hint };
        let summaries: Vec<_> = outcomes.iter().map(|outcome| outcome.summary.clone()).collect();
        print(&results::table(&summaries, groups));
    }
}

fn conclude(outcomes: &[Outcome], tolerance: Tolerance) -> Result<Exit> {
    if let Some(failure) = outcomes.iter().find_map(|outcome| outcome.cut_short.clone()) {
        return Err(failure);
    }
    let exceeded = |outcome: &&Outcome| tolerance.exceeded(outcome.failed, outcome.finished);
    match outcomes.iter().find(exceeded) {
        None => Ok(Exit::Ok),
        Some(outcome) => {
            let pair = format!("{} on {}", outcome.summary.model, outcome.summary.task);
            let message = format!("{} of {} samples of {pair} failed", outcome.failed, outcome.finished);
            let hint = "the records say why; `--retry-errors` tries them again, `--fail-on-error N` allows for some";
            Err(Failure::new(Exit::Threshold, message).help(hint))
        }
    }
}

fn dry_run(plan: &RunPlan, models: &[Resolved], tasks: &[Task], common: &Common) -> Result<Exit> {
    let mut plans = Vec::new();
    let estimates = models.iter().map(memory::estimate).collect::<Result<Vec<_>>>()?;
    for task in tasks {
        let options = &plan.options;
        let selection = select(&task.client, &task.name, options.limit, &options.sample_ids)?;
        let first = first_prompt(&task.client, &selection);
        for (model, estimate) in models.iter().zip(&estimates) {
            plans.push(json!({
                "model": model.identity, "task": task.resolved.identity, "version": task.card.version,
                "samples": task.client.count()?, "selected": selection.len(), "first": first,
                "memory": estimate.as_ref().map(memory::as_json),
            }));
        }
    }
    print(&(serde_json::to_string_pretty(&json!({ "dry_run": plans })).unwrap_or_default() + "\n"));
    if !common.quiet {
        for (model, estimate) in models.iter().zip(&estimates) {
            let Some(estimate) = estimate else { continue };
            let fits = if estimate.fits() { "" } else { ": it does not fit" };
            note(&format!(
                "memory of `{}`: {}{fits}",
                model.spec.name,
                memory::in_a_line(estimate)
            ));
        }
        note("nothing was run: no model was loaded");
    }
    Ok(Exit::Ok)
}

/// The first samples by id, and the first prompt.
fn first_prompt(task: &TaskClient, selection: &[usize]) -> Value {
    let ids: Vec<Value> = selection
        .iter()
        .take(5)
        .map(|index| match task.sample(*index) {
            Ok(sample) => json!(sample.id),
            Err(error) => json!({ "index": index, "error": error.to_string() }),
        })
        .collect();
    let prompt = selection
        .first()
        .map(|index| task.sample(*index).and_then(|sample| task.prompt(&sample)));
    let prompt = match prompt {
        Some(Ok(prompt)) => json!(prompt),
        Some(Err(error)) => json!({ "error": error.to_string() }),
        None => Value::Null,
    };
    json!({ "ids": ids, "prompt": prompt })
}
