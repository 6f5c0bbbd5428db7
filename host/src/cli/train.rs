//! `host train`.

use super::config::Config;
use super::{Common, Flags, note, print, stop_on_signals};
use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::nearest_hint;
use crate::train::names::{self, Given};
use crate::train::{Options, launch};
use clap::CommandFactory;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default, clap::Args)]
#[command(
    after_help = "All names of transformers' TrainingArguments and PEFT's LoraConfig, and those of the scripts that this command replaces,
are flags as well, with `-` or `_`: --per_device_train_batch_size 4, --lora-r 16, --lr_scheduler_type cosine,
--train_file FILE. docs/fine-tune.md lists them with their defaults.

Examples:
  host train --demo --model qwen3 --task arc
  host train --model qwen3 --task arc --method lora -M weights=/models/Qwen3-0.6B --out outputs/arc --then-run
  host train --model qwen3 --rows train.jsonl --eval-rows dev.jsonl --order transformers --learning_rate 2e-5
  host train --config examples/recipes/gemma3-4b-qlora-input_gold-output_program.toml --dry-run
  host train --processes 2 --config mine.toml

The same command goes on where it was cut short, and ends with the same bytes. `--fresh` begins again."
)]
pub struct TrainArgs {
    /// The model to train, by its registry name
    #[arg(long, short = 'm', value_name = "NAME")]
    model: Option<String>,
    /// The task whose samples to learn from, by its registry name
    #[arg(long, short = 't', value_name = "NAME")]
    task: Option<String>,
    /// A setting of the model
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
    /// A setting of the task
    #[arg(short = 'T', value_name = "KEY=VALUE")]
    task_settings: Vec<String>,
    /// Tokenised rows to learn from instead of a task: lines of `input_ids`, `labels`, `attention_mask`, `audio`
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Tokenised rows to evaluate on
    #[arg(long, value_name = "FILE")]
    eval_rows: Option<PathBuf>,
    /// What to train: all weights, a LoRA, or a LoRA over a base in four bits
    #[arg(long, value_name = "full|lora|qlora")]
    method: Option<String>,
    /// A PEFT folder to start from; its rank, alpha, targets and factors are used
    #[arg(long, value_name = "DIR")]
    lora: Option<PathBuf>,
    /// Don't train parameters whose names contain one of these, separated by commas [default: the audio parts]
    #[arg(long, value_name = "NAMES")]
    freeze: Vec<String>,
    /// Train parameters whose names contain one of these, although `--freeze` names them
    #[arg(long, value_name = "NAMES")]
    unfreeze: Vec<String>,
    /// The order of rows: as given, shuffled by a seed, or as transformers' Trainer shuffles them [default:
    /// transformers]
    #[arg(long, value_name = "given|seeded|transformers")]
    order: Option<String>,
    /// After each evaluation, log what the model answers to the first N evaluation lessons, each in at most
    /// `--eval-generation-tokens` tokens [default: 128]
    #[arg(long, value_name = "N")]
    eval_generations: Option<u64>,
    /// The folder that receives checkpoints, logs and the result [default: outputs/MODEL-TASK-METHOD]
    #[arg(long, short = 'o', value_name = "DIR")]
    out: Option<PathBuf>,
    /// Flags from a TOML file; those on the command line take precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the first N lessons with the learnt parts marked, and exit
    #[arg(long, value_name = "N")]
    show: Option<usize>,
    /// Print steps, tokens, learnt tokens and memory, and exit; fail if the run cannot fit
    #[arg(long)]
    dry_run: bool,
    /// Run the task's test split with the trained model
    #[arg(long)]
    then_run: bool,
    /// Run it with the original model as well, and compare the two
    #[arg(long)]
    baseline: bool,
    /// Use the toy weights and samples that come with the repository; run before and after
    #[arg(long)]
    demo: bool,
    /// Learn from the first N samples only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit: Option<u64>,
    /// Start over; what an earlier run left is kept under another name
    #[arg(long)]
    fresh: bool,
    /// Resume from a checkpoint even if settings or rows have changed since
    #[arg(long)]
    resume_changed: bool,
    /// Start N processes on this machine that train together
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    processes: Option<u32>,
    /// What connects processes [default: auto]
    #[arg(long, value_name = "auto|tcp|mpi")]
    collective: Option<String>,
    /// A training setting
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

/// Keys of a file that are not training settings.
const KEYS: &[&str] = &[
    "model",
    "task",
    "model_settings",
    "task_settings",
    "rows",
    "eval_rows",
    "method",
    "lora",
    "freeze",
    "unfreeze",
    "order",
    "out",
    "then_run",
    "baseline",
    "demo",
    "limit",
    "processes",
    "collective",
    "published",
    "about",
];

/// Turns the training settings among the arguments of `host train` into `--set NAME=VALUE`, and flags of its own that
/// are written with `_` into those with `-`: their names are too many for a help text, and are the reference's.
pub(super) fn arguments(all: Vec<OsString>) -> Result<Vec<OsString>> {
    let Some(at) = all
        .iter()
        .skip(1)
        .position(|word| word == "train")
        .map(|place| place + 1)
    else {
        return Ok(all);
    };
    if all[1..at].iter().any(|word| !word.to_string_lossy().starts_with('-')) {
        return Ok(all); // the word belongs to another command
    }
    let command = super::Cli::command();
    let train = command.find_subcommand("train").into_iter();
    let own: Vec<String> = train
        .flat_map(clap::Command::get_arguments)
        .chain(command.get_arguments())
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .chain(["help".to_owned(), "version".to_owned()])
        .collect();
    let mut rest = all[at + 1..].iter().peekable();
    let mut turned: Vec<OsString> = all[..=at].to_vec();
    while let Some(word) = rest.next() {
        let Some(text) = word.to_str() else {
            turned.push(word.clone());
            continue;
        };
        // Hydra's way of writing: `training_args.learning_rate=2e-5`, `data.train_path=FILE`.
        if let Some((name, value)) = text.split_once('=')
            && let Some(name) = hydra(name)
        {
            turned.extend([OsString::from("--set"), format!("{name}={value}").into()]);
            continue;
        }
        let Some(flag) = text.strip_prefix("--").filter(|flag| !flag.is_empty()) else {
            turned.push(word.clone());
            continue;
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (flag, None),
        };
        let hyphened = names::plain(name).replace('_', "-");
        if own.contains(&hyphened) {
            turned.push(match value {
                Some(value) => format!("--{hyphened}={value}").into(),
                None => format!("--{hyphened}").into(),
            });
            continue;
        }
        let Some(setting) = names::find(name) else {
            let mut known: Vec<&str> = own.iter().map(String::as_str).collect();
            for name in names::all() {
                known.push(name);
            }
            let hint = nearest_hint(&names::plain(name), known.into_iter());
            return Err(Failure::usage(format!("`host train` knows no flag `--{name}`")).help(hint));
        };
        // A flag without a value means yes; what looks like a number is a value, though it begins with `-`.
        let is_value = |word: &&OsString| {
            let text = word.to_string_lossy();
            !text.starts_with('-') || text.parse::<f64>().is_ok()
        };
        let value = match value {
            Some(value) => value,
            None => match rest.next_if(|word| is_value(word)) {
                Some(value) => value.to_string_lossy().into_owned(),
                None if setting.kind == names::Type::Flag => "true".to_owned(),
                None => return Err(Failure::usage(format!("`--{name}` needs a value"))),
            },
        };
        turned.extend([OsString::from("--set"), format!("{}={value}", setting.names[0]).into()]);
    }
    Ok(turned)
}

/// The setting that a name of SlamKit's configuration stands for.
fn hydra(name: &str) -> Option<&'static str> {
    let (group, name) = name.split_once('.')?;
    let found = match group {
        "training_args" | "data" | "model" | "logger" => names::find(name)?,
        _ => return None,
    };
    Some(found.names[0])
}

pub(super) fn train(args: TrainArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    let words: Vec<OsString> = std::env::args_os().collect();
    let processes = args.processes;
    let options = options(args)?;
    // A process that was started by a launcher, ours or another, is one of several; else this one may start them.
    if let Some(count) = processes.or(options.processes).filter(|count| *count > 1)
        && crate::train::environment::read()?.is_none()
        && options.show.is_none()
        && !options.dry_run
    {
        return launch::launch(count, &words, &stop);
    }
    launch::end_with_launcher(&stop);
    common.with_catalog(options.demo, &stop, |catalog| {
        let progress = common.shows_progress();
        crate::train::run(
            options,
            catalog,
            &crate::train::Output {
                json: common.json,
                quiet: common.quiet,
                progress,
                offline: common.offline,
                registries: common.registry.clone(),
                print: &print,
                note: &note,
            },
        )
    })
}

/// What the file and the flags say, the flags counting more.
fn options(args: TrainArgs) -> Result<Options> {
    let file = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
    let mut given = Given::default();
    for (name, value) in &file.settings {
        given.put(name, value)?;
    }
    for text in &args.set {
        let Some((name, value)) = text.split_once('=') else {
            return Err(Failure::usage(format!("expected `--set NAME=VALUE`, got `{text}`")));
        };
        given.put(name, &Value::from(value))?;
    }
    let own = |key: &str| file.own.get(key).filter(|value| !value.is_null());
    let text = |flag: Option<String>, key: &str| flag.or_else(|| own(key).and_then(Value::as_str).map(str::to_owned));
    let path = |flag: Option<PathBuf>, key: &str| {
        flag.or_else(|| {
            own(key)
                .and_then(Value::as_str)
                .map(|path| beside(args.config.as_deref(), path))
        })
    };
    let flag = |flag: bool, key: &str| flag || own(key).and_then(Value::as_bool).unwrap_or_default();
    let number = |key: &str| own(key).and_then(Value::as_u64);
    let list = |flags: &[String], key: &str| -> Vec<String> {
        let split = |text: &str| -> Vec<String> {
            text.split(',')
                .map(|name| name.trim().to_owned())
                .filter(|name| !name.is_empty())
                .collect()
        };
        match (flags.is_empty(), own(key)) {
            (false, _) => flags.iter().flat_map(|text| split(text)).collect(),
            (true, Some(Value::Array(names))) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            (true, Some(Value::String(text))) => split(text),
            _ => Vec::new(),
        }
    };
    let flags = |flag: &str, texts: &[String], key: &str| {
        let table = own(key).and_then(Value::as_object).cloned().unwrap_or_default();
        let base = Config::at(args.config.as_deref().unwrap_or(Path::new("")));
        Flags::parse(flag, texts).map(|flags| flags.over(base.given(&table)))
    };
    let order = text(args.order, "order");
    let set = |given: &mut Given, name: &str, value: Value| {
        given.map.insert(name.to_owned(), value);
    };
    if let Some(order) = order {
        if !["given", "seeded", "transformers"].contains(&order.as_str()) {
            let failure = Failure::usage(format!("unknown order `{order}`"));
            return Err(failure.help("it is `given`, `seeded` or `transformers`"));
        }
        set(&mut given, "order", order.into());
    }
    if let Some(count) = args.eval_generations {
        set(&mut given, "eval_generations", count.into());
    }
    let (freeze, unfreeze) = (list(&args.freeze, "freeze"), list(&args.unfreeze, "unfreeze"));
    if !freeze.is_empty() {
        set(&mut given, "freeze", freeze.into());
    }
    if !unfreeze.is_empty() {
        set(&mut given, "unfreeze", unfreeze.into());
    }
    if let Some(lora) = path(args.lora, "lora") {
        let lora = std::path::absolute(&lora).unwrap_or(lora);
        set(&mut given, "adapter", lora.display().to_string().into());
    }
    let task = text(args.task, "task");
    // With a task they are its own rows; without one they are tokens already.
    let rows = given.text("train_file").filter(|_| task.is_none()).map(PathBuf::from);
    Ok(Options {
        model: text(args.model, "model"),
        task,
        model_flags: flags("-M", &args.model_settings, "model_settings")?,
        task_flags: flags("-T", &args.task_settings, "task_settings")?,
        rows: path(args.rows, "rows").or(rows),
        eval_rows: path(args.eval_rows, "eval_rows"),
        method: text(args.method, "method"),
        out: path(args.out, "out"),
        show: args.show,
        dry_run: args.dry_run,
        then_run: flag(args.then_run, "then_run"),
        baseline: flag(args.baseline, "baseline"),
        demo: flag(args.demo, "demo"),
        limit: args.limit.or(number("limit")),
        fresh: args.fresh,
        resume_changed: args.resume_changed,
        processes: args.processes.or(number("processes").map(|count| count as u32)),
        collective: text(args.collective, "collective"),
        published: own("published").and_then(Value::as_object).cloned().unwrap_or_default(),
        given,
    })
}

/// The contents of a file: flags of the command, and training settings.
#[derive(Debug, Default)]
struct File {
    own: BTreeMap<String, Value>,
    settings: Map<String, Value>,
}

fn read(path: &Path) -> Result<File> {
    let shown = path.display();
    let text =
        std::fs::read_to_string(path).or_fail(Exit::Usage, || format!("cannot read the configuration `{shown}`"))?;
    let all: Map<String, Value> =
        toml::from_str(&text).or_fail(Exit::Usage, || format!("the configuration `{shown}` is malformed"))?;
    let mut file = File::default();
    for (key, value) in all {
        let plain = names::plain(&key);
        if KEYS.contains(&plain.as_str()) {
            file.own.insert(plain, value);
        } else if names::find(&key).is_some() {
            file.settings.insert(key, value);
        } else {
            let failure = Failure::usage(format!("unknown key `{key}` in the configuration `{shown}`"));
            return Err(failure.help(nearest_hint(&plain, KEYS.iter().copied().chain(names::all()))));
        }
    }
    Ok(file)
}

/// A path of a file: from the file's own folder if something is there, else from the current one, as with the scripts.
fn beside(config: Option<&Path>, path: &str) -> PathBuf {
    let near = config.and_then(Path::parent).map(|folder| folder.join(path));
    near.filter(|near| near.exists()).unwrap_or_else(|| PathBuf::from(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turned(line: &str) -> std::result::Result<String, String> {
        let words = line.split_whitespace().map(OsString::from).collect();
        match arguments(words) {
            Ok(words) => Ok(words
                .iter()
                .map(|word| word.to_string_lossy())
                .collect::<Vec<_>>()
                .join(" ")),
            Err(failure) => Err(failure.render()),
        }
    }

    #[track_caller]
    fn check(line: &str, expected: &str) {
        assert_eq!(turned(line).unwrap(), expected);
    }

    #[test]
    fn names_of_the_reference_become_settings() {
        check(
            "host train --per_device_train_batch_size 4 --model qwen3 --lora-r=16 --bf16",
            "host train --set per_device_train_batch_size=4 --model qwen3 --set r=16 --set bf16=true",
        );
        check(
            "host train --max_steps -1 --dry_run",
            "host train --set max_steps=-1 --dry-run",
        );
        check(
            "host train --bf16 --fp16 false",
            "host train --set bf16=true --set fp16=false",
        );
        check(
            "host --quiet train --lr 1e-4",
            "host --quiet train --set learning_rate=1e-4",
        );
        check(
            "host train training_args.num_train_epochs=3 data.train_path=a.jsonl -M weights=x",
            "host train --set num_train_epochs=3 --set train_file=a.jsonl -M weights=x",
        );
    }

    #[test]
    fn other_commands_stay_as_they_are() {
        check("host run --model train --seed 3", "host run --model train --seed 3");
        check("host data split --seed 3", "host data split --seed 3");
    }

    #[test]
    fn an_unknown_name_names_the_nearest() {
        let error = turned("host train --learning_rte 1").unwrap_err();
        assert!(error.contains("learning_rate"), "{error}");
        assert!(turned("host train --epochs").unwrap_err().contains("needs a value"));
    }
}
