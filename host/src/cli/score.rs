//! `host score`: scores a finished run without its model, by its task or by judges; with `--task`, scores answers that
//! any tool produced.

use super::graders::{GraderArgs, Graders};
use super::rescore::{TaskArgs, rescore, task_of_run};
use super::score_file::AnswerArgs;
use super::{Common, note, print, stop_on_signals};
use crate::audio::Clips;
use crate::failure::{Exit, Result};
use crate::run::clips;
use crate::run::record::Record;
use crate::run::results;
use crate::score::judged::Judged;
use crate::score::judges::{ReadyJudge, Wanted};
use crate::score::run::{judge_run, open};
use plugin_api::TaskCard;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Decoded sound that is kept for records that share a clip.
const CLIP_CACHE: usize = 512 << 20;

#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "Examples:
  host score runs/qwen3-arc-1a2b3c4d
  host score runs/qwen3-arc-1a2b3c4d --judge rules
  host score runs/qwen3-arc-1a2b3c4d --judge rules -J rule=number -J tolerance=0.01
  host score runs/qwen3-gaia-1a2b3c4d --judge gemini --max-cost-usd 2
  host score --task finqa --predictions preds.json --gold test.json --json --rows")]
pub struct ScoreArgs {
    /// A run directory
    #[arg(value_name = "RUN", required_unless_present = "task")]
    run: Option<PathBuf>,
    /// Judges, separated by commas: judges by name, `auto` for the one that suits the task, or a model that plays it;
    /// without one the run's task scores the answers
    #[arg(long, short = 'j', value_name = "NAMES")]
    judge: Vec<String>,
    #[command(flatten)]
    graders: GraderArgs,
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
        let roles = args.graders.roles(catalog, &stop)?;
        if args.judge.is_empty() {
            return rescore(&run, &places, &args.scorer, catalog, &roles, common);
        }
        let (wanted, flags) = args.graders.wanted(&args.judge, catalog)?;
        // A judge of the registry needs no task; the other choices need the card of the run's task.
        let by_name = wanted.iter().all(|one| matches!(one, Wanted::Judge(_)));
        let task = match task_of_run(&run, &[], catalog) {
            Err(failure) if !by_name => return Err(failure),
            task => task,
        };
        let card = task
            .as_ref()
            .map_or_else(|_| TaskCard::default(), |task| task.card.clone());
        let judges = ReadyJudge::prepare(&wanted, &card, &flags, catalog)?;
        let graders = args.graders.load(&run, &wanted, judges, roles, catalog, &stop)?;
        let Graders { judges, models, roles } = &graders;
        let mut hears = false;
        for judge in judges {
            let roles = models.roles(roles, judge);
            hears |= judge.client.card()?.asks.iter().any(|role| roles.hears(role));
        }
        // The clips are found through the run's task, for judges that hear them.
        let task = match (hears, task) {
            (true, task) => Some(task?.client),
            (false, _) => None,
        };
        let decoded = Clips::new(CLIP_CACHE);
        let find = |record: &Record| match &task {
            Some(task) => clips::of_record(task, &decoded, record),
            None => Ok(Vec::new()),
        };
        let (summary, results, judged) = judge_run(&run, &places, judges, roles, models, Some(&find))?;
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
    let mut said = judged.as_json();
    said["judge"] = json!(judged.name);
    said["value"] = json!(judged.metric().value);
    said
}
