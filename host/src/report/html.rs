//! A report as a page.

use super::markdown::flips_words;
use super::{Difference, Report, cell, main_metric};
use crate::compare::Flip;
use crate::page::{self, escape};
use plots::{Chart, Plot, Row, colour, forest, ticks};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

pub fn page(report: &Report, refresh: Option<u64>, beside: &Path) -> String {
    let title = match report.runs.len() {
        1 => "1 run".to_owned(),
        count => format!("{count} runs"),
    };
    let mut out = page::head(&title, refresh);
    out += &format!("<h1>{title}</h1>\n");
    for run in &report.runs {
        for why in &run.summary.suspicions {
            let words = format!("suspect: {} on {}: {why}", run.label, run.summary.task);
            out += &format!("<p class=\"bad\">{}</p>\n", escape(&words));
        }
        for mark in &run.summary.marks {
            let words = format!("{} on {}: {mark}", run.label, run.summary.task);
            out += &format!("<p class=\"pale\">{}</p>\n", escape(&words));
        }
    }
    out += &matrix(report, beside);
    let pictures: BTreeMap<String, Plot> = pictures(report).into_iter().collect();
    let shown = |name: &str| pictures.get(name).map(|plot| plot.inline(name)).unwrap_or_default();
    for task in report.tasks() {
        out += &shown(&result_name(task));
    }
    if !report.differences.is_empty() {
        out += "<h2>Paired differences</h2>\n";
    }
    for differences in &report.differences {
        out += &format!(
            "<h3>{}</h3>\n{}",
            escape(&differences.task),
            shown(&difference_name(&differences.task))
        );
        for compared in &differences.all {
            out += &compared_part(compared);
        }
        for (label, why) in &differences.left_out {
            out += &format!("<p>{} is not compared: {}</p>\n", escape(label), escape(why));
        }
    }
    if !report.agreements.is_empty() {
        let number = |value: Option<f64>| value.map_or_else(|| "N/A".to_owned(), |value| format!("{value:.4}"));
        let rows: Vec<Vec<String>> = report
            .agreements
            .iter()
            .map(|found| {
                vec![
                    found.run.clone(),
                    format!("{} and {}", found.first, found.second),
                    found.n.to_string(),
                    number(found.same),
                    number(found.kappa),
                    number(found.ac1),
                    number(Some(found.distance)),
                ]
            })
            .collect();
        let heads = [
            "run",
            "scorers",
            "n",
            "same",
            "Cohen's kappa",
            "Gwet's AC1",
            "mean distance",
        ];
        out += &format!("<h2>Agreement of scorers</h2>\n{}", page::table(&heads, &rows, 2));
    }
    if !report.trainings.is_empty() {
        out += &format!(
            "<h2>Trainings</h2>\n<div class=\"plots\">{}{}</div>\n",
            shown("training-loss"),
            shown("learning-rate")
        );
    }
    if !report.sweeps.is_empty() {
        out += &format!("<h2>Faithfulness</h2>\n{}", shown("faithfulness-areas"));
        let curves = pictures
            .iter()
            .filter(|(name, _)| name.starts_with("faithfulness-curve-"));
        let curves: String = curves.map(|(name, plot)| plot.inline(name)).collect();
        out += &format!("<div class=\"plots\">{curves}</div>\n");
        for sweep in report.sweeps.iter().filter(|sweep| !sweep.verdict.is_empty()) {
            out += &format!("<p>{}: {}</p>\n", escape(&sweep.name()), escape(&sweep.verdict));
        }
    }
    out + page::TAIL
}

/// Models by tasks, each number a link to its run's page where there is one.
fn matrix(report: &Report, beside: &Path) -> String {
    let tasks = report.tasks();
    if tasks.is_empty() {
        return String::new();
    }
    let mut out = "<h2>Models and tasks</h2>\n<div class=\"wide\"><table><tr><th>model</th>".to_owned();
    for task in &tasks {
        let metric = report.metric_of(task).unwrap_or("no score yet");
        out += &format!(
            "<th>{} <span class=\"pale\">{}</span></th>",
            escape(task),
            escape(metric)
        );
    }
    out += "</tr>\n";
    for label in report.labels() {
        out += &format!("<tr><td>{}</td>", escape(label));
        for task in &tasks {
            let run = report.run(label, task);
            let found = run.and_then(|run| Some((run, main_metric(&run.summary)?)));
            let text = found.map(|(run, metric)| cell(run, metric)).unwrap_or_default();
            let class = if run.is_some_and(super::RunEntry::suspect) {
                " class=\"bad\""
            } else {
                ""
            };
            let page = run.map(|run| run.path.join("report.html")).filter(|page| page.exists());
            out += &match page.and_then(|page| relative(&page, beside)) {
                Some(link) => format!("<td{class}><a href=\"{}\">{}</a></td>", escape(&link), escape(&text)),
                None => format!("<td{class}>{}</td>", escape(&text)),
            };
        }
        out += "</tr>\n";
    }
    out + "</table></div>\n<p class=\"pale\">In brackets: 95% intervals.</p>\n"
}

/// The relative link from a folder to a file. None if a name is not valid text.
fn relative(file: &Path, from: &Path) -> Option<String> {
    let (file, from) = (file.canonicalize().ok()?, from.canonicalize().ok()?);
    let (mut to, mut base) = (file.components().peekable(), from.components().peekable());
    while to.peek().is_some() && to.peek() == base.peek() {
        to.next();
        base.next();
    }
    let up = base.map(|_| Component::ParentDir);
    let path: PathBuf = up.chain(to).collect();
    let mut link = String::new();
    for byte in path.to_str()?.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' => link.push(char::from(byte)),
            other => link += &format!("%{other:02X}"),
        }
    }
    Some(link)
}

fn compared_part(difference: &Difference) -> String {
    let Difference {
        summary: compared,
        flips,
    } = difference;
    let number = |value: Option<f64>| value.map_or_else(|| "N/A".to_owned(), |value| format!("{value:.4}"));
    let rows: Vec<Vec<String>> = compared
        .comparison
        .rows
        .iter()
        .map(|row| {
            vec![
                row.metric.clone(),
                row.n.to_string(),
                number(Some(row.first)),
                number(Some(row.second)),
                format!("{:+.4}", row.difference),
                row.interval
                    .map_or_else(|| "N/A".to_owned(), |(low, high)| format!("{low:+.4} to {high:+.4}")),
                number(row.p),
                number(row.p_holm),
                row.test.to_owned(),
            ]
        })
        .collect();
    let heads = [
        "metric",
        "n",
        "first",
        "second",
        "difference",
        "95% interval",
        "p",
        "p (Holm)",
        "test",
    ];
    let mut out = format!(
        "<p>{} against {}: {}</p>\n",
        escape(&compared.second),
        escape(&compared.first),
        flips_words(compared)
    );
    out += &page::table(&heads, &rows, 1);
    let Some(first) = flips.first() else { return out };
    let flip = |flip: &Flip| {
        let said =
            |answer: &Option<String>, text: &str| answer.clone().unwrap_or_else(|| text.chars().take(200).collect());
        vec![
            flip.flip.to_owned(),
            flip.sample_id.clone(),
            flip.target
                .as_str()
                .map_or_else(|| flip.target.to_string(), str::to_owned),
            said(&flip.first_answer, &flip.first_text),
            said(&flip.second_answer, &flip.second_text),
        ]
    };
    let rows: Vec<Vec<String>> = flips.iter().map(flip).collect();
    let more = compared.gains + compared.losses - rows.len();
    let more = if more > 0 {
        format!(", {more} more not listed")
    } else {
        String::new()
    };
    out += &format!(
        "<details><summary>flips of {}{more}</summary>{}</details>\n",
        escape(&first.metric),
        page::table(&["", "sample", "target", "first", "second"], &rows, 5)
    );
    out
}

fn plain(name: &str) -> String {
    let letter = |char: char| {
        if char.is_ascii_alphanumeric() || "-_.".contains(char) {
            char
        } else {
            '_'
        }
    };
    name.chars().map(letter).collect()
}

fn result_name(task: &str) -> String {
    format!("results-{}", plain(task))
}

fn difference_name(task: &str) -> String {
    format!("differences-{}", plain(task))
}

/// Every picture, by name.
pub fn pictures(report: &Report) -> Vec<(String, Plot)> {
    let mut all = Vec::new();
    for task in report.tasks() {
        let runs = report.runs.iter().filter(|run| run.summary.task == task);
        let Some(name) = report.metric_of(task) else { continue };
        let rows: Vec<Row> = runs
            .enumerate()
            .filter_map(|(place, run)| {
                let metric = run.metric(name)?;
                Some(Row {
                    label: run.label.clone(),
                    value: metric.value,
                    interval: metric.interval,
                    note: format!("{:.4} n={}", metric.value, metric.count),
                    series: place,
                })
            })
            .collect();
        let share = rows.iter().all(|row| {
            let (low, high) = row.interval.unwrap_or((row.value, row.value));
            (0.0..=1.0).contains(&low) && (0.0..=1.0).contains(&high)
        });
        let range = share.then_some([0.0, 1.0]);
        all.push((
            result_name(task),
            forest(&format!("{name} on {task}"), &rows, 0.0, range),
        ));
    }
    for differences in &report.differences {
        let mut rows = Vec::new();
        for (place, compared) in differences.all.iter().map(|compared| &compared.summary).enumerate() {
            for found in &compared.comparison.rows {
                rows.push(Row {
                    label: format!("{} − {}: {}", compared.second, compared.first, found.metric),
                    value: found.difference,
                    interval: found.interval,
                    note: format!("{:+.4}", found.difference),
                    series: place,
                });
            }
        }
        if !rows.is_empty() {
            let title = format!("differences on {}", differences.task);
            all.push((difference_name(&differences.task), forest(&title, &rows, 0.0, None)));
        }
    }
    all.extend(training_pictures(report));
    all.extend(faithfulness_pictures(report));
    all
}

/// A curve with its name, its colour and its dashes.
type Curve<'a> = (String, &'a [(f64, f64)], &'static str, &'static str);

fn training_pictures(report: &Report) -> Vec<(String, Plot)> {
    let (mut losses, mut rates): (Vec<Curve>, Vec<Curve>) = (Vec::new(), Vec::new());
    for (place, training) in report.trainings.iter().enumerate() {
        let name = &training.name;
        losses.push((name.clone(), &training.loss, colour(place), ""));
        losses.push((format!("{name}, held out"), &training.eval_loss, colour(place), "6 3"));
        rates.push((name.clone(), &training.learning_rate, colour(place), ""));
    }
    let mut all = Vec::new();
    all.extend(curves("loss", &losses).map(|plot| ("training-loss".to_owned(), plot)));
    all.extend(curves("learning rate", &rates).map(|plot| ("learning-rate".to_owned(), plot)));
    all
}

/// Curves over steps, in one picture; none if all are empty.
fn curves(axis: &str, curves: &[Curve]) -> Option<Plot> {
    let points = || {
        curves
            .iter()
            .flat_map(|curve| curve.1.iter())
            .filter(|(_, y)| y.is_finite())
    };
    points().next()?;
    let span = |of: fn(&(f64, f64)) -> f64| {
        let fold = |(low, high): (f64, f64), value: f64| (low.min(value), high.max(value));
        points().map(of).fold((f64::INFINITY, f64::NEG_INFINITY), fold)
    };
    let ((first, last), (low, high)) = (span(|point| point.0), span(|point| point.1));
    let apart = |low: f64, high: f64| {
        if high > low {
            [low, high]
        } else {
            [low - 0.5, high + 0.5]
        }
    };
    let (x, y) = (apart(first, last), apart(low.min(0.0), high));
    let mut chart = Chart::new(axis, (x, &ticks(x[0], x[1]), "step"), (y, &ticks(y[0], y[1]), axis));
    for (name, points, colour, dash) in curves.iter().filter(|curve| !curve.1.is_empty()) {
        let mark = if points.len() == 1 { 'o' } else { ' ' };
        chart.line(points, colour, dash, mark);
        chart.legend(colour, name);
    }
    Some(chart.plot())
}

fn faithfulness_pictures(report: &Report) -> Vec<(String, Plot)> {
    const HUNDREDS: [f64; 6] = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0];
    let mut all = Vec::new();
    let areas: Vec<Row> = report
        .sweeps
        .iter()
        .enumerate()
        .filter_map(|(place, sweep)| {
            let aoc = sweep.aoc?;
            Some(Row {
                label: sweep.name(),
                value: aoc,
                interval: sweep.aoc_interval,
                note: format!("{aoc:.3}"),
                series: place,
            })
        })
        .collect();
    if !areas.is_empty() {
        all.push((
            "faithfulness-areas".to_owned(),
            forest("area over the curve", &areas, 0.0, None),
        ));
    }
    let mut experiments: BTreeMap<&str, Vec<&super::Sweep>> = BTreeMap::new();
    for sweep in report.sweeps.iter().filter(|sweep| sweep.curve.len() > 1) {
        experiments.entry(&sweep.experiment).or_default().push(sweep);
    }
    for (experiment, sweeps) in experiments {
        let places = sweeps.iter().flat_map(|sweep| sweep.curve.iter().map(|point| point.0));
        let (low, high) = places.fold((0.0f64, 100.0f64), |(low, high), x| (low.min(x), high.max(x)));
        let x = [low - 5.0, high + 5.0];
        let axis = "same answer as the baseline (%)";
        let mut chart = Chart::new(experiment, (x, &ticks(low, high), ""), ([-5.0, 105.0], &HUNDREDS, axis));
        for (place, sweep) in sweeps.iter().enumerate() {
            let band = |(x, y, n): &(f64, f64, u64)| {
                let (low, high) = statistics::wilson(y / 100.0, *n as f64);
                (*x, 100.0 * low, 100.0 * high)
            };
            chart.band(&sweep.curve.iter().map(band).collect::<Vec<_>>(), colour(place));
            let line: Vec<(f64, f64)> = sweep.curve.iter().map(|(x, y, _)| (*x, *y)).collect();
            chart.line(&line, colour(place), "", 'o');
            chart.legend(colour(place), &format!("{}, {}", sweep.model, sweep.dataset));
        }
        all.push((format!("faithfulness-curve-{}", plain(experiment)), chart.plot()));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_from_the_page_to_the_runs() {
        let folder = tempfile::tempdir().unwrap();
        let (run, pages) = (folder.path().join("runs/a b"), folder.path().join("pages"));
        std::fs::create_dir_all(&run).unwrap();
        std::fs::create_dir_all(&pages).unwrap();
        std::fs::write(run.join("report.html"), "").unwrap();
        let link = relative(&run.join("report.html"), &pages).unwrap();
        assert_eq!(link, "../runs/a%20b/report.html");
    }
}
