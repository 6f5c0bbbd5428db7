//! `host score`: rules on a finished run, without its model: by judges, or by its task; with `--task`, on answers that
//! any tool produced.

use super::answers::AnswerArgs;
use super::rescore::{TaskArgs, rescore};
use super::{Common, Flags, names, note, print, stop_on_signals};
use crate::failure::{Exit, Failure, Result};
use crate::run::graded::graders_of;
use crate::run::report;
use crate::run::results::{self, Summary};
use crate::run::store::directory::{RunDirectory, read_if_there};
use crate::run::store::hash::hash_json;
use crate::run::store::places;
use crate::run::store::scores::Scorer;
use crate::score::by_judge::{Judged, Judging};
use plugin_api::Kind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host score runs/qwen3-arc-1a2b3c4d
  host score runs/qwen3-arc-1a2b3c4d --judge rules
  host score runs/qwen3-arc-1a2b3c4d --judge rules -J rule=number -J tolerance=0.01
  host score --task finqa --predictions preds.json --gold test.json --json --rows")]
pub struct ScoreArgs {
    /// A run directory
    #[arg(value_name = "RUN", required_unless_present = "task")]
    run: Option<PathBuf>,
    /// Judges, separated by commas; without one the run's task scores the answers
    #[arg(long, short = 'j', value_name = "NAMES")]
    judge: Vec<String>,
    /// A model that judges or the task may ask: the role they ask for, and the model that plays it
    #[arg(long, value_name = "ROLE=MODEL")]
    role: Vec<String>,
    /// A setting of the judges
    #[arg(short = 'J', value_name = "KEY=VALUE")]
    judge_settings: Vec<String>,
    #[command(flatten)]
    answers: AnswerArgs,
    #[command(flatten)]
    scorer: TaskArgs,
}

pub fn score(args: ScoreArgs, common: &Common) -> Result<Exit> {
    match &args.run {
        Some(run) if !args.answers.given() => score_run(run, &args, common),
        _ => args.answers.score(common),
    }
}

fn score_run(folder: &Path, args: &ScoreArgs, common: &Common) -> Result<Exit> {
    let stop = stop_on_signals();
    common.with_catalog(false, &stop, |catalog| {
        if !folder.join("samples.jsonl").exists() {
            let failure = Failure::missing(format!(
                "`{}` is no run directory: it has no samples.jsonl",
                folder.display()
            ));
            return Err(failure.help("`host ls runs` lists those that there are"));
        }
        let run = RunDirectory::open(folder, false)?;
        // Repairs a torn last line, and refuses a file with a broken one.
        run.repair()?;
        let places = places::all(&run)?;
        let roles = super::run::cast(&args.role, &Flags::default(), catalog, &stop)?;
        if args.judge.is_empty() {
            return rescore(&run, &places, &args.scorer, catalog, &roles, common);
        }
        let results = read_if_there(&folder.join("results.json")).and_then(|text| serde_json::from_str(&text).ok());
        let mut results: Value = results.unwrap_or_else(|| json!({}));
        let mut summary = results::summary_of(&results);
        let flags = Flags::parse("-J", &args.judge_settings)?;
        let judges = names(catalog.registry, Kind::Judge, &args.judge)?;
        flags.check_names(Kind::Judge, &judges)?;
        // The score that judges are shown is the one that the results are made of.
        let task_hash = hash_json(&results["host"]["identity"]["task"]);
        let task_graders = graders_of(&results["host"]["scorers"][&summary.task]);
        let task_name = summary.task.clone();
        let task = Scorer {
            name: &task_name,
            hash: &task_hash,
            graders: &task_graders,
        };
        let mut whole = Vec::new();
        for name in &judges {
            let resolved = catalog.resolve(Kind::Judge, name, &flags.of(name))?;
            let client = resolved.judge()?;
            let judging = Judging {
                name,
                judge: &client,
                identity: &resolved.scorer_identity(&client.card()?.version),
                task,
                roles: &roles,
                chains: results["host"]["chains"]
                    .as_u64()
                    .map_or(1, |chains| u32::try_from(chains).unwrap_or(1)),
                clips: None,
            };
            let judged = judging.run(&run, &places)?;
            whole.push(
                json!({ "judge": name, "value": judged.metric.value, "n": judged.metric.count,
                "unscored": judged.unscored, "failed": judged.failed, "dollars": judged.dollars,
                "graders": judged.graded_by.as_json() }),
            );
            add_judged(&mut summary, &mut results, name, judged);
        }
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        report::write(&run, &summary, &results, &report::timing_of(&run))?;
        match common.json {
            true => print(
                &(serde_json::to_string_pretty(&json!({ "judges": whole, "results": results })).unwrap_or_default()
                    + "\n"),
            ),
            false => print(&results::table(&[summary], 0)),
        }
        if !common.quiet && common.shows_progress() {
            note(&format!("verdicts: {}", folder.join("scores.jsonl").display()));
        }
        Ok(Exit::Ok)
    })
}

/// Puts a judge's rulings beside the other metrics.
pub fn add_judged(summary: &mut Summary, results: &mut Value, name: &str, judged: Judged) {
    let metric = judged.metric.clone();
    let task = summary.task.clone();
    results["results"][&task][format!("{name},judge")] = json!(metric.value);
    results["results"][&task][format!("{name}_stderr,judge")] =
        metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
    results["results"][&task][format!("{name}_ci95,judge")] = json!(metric.interval);
    results["results"][&task][format!("{name}_n,judge")] = json!(metric.count);
    results["host"]["judges"][name] = judged.as_json();
    if judged.unscored > 0 {
        summary
            .marks
            .push(format!("judge {name} left {} answers unscored", judged.unscored));
    }
    if judged.failed > 0 {
        summary.marks.push(format!(
            "judge {name} failed on {} answers; the same command asks again",
            judged.failed
        ));
    }
    summary.metrics.push(metric);
}
