//! `host score`: rules on a finished run, without its model: by judges, or by its task; with `--task`, on answers that
//! any tool produced.

use super::answers::AnswerArgs;
use super::rescore::{TaskArgs, rescore, task_of_run};
use super::{Common, Flags, names, note, print, stop_on_signals};
use crate::ask::roles::Roles;
use crate::audio::Clips;
use crate::failure::{Exit, Result};
use crate::run::clips;
use crate::run::record::Record;
use crate::run::results;
use crate::score::by_judge::Judged;
use crate::score::run::{judge_run, open};
use plugin_api::Kind;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Decoded sound that is kept for records that share a clip.
const CLIP_CACHE: usize = 512 << 20;

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
        let (run, places) = open(folder)?;
        let roles = Roles::load(&args.role, &Flags::default(), catalog, &stop)?;
        if args.judge.is_empty() {
            return rescore(&run, &places, &args.scorer, catalog, &roles, common);
        }
        let flags = Flags::parse("-J", &args.judge_settings)?;
        let names = names(catalog.registry, Kind::Judge, &args.judge)?;
        flags.check_names(Kind::Judge, &names)?;
        let mut judges = Vec::new();
        let mut hears = false;
        for name in &names {
            let resolved = catalog.resolve(Kind::Judge, name, &flags.of(name))?;
            let judge = resolved.judge()?;
            hears |= judge.card()?.asks.iter().any(|role| roles.hears(role));
            judges.push((judge, resolved));
        }
        // The clips are found through the run's task, for judges that hear them.
        let task = hears.then(|| task_of_run(&run, &[], catalog)).transpose()?;
        let decoded = Clips::new(CLIP_CACHE);
        let task = task.map(|task| task.client);
        let find = |record: &Record| match &task {
            Some(task) => clips::of_record(task, &decoded, record),
            None => Ok(Vec::new()),
        };
        let (summary, results, judged) = judge_run(&run, &places, &judges, &roles, Some(&find))?;
        match common.json {
            true => {
                let whole: Vec<Value> = judged.iter().map(as_json).collect();
                let text = serde_json::to_string_pretty(&json!({ "judges": whole, "results": results }));
                print(&(text.unwrap_or_default() + "\n"));
            }
            false => print(&results::table(&[summary], results::Groups::None)),
        }
        if !common.quiet && common.shows_progress() {
            note(&format!("verdicts: {}", folder.join("scores.jsonl").display()));
        }
        Ok(Exit::Ok)
    })
}

fn as_json(judged: &Judged) -> Value {
    json!({
        "judge": judged.name, "value": judged.metric.value, "n": judged.metric.count, "unscored": judged.unscored,
        "failed": judged.failed, "dollars": judged.dollars, "graders": judged.graded_by.as_json(),
    })
}
