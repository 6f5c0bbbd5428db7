//! From paths to everything that a report shows.

use super::agreement::agreements;
use super::curves::{Sweep, Training};
use super::{Difference, Differences, Report, RunEntry};
use crate::compare::{self, Across, Side, pair};
use crate::failure::{Failure, Result};
use crate::run::recorded::Recorded;
use crate::run::report::summed_up;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// The most flips of a comparison that are listed.
const FLIPS: usize = 50;

/// What a directory holds.
#[derive(Debug, PartialEq, Eq)]
enum Holds {
    Run,
    Training,
    Sweep,
    Nothing,
}

fn holds(path: &Path) -> Holds {
    let has = |name: &str| path.join(name).exists();
    match () {
        () if has("provenance.json") && has("results.json") => Holds::Sweep,
        () if has("samples.jsonl") && !has("provenance.json") => Holds::Run,
        () if has("metrics.jsonl") => Holds::Training,
        () => Holds::Nothing,
    }
}

/// Reads runs, trainings and sweeps. Any other folder stands for those inside it.
pub fn gather(paths: &[PathBuf], across: &Across) -> Result<Report> {
    let mut found: Vec<(PathBuf, Holds)> = Vec::new();
    for path in paths {
        match holds(path) {
            Holds::Nothing => {
                let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
                    .map_err(|why| Failure::missing(format!("cannot read `{}`", path.display())).cause(why))?
                    .filter_map(|entry| Some(entry.ok()?.path()))
                    .collect();
                inside.sort();
                let before = found.len();
                let known = inside.into_iter().map(|path| (holds(&path), path));
                found.extend(
                    known
                        .filter(|(holds, _)| *holds != Holds::Nothing)
                        .map(|(holds, path)| (path, holds)),
                );
                if found.len() == before {
                    let message = format!("`{}` is not a run, and holds none", path.display());
                    return Err(Failure::missing(message).help("`host ls runs` lists all runs"));
                }
            }
            holds => found.push((path.clone(), holds)),
        }
    }
    let mut report = Report::default();
    for (path, holds) in found {
        match holds {
            Holds::Run => {
                let recorded = Recorded::look(&path)?;
                let (summary, _, unfinished) = summed_up(&recorded)?;
                report.agreements.extend(agreements(&recorded, &summary)?);
                report.sweeps.extend(sweeps_of(&path));
                report.runs.push(RunEntry {
                    label: summary.model.clone(),
                    path,
                    summary,
                    unfinished,
                });
            }
            Holds::Training => report.trainings.extend(Training::read(&path)),
            Holds::Sweep => report.sweeps.extend(Sweep::read(&path)),
            Holds::Nothing => {}
        }
    }
    label(&mut report.runs);
    report.differences = differences(&report, across);
    Ok(report)
}

fn sweeps_of(run: &Path) -> Vec<Sweep> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(run.join("faithfulness"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    folders.sort();
    folders.iter().flat_map(|folder| Sweep::read(folder)).collect()
}

/// A model with several runs on one task is told apart by its directories.
fn label(runs: &mut [RunEntry]) {
    let pairs: Vec<(String, String)> = runs
        .iter()
        .map(|run| (run.label.clone(), run.summary.task.clone()))
        .collect();
    for run in runs {
        let pair = (run.label.clone(), run.summary.task.clone());
        if pairs.iter().filter(|other| **other == pair).count() > 1 {
            let whole = run.path.canonicalize().unwrap_or_else(|_| run.path.clone());
            run.label = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
        }
    }
}

/// Every further run on a task against the first. Only two runs are in memory at a time.
fn differences(report: &Report, across: &Across) -> Vec<Differences> {
    let mut all = Vec::new();
    for task in report.tasks() {
        let runs: Vec<&RunEntry> = report.runs.iter().filter(|run| run.summary.task == task).collect();
        if runs.len() < 2 {
            continue;
        }
        let mut of_task = Differences {
            task: task.to_owned(),
            all: Vec::new(),
            left_out: Vec::new(),
        };
        let mut first: Option<Rc<Side>> = None;
        for run in runs {
            let side = Side::read(&run.path).map(|mut side| {
                side.name.clone_from(&run.label);
                Rc::new(side)
            });
            let compared = side.and_then(|side| match &first {
                Some(first) => difference(first, &side, across).map(Some),
                None => {
                    first = Some(side);
                    Ok(None)
                }
            });
            match compared {
                Ok(difference) => of_task.all.extend(difference),
                Err(failure) => of_task.left_out.push((run.label.clone(), failure.error.to_string())),
            }
        }
        compare::adjust(
            of_task
                .all
                .iter_mut()
                .flat_map(|difference| &mut difference.summary.comparison.rows),
        );
        all.push(of_task);
    }
    all
}

fn difference(first: &Rc<Side>, second: &Rc<Side>, across: &Across) -> Result<Difference> {
    let report = compare::Report::of(pair(first, second, across)?);
    Ok(Difference {
        flips: report.flips.first(FLIPS)?,
        summary: report.summary,
    })
}
