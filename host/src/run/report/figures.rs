//! The pictures of a run's page.

use super::main_metric;
use super::samples::{Calibration, Spread};
use crate::run::results::Summary;
use plots::{Bar, Chart, Histogram, bars, histogram};
use plugin_api::Metric;
use std::collections::BTreeMap;

/// The most members of a group that are drawn; the table has all.
const MOST: usize = 40;

/// The main metric by group, a picture for each grouping.
pub fn groups(summary: &Summary) -> String {
    let Some(main) = main_metric(summary) else {
        return String::new();
    };
    let mut groupings: BTreeMap<&str, Vec<(&str, &Metric)>> = BTreeMap::new();
    for metric in summary
        .metrics
        .iter()
        .filter(|metric| metric.name == main.name && metric.filter == main.filter)
    {
        if let Some((key, member)) = metric
            .group
            .as_deref()
            .map(|group| group.split_once('=').unwrap_or(("", group)))
        {
            groupings.entry(key).or_default().push((member, metric));
        }
    }
    if groupings.is_empty() {
        return String::new();
    }
    let pictures = groupings.into_iter().map(|(key, members)| {
        let bar = |(member, metric): &(&str, &Metric)| Bar {
            label: (*member).to_owned(),
            value: metric.value,
            interval: metric.interval,
            note: format!("n={}", metric.count),
            series: 0,
        };
        let rows: Vec<Bar> = members.iter().take(MOST).map(bar).collect();
        let more = members.len() - rows.len();
        let title = match more {
            0 => format!("{} by {key}", main.name),
            more => format!("{} by {key}; {more} more in the table", main.name),
        };
        let range = range_of(members.iter().map(|(_, metric)| *metric));
        bars(&title, &rows, range).inline(&title)
    });
    format!(
        "<h2>By group</h2>\n<div class=\"plots\">{}</div>\n",
        pictures.collect::<String>()
    )
}

/// From 0 to 1 for shares, else from the smallest to the largest value.
fn range_of<'a>(metrics: impl Iterator<Item = &'a Metric>) -> [f64; 2] {
    let ends = metrics.flat_map(|metric| {
        let (low, high) = metric.interval.unwrap_or((metric.value, metric.value));
        [low, high, metric.value]
    });
    let (mut low, mut high) = (0.0f64, 0.0f64);
    for end in ends.filter(|end| end.is_finite()) {
        (low, high) = (low.min(end), high.max(end));
    }
    if high <= 1.0 {
        high = 1.0;
    }
    [low, high]
}

/// Histograms of times, tokens and margins.
pub fn distributions(spread: &Spread) -> String {
    let picture = |(title, axis, values): (&str, &str, &Vec<f64>)| {
        let worth = values.iter().any(|value| *value != 0.0);
        let found = worth.then(|| Histogram::of(values.iter().copied())).flatten()?;
        Some(histogram(title, axis, &found).inline(title))
    };
    let pictures: Vec<String> = [
        ("latency", "ms", &spread.latency),
        ("time to the first token", "ms", &spread.first_token),
        ("tokens written", "tokens", &spread.written),
        ("tokens read", "tokens", &spread.read),
        (
            "margin of the best option",
            "log-likelihood above the second",
            &spread.margin,
        ),
    ]
    .into_iter()
    .filter_map(picture)
    .collect();
    match pictures.is_empty() {
        true => String::new(),
        false => format!(
            "<h2>Distributions</h2>\n<div class=\"plots\">{}</div>\n",
            pictures.concat()
        ),
    }
}

/// How often the chosen option is right, by how probable it was.
pub fn calibration(found: &Calibration) -> String {
    if found.count() == 0 {
        return String::new();
    }
    let fifths = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];
    let title = "calibration of the chosen option";
    let mut chart = Chart::new(
        title,
        ([0.0, 1.0], &fifths, "probability among the options"),
        ([0.0, 1.0], &fifths, "share that is right"),
    );
    chart.line(&[(0.0, 0.0), (1.0, 1.0)], "#7f7f7f", "4 4", ' ');
    chart.legend("#7f7f7f", "perfect");
    let points = found.points();
    for point in &points {
        let (low, high) = statistics::wilson(point.right, point.count as f64);
        chart.line(
            &[(point.probability, low), (point.probability, high)],
            "#1f77b4",
            "",
            ' ',
        );
    }
    let line: Vec<(f64, f64)> = points.iter().map(|point| (point.probability, point.right)).collect();
    chart.line(&line, "#1f77b4", "", 'o');
    chart.legend("#1f77b4", "this run");
    let words = format!(
        "Expected calibration error {:.4} in ten bins of {} samples whose options were scored. A point is the mean \
         probability of the chosen option in a bin and the share of right answers, with its 95% interval.",
        found.error(),
        found.count()
    );
    format!(
        "<h2>Calibration</h2>\n{}<p class=\"pale\">{words}</p>\n",
        chart.plot().inline(title)
    )
}
