//! `host score`: rules on a finished run, without its model: by judges, or by its task; with `--task`, on answers that
//! any tool produced.

use super::answers::AnswerArgs;
use super::rescore::{TaskArgs, rescore};
use super::{Common, Flags, names, note, print, stop_on_signals};
use crate::failure::{Exit, Failure, Result};
use crate::run::directory::{RunDirectory, for_each_place, read_if_there};
use crate::run::record::hash_json;
use crate::run::results::{self, Summary};
use crate::run::scores::Scores;
use crate::run::verdicts::{Judged, Judging};
use plugin_api::Kind;
use serde_json::{Value, json};
use std::collections::BTreeMap;
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
        run.known()?;
        let mut places: BTreeMap<u64, u64> = BTreeMap::new();
        for_each_place(&run.samples(), |doc_id, offset| {
            places.insert(doc_id, offset);
        })?;
        let places: Vec<u64> = places.into_values().collect();
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
        let scores = Scores::open(&run, &hash_json(&results["host"]["identity"]["task"]))?;
        let mut whole = Vec::new();
        for name in &judges {
            let resolved = catalog.resolve(Kind::Judge, name, &flags.of(name))?;
            let judging = Judging {
                name,
                judge: &resolved.judge()?,
                identity: &resolved.identity,
                scores: &scores,
                roles: &roles,
            };
            let judged = judging.run(&run, &places, &|| ())?;
            whole.push(
                json!({ "judge": name, "value": judged.metric.value, "n": judged.metric.count,
                "unscored": judged.unscored, "failed": judged.failed, "dollars": judged.dollars }),
            );
            add_judged(&mut summary, &mut results, name, judged);
        }
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        run.write_file(
            "results.json",
            (serde_json::to_string_pretty(&results).unwrap_or_default() + "\n").as_bytes(),
        )?;
        match common.json {
            true => print(
                &(serde_json::to_string_pretty(&json!({ "judges": whole, "results": results })).unwrap_or_default()
                    + "\n"),
            ),
            false => print(&results::table(&[summary], 0)),
        }
        if !common.quiet && common.shows_progress() {
            note(&format!("verdicts: {}", folder.join("verdicts.jsonl").display()));
        }
        Ok(Exit::Ok)
    })
}

/// Puts a judge's rulings beside the other metrics.
pub fn add_judged(summary: &mut Summary, results: &mut Value, name: &str, judged: Judged) {
    let metric = judged.metric;
    let task = summary.task.clone();
    results["results"][&task][format!("{name},judge")] = json!(metric.value);
    results["results"][&task][format!("{name}_stderr,judge")] =
        metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
    results["results"][&task][format!("{name}_ci95,judge")] = json!(metric.interval);
    results["results"][&task][format!("{name}_n,judge")] = json!(metric.count);
    results["host"]["judges"][name] =
        json!({ "unscored": judged.unscored, "failed": judged.failed, "dollars": judged.dollars });
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
