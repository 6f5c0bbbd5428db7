//! A report as Markdown.

use super::{Report, cell, main_metric};
use crate::compare::Summary;
use crate::table::{Align, Table};

pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let tasks = report.tasks();
    if !tasks.is_empty() {
        let heads: Vec<String> = tasks
            .iter()
            .map(|task| format!("{task} ({})", report.metric_of(task).unwrap_or("no score yet")))
            .collect();
        let mut columns = vec![("Model", Align::Left)];
        columns.extend(heads.iter().map(|head| (head.as_str(), Align::Right)));
        let mut table = Table::new(&columns);
        for label in report.labels() {
            let mut row = vec![label.to_owned()];
            row.extend(tasks.iter().map(|task| {
                let run = report.run(label, task);
                let found = run.and_then(|run| Some((run, main_metric(&run.summary)?)));
                found.map(|(run, metric)| cell(run, metric)).unwrap_or_default()
            }));
            table.row(row);
        }
        out += &format!(
            "## Models and tasks\n\n{}\nIn brackets: 95% intervals.\n",
            table.render()
        );
        for run in &report.runs {
            for why in &run.summary.suspicions {
                out += &format!("\nsuspect: {} on {}: {why}\n", run.label, run.summary.task);
            }
            for mark in &run.summary.marks {
                out += &format!("\n{} on {}: {mark}\n", run.label, run.summary.task);
            }
        }
    }
    for differences in &report.differences {
        out += &format!("\n## Differences on {}\n", differences.task);
        for compared in &differences.all {
            out += &format!("\n{}", compared.summary.table(false));
        }
        for (label, why) in &differences.left_out {
            out += &format!("\n`{label}` is not compared: {why}\n");
        }
    }
    if !report.agreements.is_empty() {
        let mut table = Table::new(&[
            ("Run", Align::Left),
            ("First", Align::Left),
            ("Second", Align::Left),
            ("n", Align::Right),
            ("Same", Align::Right),
            ("Cohen's kappa", Align::Right),
            ("Gwet's AC1", Align::Right),
            ("Mean distance", Align::Right),
        ]);
        let number = |value: Option<f64>| value.map_or_else(|| "N/A".to_owned(), |value| format!("{value:.4}"));
        for found in &report.agreements {
            table.row([
                found.run.clone(),
                found.first.clone(),
                found.second.clone(),
                found.n.to_string(),
                number(found.same),
                number(found.kappa),
                number(found.ac1),
                number(Some(found.distance)),
            ]);
        }
        out += &format!("\n## Agreement of scorers\n\n{}", table.render());
    }
    if !report.trainings.is_empty() {
        let mut table = Table::new(&[
            ("Training", Align::Left),
            ("Steps", Align::Right),
            ("First loss", Align::Right),
            ("Last loss", Align::Right),
            ("Last held-out loss", Align::Right),
        ]);
        for training in &report.trainings {
            let of =
                |point: Option<&(f64, f64)>| point.map_or_else(|| "N/A".to_owned(), |(_, loss)| format!("{loss:.4}"));
            let steps = training.loss.last().map_or(0.0, |(step, _)| *step);
            table.row([
                training.name.clone(),
                steps.to_string(),
                of(training.loss.first()),
                of(training.loss.last()),
                of(training.eval_loss.last()),
            ]);
        }
        out += &format!("\n## Trainings\n\n{}", table.render());
    }
    if !report.sweeps.is_empty() {
        let mut table = Table::new(&[
            ("Model", Align::Left),
            ("Data", Align::Left),
            ("Experiment", Align::Left),
            ("n", Align::Right),
            ("Same answer", Align::Right),
            ("Area over the curve", Align::Right),
        ]);
        for sweep in &report.sweeps {
            let area = match (sweep.aoc, sweep.aoc_interval) {
                (Some(aoc), Some((low, high))) => format!("{aoc:.4} [{low:.4}, {high:.4}]"),
                (Some(aoc), None) => format!("{aoc:.4}"),
                (None, _) => "N/A".to_owned(),
            };
            table.row([
                sweep.model.clone(),
                sweep.dataset.clone(),
                sweep.experiment.clone(),
                sweep.used.to_string(),
                sweep
                    .consistency
                    .map_or_else(|| "N/A".to_owned(), |share| format!("{share:.4}")),
                area,
            ]);
        }
        out += &format!("\n## Faithfulness\n\n{}", table.render());
    }
    out.trim_start().to_owned()
}

/// `3 gains, 5 losses`.
pub fn flips_words(summary: &Summary) -> String {
    format!("{} gains, {} losses", summary.gains, summary.losses)
}
