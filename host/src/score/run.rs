//! Judges a run on disk.

use super::by_judge::{ClipsOf, Judging};
use super::judged::{Judged, add_judged};
use super::judges::{JudgeModels, ReadyJudge};
use crate::ask::roles::Roles;
use crate::failure::{Exit, Failure, Result};
use crate::run::graded::graders_of;
use crate::run::report;
use crate::run::results::{Summary, summary_of};
use crate::run::store::directory::{RunDirectory, read_if_there};
use crate::run::store::hash::hash_json;
use crate::run::store::places;
use crate::run::store::scores::Scorer;
use plugin_api::Callbacks;
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;

/// Opens a run's directory, and finds the records that count.
pub fn open(folder: &Path) -> Result<(RunDirectory, Vec<u64>)> {
    if !folder.join("samples.jsonl").exists() {
        let message = format!("`{}` is not a run directory: it has no samples.jsonl", folder.display());
        return Err(Failure::missing(message).help("`host ls runs` lists all runs"));
    }
    let run = RunDirectory::open(folder, false)?;
    let places = places::all(&run)?;
    Ok((run, places))
}

/// Judges a run's records, and rewrites its results and page.
pub fn judge_run(
    run: &RunDirectory,
    places: &[u64],
    judges: &[ReadyJudge],
    roles: &Arc<Roles>,
    models: &JudgeModels,
    clips: Option<&ClipsOf>,
) -> Result<(Summary, Value, Vec<Judged>)> {
    let results = read_if_there(&run.path.join("results.json")).and_then(|text| serde_json::from_str(&text).ok());
    let mut results: Value = results.unwrap_or_else(|| json!({}));
    let mut summary = summary_of(&results);
    // Judges see the score that the results are made of.
    let (name, hash) = (summary.task.clone(), hash_json(&results["host"]["identity"]["task"]));
    let graders = graders_of(&results["host"]["scorers"][&name]);
    let chains = results["host"]["chains"]
        .as_u64()
        .and_then(|chains| u32::try_from(chains).ok());
    let mut all = Vec::new();
    for judge in judges {
        let roles = models.roles(roles, judge);
        let judging = Judging {
            name: &judge.name,
            judge: &judge.client,
            deadline: judge.resolved.plugin.spec().deadline,
            identity: &judge.identity()?,
            task: Scorer {
                name: &name,
                hash: &hash,
                graders: &graders,
            },
            roles: &roles,
            answered_by: &results["host"]["identity"]["model"].clone(),
            chains: chains.unwrap_or(1),
            clips,
        };
        let judged = judging.run(run, places)?;
        if let Some(failure) = judged.cut_short.clone() {
            return Err(failure);
        }
        add_judged(&mut summary, &mut results, &judged);
        all.push(judged);
    }
    if roles.stop_asked() {
        return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
    }
    crate::run::ledger::note(&mut results, run);
    report::write(run, &summary, &results, &report::timing_of(run))?;
    Ok((summary, results, all))
}
