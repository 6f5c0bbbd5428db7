//! `host score --task`: answers that any other tool produced, in the task's official file format, scored by its rules.

use super::{Common, note, print};
use crate::failure::{Exit, Failure, Result};
use crate::plugin;
use crate::registry::Registry;
use crate::table::{Align, Table};
use plugin_api::client::FilesClient;
use plugin_api::{FileAnswers, FileKind, FileScores, Kind};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

#[derive(Debug, Clone, clap::Args)]
pub struct AnswerArgs {
    /// The task that the answers in a file are for, by its registry name
    #[arg(long, short = 't', value_name = "NAME", conflicts_with = "run")]
    task: Option<String>,
    /// Predictions in the task's official format
    #[arg(long, value_name = "FILE", requires = "task")]
    predictions: Option<PathBuf>,
    /// A judge's reply about each answer
    #[arg(long, value_name = "FILE", requires = "task")]
    judge_replies: Option<PathBuf>,
    /// Log-likelihoods of the options of each question
    #[arg(long, value_name = "FILE", requires = "task")]
    loglikelihoods: Option<PathBuf>,
    /// A file of another kind that the task reads
    #[arg(long, value_name = "KIND=FILE", requires = "task")]
    answers: Option<String>,
    /// A file with the right answers; may be given several times
    #[arg(long, value_name = "FILE", requires = "task")]
    gold: Vec<PathBuf>,
    /// Give each answer's verdict too
    #[arg(long, requires = "task")]
    rows: bool,
}

/// The files of a task, by the task's name in the registry.
pub(super) fn files_of(registry: &Registry, task: &str) -> Result<FilesClient> {
    let spec = registry.adapter(Kind::Task, task)?;
    let plugin = plugin::open(registry.plugin(&spec.plugin)?)?;
    plugin.files(&plugin.note().meant(spec)?.name)
}

impl AnswerArgs {
    /// True if a file is scored instead of a run.
    pub(super) fn given(&self) -> bool {
        self.task.is_some()
    }

    pub(super) fn score(&self, common: &Common) -> Result<Exit> {
        let task = self.task.as_deref().unwrap_or_default();
        let files = files_of(&common.registry()?, task)?;
        let card = files.card()?;
        let (kind, file) = self.file(task, &card.scores)?;
        if kind.needs_gold && self.gold.is_empty() {
            let message = format!("`{}` of task `{task}` are scored against the data", kind.name);
            return Err(Failure::usage(message).help("name its files with `--gold FILE`"));
        }
        if !kind.needs_gold && !self.gold.is_empty() {
            let message = format!("`{}` of task `{task}` say what was right themselves", kind.name);
            return Err(Failure::usage(message).help("leave `--gold` out"));
        }
        let scores = files.score(&FileAnswers {
            kind: kind.name.clone(),
            file,
            gold: self.gold.clone(),
            rows: self.rows,
        })?;
        if !common.quiet {
            for words in &scores.notes {
                note(&format!("note: {words}"));
            }
        }
        match common.json {
            true => print(&(report(task, &scores, self.rows).to_string() + "\n")),
            false => print(&shown(&scores)),
        }
        Ok(Exit::Ok)
    }

    /// The one file that was given, and which of the task's kinds of answers it holds.
    fn file<'a>(&self, task: &str, known: &'a [FileKind]) -> Result<(&'a FileKind, PathBuf)> {
        let mut given: Vec<(String, PathBuf)> = Vec::new();
        for (name, path) in [
            ("predictions", &self.predictions),
            ("judge_replies", &self.judge_replies),
            ("loglikelihoods", &self.loglikelihoods),
        ] {
            given.extend(path.iter().map(|path| (name.to_owned(), path.clone())));
        }
        if let Some(text) = &self.answers {
            let Some((name, path)) = text.split_once('=') else {
                return Err(Failure::usage(format!("`--answers {text}` is not `KIND=FILE`")));
            };
            given.push((name.to_owned(), path.into()));
        }
        let kinds = || {
            let lines = known.iter().map(|kind| format!("{}: {}", flag(&kind.name), kind.about));
            match known.is_empty() {
                true => "it reads no answers from files".to_owned(),
                false => format!("it reads {}", lines.collect::<Vec<_>>().join("; ")),
            }
        };
        let [(name, path)] = given.as_slice() else {
            let message = match given.len() {
                0 => format!("no answers to task `{task}` are given"),
                _ => "several kinds of answers are given, and each is scored by a command of its own".to_owned(),
            };
            return Err(Failure::usage(message).help(kinds()));
        };
        match known.iter().find(|kind| kind.name == *name) {
            Some(kind) => Ok((kind, path.clone())),
            None => Err(Failure::usage(format!("task `{task}` reads no `{name}`")).help(kinds())),
        }
    }
}

/// How a kind of answers is given on the command line.
fn flag(kind: &str) -> String {
    match kind {
        "predictions" | "judge_replies" | "loglikelihoods" => format!("`--{} FILE`", kind.replace('_', "-")),
        other => format!("`--answers {other}=FILE`"),
    }
}

fn report(task: &str, scores: &FileScores, rows: bool) -> Value {
    let mut report = Map::new();
    report.insert("task".to_owned(), json!(task));
    report.insert("n".to_owned(), json!(scores.n));
    report.insert("gold_total".to_owned(), json!(scores.gold_total));
    report.insert("metrics".to_owned(), Value::Object(scores.metrics.clone()));
    for (name, count) in &scores.other {
        report.entry(name.as_str()).or_insert_with(|| count.clone());
    }
    if !scores.notes.is_empty() {
        report.insert("notes".to_owned(), json!(scores.notes));
    }
    if rows {
        report.insert("rows".to_owned(), Value::Array(scores.rows.clone()));
    }
    Value::Object(report)
}

/// For people: a figure a line, then a verdict a line.
fn shown(scores: &FileScores) -> String {
    let mut table = Table::new(&[("Metric", Align::Left), ("Value", Align::Right)]);
    table.row(["n".to_owned(), scores.n.to_string()]);
    if let Some(total) = scores.gold_total {
        table.row(["gold_total".to_owned(), total.to_string()]);
    }
    let counts = scores.other.iter().filter(|(_, value)| !value.is_object());
    for (name, value) in counts.chain(&scores.metrics) {
        put(&mut table, name, value);
    }
    let rows = scores.rows.iter().map(|row| format!("{row}\n"));
    table.render() + &rows.collect::<String>()
}

fn put(table: &mut Table, name: &str, value: &Value) {
    match value {
        Value::Object(inner) => {
            for (key, value) in inner {
                put(table, &format!("{name} {key}"), value);
            }
        }
        Value::Number(number) if number.is_f64() => {
            table.row([name.to_owned(), format!("{:.4}", number.as_f64().unwrap_or(f64::NAN))]);
        }
        other => table.row([name.to_owned(), other.to_string()]),
    }
}
