//! `host data`: a task's samples outside of runs.

use super::score_file::files_of;
use super::{Common, Flags, note, print, stop_on_signals};
use crate::catalog::Catalog;
use crate::data::letters::Letters;
use crate::data::stats::Stats;
use crate::data::{Lines, Troubles, in_order, rows, split};
use crate::export::Folder;
use crate::failure::{Exit, Failure, Result};
use crate::registry::nearest_hint;
use crate::run::select::{Limit, select};
use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::{Kind, Sample, TaskCard};
use serde_json::json;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum Command {
    /// Write a training row for each sample: `user_text` and `assistant_text`, or the task's own form
    Prepare(Prepare),
    /// Like `prepare`, with `inputs=noisy_gold`: the facts that a question needs, mixed with others
    NoisyGold(Prepare),
    /// Write the tokens of each sample's lesson: `input_ids`, `labels` (-100 where nothing is learnt), `attention_mask`
    Tokenize(Tokenize),
    /// Count samples, in all and by group
    Stats(Picked),
    /// Write rows into a file for each value of a group, or into a drawn share and the rest
    Split(Split),
    /// Convert other tools' files into the task's own format
    Convert(Convert),
}

/// Which samples of which task.
#[derive(Debug, Clone, clap::Args)]
pub struct Picked {
    /// The task, by its registry name
    #[arg(long, short = 't', value_name = "NAME")]
    task: Option<String>,
    /// A setting of the task
    #[arg(short = 'T', value_name = "KEY=VALUE")]
    task_settings: Vec<String>,
    /// Only the first N samples, a share of them (0.1), or a range of indexes (10-20, its end left out)
    #[arg(long, value_name = "N|SHARE|A-B")]
    limit: Option<String>,
    /// Use the samples that come with the repository
    #[arg(long)]
    demo: bool,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Prepare {
    #[command(flatten)]
    picked: Picked,
    /// The file that receives the lines [default: standard output]
    #[arg(long, short = 'o', value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Example:
  host data tokenize --task arc -T split=train --model qwen3 --out train.jsonl")]
pub struct Tokenize {
    #[command(flatten)]
    prepare: Prepare,
    /// The model whose tokens and chat template are wanted
    #[arg(long, short = 'm', value_name = "NAME")]
    model: String,
    /// A setting of the model
    #[arg(short = 'M', value_name = "KEY=VALUE")]
    model_settings: Vec<String>,
}

#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("how").required(true)), after_help = "Examples:
  host data split --task gaia --by level --out levels
  host data split --task finqa -T split=train --fraction 0.9 --seed 1 --out parts")]
pub struct Split {
    #[command(flatten)]
    picked: Picked,
    /// A file for each value of this group
    #[arg(long, value_name = "GROUP", group = "how")]
    by: Option<String>,
    /// A share to draw; samples that share a passage or clip go together
    #[arg(long, value_name = "SHARE", group = "how")]
    fraction: Option<f64>,
    /// Seed of the draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// The folder that receives the files
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Clone, clap::Args)]
pub struct Convert {
    /// The task, by its registry name
    #[arg(long, short = 't', value_name = "NAME")]
    task: String,
    /// The format to convert to, if the task knows several
    #[arg(long, value_name = "NAME")]
    to: Option<String>,
    /// The files
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// The folder that receives the converted files
    #[arg(long, short = 'o', value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(command: &Command, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    match command {
        Command::Convert(convert) => convert.run(common),
        Command::Prepare(prepare) => with(common, &prepare.picked, &stop, &[], |task, _| {
            prepare.run(&task, common)
        }),
        Command::NoisyGold(prepare) => {
            let picked = prepare.picked.noisy(common)?;
            with(common, &picked, &stop, &["inputs=noisy_gold"], |task, _| {
                prepare.run(&task, common)
            })
        }
        Command::Tokenize(tokenize) => with(common, &tokenize.prepare.picked, &stop, &[], |task, catalog| {
            let flags = Flags::parse("-M", &tokenize.model_settings)?;
            flags.check_names(Kind::Model, std::slice::from_ref(&tokenize.model))?;
            let resolved = catalog.resolve(Kind::Model, &tokenize.model, &flags.of(&tokenize.model))?;
            tokenize.prepare.tokenize(&task, &resolved.model()?.0, common)
        }),
        Command::Stats(picked) => with(common, picked, &stop, &[], |task, _| stats(&task, common)),
        Command::Split(split) => with(common, &split.picked, &stop, &[], |task, _| split.run(&task, common)),
    }
}

/// A task and those of its samples that are wanted.
struct Task<'a> {
    name: &'a str,
    client: TaskClient,
    card: TaskCard,
    indexes: Vec<usize>,
    stop: &'a AtomicBool,
}

/// Makes the task and picks its samples. `more` are settings that the command itself gives.
fn with(
    common: &Common,
    picked: &Picked,
    stop: &AtomicBool,
    more: &[&str],
    work: impl FnOnce(Task, &Catalog) -> Result<Exit>,
) -> Result<Exit> {
    common.with_catalog(picked.demo, stop, |catalog| {
        let Some(name) = picked.task.as_deref() else {
            let known = catalog.registry.names(Kind::Task).join("`, `");
            return Err(Failure::usage("no task is given").help(format!("give one with `--task`: `{known}`")));
        };
        let limit = picked.limit.as_deref().map(str::parse::<Limit>).transpose();
        let limit = limit.map_err(|why| Failure::usage(format!("`--limit`: {why}")))?;
        let mut texts: Vec<String> = more.iter().map(|text| (*text).to_owned()).collect();
        texts.extend(picked.task_settings.iter().cloned());
        let flags = Flags::parse("-T", &texts)?;
        flags.check_names(Kind::Task, &[name.to_owned()])?;
        let client = catalog.resolve(Kind::Task, name, &flags.of(name))?.task()?;
        let task = Task {
            name,
            card: client.card()?,
            indexes: select(&client, name, limit, &[])?,
            client,
            stop,
        };
        work(task, catalog)
    })
}

impl Picked {
    /// The same for `noisy-gold`: without `--task`, the only task that has such an input.
    fn noisy(&self, common: &Common) -> Result<Picked> {
        if self.task.is_some() {
            return Ok(self.clone());
        }
        let registry = common.registry()?;
        let has = |name: &String| {
            let spec = registry.adapter(Kind::Task, name).ok()?;
            let note = crate::plugin::Note::read(&registry.plugin(&spec.plugin).ok()?.path).ok()?;
            let options = note.meant(spec).ok()?.options.iter();
            let mut inputs = options.filter(|option| option.name == "inputs");
            inputs
                .any(|option| option.allowed.iter().any(|word| word == "noisy_gold"))
                .then_some(())
        };
        let names: Vec<String> = registry
            .names(Kind::Task)
            .into_iter()
            .filter(|name| has(name).is_some())
            .collect();
        match names.as_slice() {
            [only] => Ok(Picked {
                task: Some(only.clone()),
                ..self.clone()
            }),
            _ => Err(Failure::usage("no task is given").help("give one that has `inputs=noisy_gold` with `--task`")),
        }
    }
}

/// Reports the outcome and returns the exit code: missing rows are a failure.
fn told(common: &Common, troubles: &Troubles, of: usize, words: &str) -> Exit {
    if let Some(words) = troubles.words(of) {
        note(&format!("warning: {words}"));
    }
    if !common.quiet {
        note(&format!("note: {words}"));
    }
    match troubles.count {
        0 => Exit::Ok,
        _ => Exit::Threshold,
    }
}

impl Prepare {
    fn run(&self, task: &Task, common: &Common) -> Result<Exit> {
        let out = Lines::open(self.out.as_deref(), &print)?;
        let (mut troubles, mut count) = (Troubles::default(), 0_u64);
        let row = |index| rows::prepared(&task.client, &task.client.sample(index)?).map(|row| format!("{row}\n"));
        in_order(&task.indexes, task.stop, row, |line| match line {
            Ok(line) => {
                count += 1;
                out.add(&line)
            }
            Err(error) => troubles.add(error),
        })?;
        let written = out.finish()?;
        self.summarize(
            common,
            json!({ "task": task.name, "rows": count, "failed": troubles.count, "file": written }),
        );
        Ok(told(common, &troubles, task.indexes.len(), &format!("{count} rows")))
    }

    /// If the lines went to a file, the summary goes to standard output.
    fn summarize(&self, common: &Common, summary: serde_json::Value) {
        if common.json && self.out.is_some() {
            print(&format!("{summary}\n"));
        }
    }

    fn tokenize(&self, task: &Task, model: &ModelClient, common: &Common) -> Result<Exit> {
        let out = Lines::open(self.out.as_deref(), &print)?;
        let letters = Mutex::new(Letters::default());
        let (mut troubles, mut count, mut tokens) = (Troubles::default(), 0_u64, 0);
        let began = Instant::now();
        let row = |index| {
            let sample = task.client.sample(index)?;
            let lesson = task.client.lesson(&sample)?;
            let said = lesson
                .turns
                .iter()
                .filter(|turn| turn.learn)
                .map(|turn| turn.message.joined_text());
            let mut met = letters.lock().unwrap_or_else(|poison| poison.into_inner());
            said.for_each(|said| met.meet(&said));
            drop(met);
            let (length, row) = rows::tokens(model, &lesson)?;
            Ok((length, format!("{row}\n")))
        };
        in_order(
            &task.indexes,
            task.stop,
            row,
            |line: plugin_api::Result<(usize, String)>| match line {
                Ok((length, line)) => {
                    count += 1;
                    tokens += length;
                    out.add(&line)
                }
                Err(error) => troubles.add(error),
            },
        )?;
        let written = out.finish()?;
        let seconds = began.elapsed().as_secs_f64();
        let letters = letters.into_inner().unwrap_or_else(|poison| poison.into_inner());
        let cut = letters.in_pieces(model)?;
        self.summarize(
            common,
            json!({
                "task": task.name, "rows": count, "failed": troubles.count, "tokens": tokens, "seconds": seconds,
                "rows_per_second": count as f64 / seconds, "letters_in_pieces": cut, "file": written,
            }),
        );
        if !cut.is_empty() {
            let cut = cut.join(", ");
            note(&format!(
                "warning: the option letters {cut} are more than one token each to this model"
            ));
        } else if !letters.is_empty() && !common.quiet {
            note(&format!(
                "note: the option letters {} are one token each",
                letters.words()
            ));
        }
        let words = format!(
            "{count} rows, {tokens} tokens, {:.0} rows a second",
            count as f64 / seconds
        );
        Ok(told(common, &troubles, task.indexes.len(), &words))
    }
}

fn stats(task: &Task, common: &Common) -> Result<Exit> {
    let mut stats = Stats::default();
    let sample = |index| task.client.sample(index).map(slim);
    in_order(&task.indexes, task.stop, sample, |sample| match sample {
        Ok(sample) => {
            stats.add(sample);
            Ok(())
        }
        Err(error) => stats.troubles.add(error),
    })?;
    match common.json {
        true => print(&format!("{}\n", stats.to_json(task.name, &task.card))),
        false => print(&stats.table()),
    }
    if let Some(words) = stats.troubles.words(task.indexes.len()) {
        note(&format!("warning: {words}"));
    }
    Ok(Exit::Ok)
}

/// A sample without its row and its sound.
fn slim(sample: Sample) -> Sample {
    Sample {
        doc: serde_json::Value::Null,
        blobs: Vec::new(),
        ..sample
    }
}

impl Split {
    fn run(&self, task: &Task, common: &Common) -> Result<Exit> {
        let mut samples = Vec::new();
        let sample = |index| task.client.sample(index).map(slim);
        in_order(&task.indexes, task.stop, sample, |sample| {
            // A row that can't be read belongs to no part, and leaving it out would change the data set.
            samples.push(sample?);
            Ok(())
        })?;
        let files = match (&self.by, self.fraction) {
            (Some(group), _) => split::by_group(group, &samples)?,
            (None, Some(fraction)) if (0.0..=1.0).contains(&fraction) => {
                split::by_fraction(fraction, self.seed, &samples)
            }
            (None, fraction) => {
                let given = fraction.unwrap_or_default();
                return Err(Failure::usage(format!(
                    "`--fraction` must be between 0 and 1, got `{given}`"
                )));
            }
        };
        let folder = Folder::new(&self.out)?;
        let mut file = files.iter();
        in_order(
            &task.indexes,
            task.stop,
            |index| task.client.sample(index),
            |sample| {
                let sample = sample?;
                if !sample.blobs.is_empty() {
                    let message = format!(
                        "the row of sample `{}` holds sound, which a JSONL file can't hold",
                        sample.id
                    );
                    return Err(Failure::missing(message).help("split the files that the rows came from"));
                }
                let name = file.next().map_or("rest.jsonl", String::as_str);
                folder.add(name, &format!("{}\n", sample.doc))
            },
        )?;
        let mut counts = std::collections::BTreeMap::<&String, u64>::new();
        files.iter().for_each(|file| *counts.entry(file).or_default() += 1);
        folder.finish()?;
        let path = |name: &str| self.out.join(name).display().to_string();
        match common.json {
            true => {
                let counts: serde_json::Map<_, _> =
                    counts.iter().map(|(name, count)| (path(name), json!(count))).collect();
                print(&format!("{}\n", json!({ "task": task.name, "files": counts })));
            }
            false => counts
                .iter()
                .for_each(|(name, count)| print(&format!("{}\t{count}\n", path(name)))),
        }
        Ok(Exit::Ok)
    }
}

impl Convert {
    fn run(&self, common: &Common) -> Result<Exit> {
        let files = files_of(&common.registry()?, &self.task)?;
        let known = files.card()?.conversions;
        let names = || known.iter().map(|kind| kind.name.as_str());
        let conversion = match (&self.to, known.as_slice()) {
            (Some(name), _) => names().find(|known| known == name).ok_or_else(|| {
                let failure = Failure::usage(format!("task `{}` has no conversion `{name}`", self.task));
                failure.help(nearest_hint(name, names()))
            })?,
            (None, [only]) => only.name.as_str(),
            (None, []) => return Err(Failure::missing(format!("task `{}` converts no files", self.task))),
            (None, several) => {
                let lines = several.iter().map(|kind| format!("`{}`: {}", kind.name, kind.about));
                let failure = Failure::usage(format!("task `{}` knows several conversions", self.task));
                return Err(failure.help(format!(
                    "name one with `--to`: {}",
                    lines.collect::<Vec<_>>().join("; ")
                )));
            }
        };
        let folder = Folder::new(&self.out)?;
        files
            .convert(conversion, &self.files, &|file, text| folder.add(file, text).is_ok())
            .map_err(|error| folder.failure().unwrap_or_else(|| Failure::from(error)))?;
        let written = folder.finish()?;
        let paths: Vec<String> = written.iter().map(|path| path.display().to_string()).collect();
        match common.json {
            true => print(&format!("{}\n", json!({ "conversion": conversion, "files": paths }))),
            false => print(&paths.iter().map(|path| format!("{path}\n")).collect::<String>()),
        }
        Ok(Exit::Ok)
    }
}
