//! `host report`: one page, table or file over many runs.
//!
//! Everything it shows is read from directories: results of runs, their records for paired differences and for the
//! agreement of judges, the logs of trainings, the figures of faithfulness sweeps. Differences are computed by the code
//! of `host compare`. A run that can't be compared is listed with the reason.

mod agreement;
mod curves;
mod delimited;
mod gather;
mod html;
mod latex;
mod markdown;

use crate::compare;
use crate::run::results::Summary;
use agreement::Agreement;
use curves::{Sweep, Training};
use plugin_api::Metric;
use std::path::PathBuf;

pub use gather::gather;

/// The parts of a run that a report shows.
pub struct RunEntry {
    pub path: PathBuf,
    /// What tables call it: the model, or the directory where a model has several runs on a task.
    pub label: String,
    pub summary: Summary,
    /// It has never finished.
    pub unfinished: bool,
}

/// A run against the first one on its task.
pub struct Difference {
    pub summary: compare::Summary,
    /// The first flips of the main metric.
    pub flips: Vec<compare::Flip>,
}

/// Runs on one task, each against the first.
pub struct Differences {
    pub task: String,
    pub all: Vec<Difference>,
    /// Runs that could not be compared, and why.
    pub left_out: Vec<(String, String)>,
}

/// The content of a report.
#[derive(Default)]
pub struct Report {
    pub runs: Vec<RunEntry>,
    pub differences: Vec<Differences>,
    pub trainings: Vec<Training>,
    pub sweeps: Vec<Sweep>,
    pub agreements: Vec<Agreement>,
}

impl Report {
    pub fn markdown(&self) -> String {
        markdown::text(self)
    }

    pub fn csv(&self) -> String {
        delimited::text(self)
    }

    pub fn latex(&self) -> String {
        latex::text(self)
    }

    /// The page. Links lead from its own folder to the runs' pages.
    pub fn html(&self, refresh: Option<u64>, beside: &std::path::Path) -> String {
        html::page(self, refresh, beside)
    }

    /// Every picture of the page under a name.
    pub fn pictures(&self) -> Vec<(String, plots::Plot)> {
        html::pictures(self)
    }

    /// The tasks in order of appearance.
    fn tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !tasks.contains(&run.summary.task.as_str()) {
                tasks.push(&run.summary.task);
            }
        }
        tasks
    }

    /// The labels in order of appearance.
    fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for run in &self.runs {
            if !labels.contains(&run.label.as_str()) {
                labels.push(&run.label);
            }
        }
        labels
    }

    fn run(&self, label: &str, task: &str) -> Option<&RunEntry> {
        self.runs
            .iter()
            .find(|run| run.label == label && run.summary.task == task)
    }

    /// The name of a task's main metric: that of its first run.
    fn metric_of(&self, task: &str) -> Option<&str> {
        let mut runs = self.runs.iter().filter(|run| run.summary.task == task);
        runs.find_map(|run| main_metric(&run.summary))
            .map(|metric| metric.name.as_str())
    }
}

impl RunEntry {
    /// A metric about all samples.
    fn metric(&self, name: &str) -> Option<&Metric> {
        let whole = |metric: &&Metric| metric.group.is_none() && metric.name == name;
        self.summary.metrics.iter().find(whole)
    }

    fn suspect(&self) -> bool {
        !self.summary.suspicions.is_empty()
    }
}

fn main_metric(summary: &Summary) -> Option<&Metric> {
    summary.metrics.iter().find(|metric| metric.group.is_none())
}

/// `0.3000 [0.1078, 0.6032]`, with a word if the number can't be trusted or is incomplete.
fn cell(run: &RunEntry, metric: &Metric) -> String {
    let mut text = match metric.value.is_nan() {
        true => "NaN".to_owned(),
        false => format!("{:.4}", metric.value),
    };
    if let Some((low, high)) = metric.interval {
        text += &format!(" [{low:.4}, {high:.4}]");
    }
    if run.suspect() {
        text += " (suspect)";
    }
    if run.unfinished || run.summary.marks.iter().any(|mark| mark.starts_with("incomplete")) {
        text += &format!(" (unfinished, n={})", metric.count);
    }
    text
}
