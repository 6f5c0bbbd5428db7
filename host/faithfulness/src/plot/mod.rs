//! Plots as SVG files, some with a text file of their numbers beside them.

mod jasco;
mod study;

use crate::experiment::{Experiment, Scale};
use crate::import::{Import, Kind, Point, Study, Table, kind_name};
use crate::metrics::errors::bootstrap;
use crate::metrics::{Measures, Reference, Used, area, judge, measure};
use plots::Chart;
use std::collections::BTreeMap;

/// A file's name and text.
pub type File = (String, String);

/// Colours and marks of the known data sets, in the published order.
const STYLES: [(&str, &str, char); 6] = [
    ("animal", "#1f77b4", 'o'),
    ("language", "#ff7f0e", 's'),
    ("emotion", "#2ca02c", '^'),
    ("gender", "#d62728", 'D'),
    ("mmar", "#9467bd", 'v'),
    ("mmau", "#8c564b", 'p'),
];
const HUNDREDS: [f64; 6] = [0.0, 20.0, 40.0, 60.0, 80.0, 100.0];
const DECIBELS: [f64; 6] = [-20.0, -10.0, 0.0, 10.0, 20.0, 30.0];

/// The published colour of a data set, or the one of its place among those that have none.
fn style(dataset: &str, place: usize) -> (&'static str, char) {
    let known = STYLES.iter().find(|(name, ..)| dataset.to_lowercase().contains(name));
    known.map_or((plots::colour(place), 'o'), |(_, colour, mark)| (colour, *mark))
}

/// Every plot that the data allow.
pub fn plots(import: &Import) -> Vec<File> {
    let mut files = Vec::new();
    let mut kinds: BTreeMap<(&str, &Kind), Vec<(&str, &Study)>> = BTreeMap::new();
    for ((model, dataset), study) in &import.studies {
        for kind in study.tables.keys() {
            kinds.entry((model, kind)).or_default().push((dataset, study));
        }
        files.extend(study::plots(model, dataset, study));
        files.extend(jasco::plots(model, dataset, study));
    }
    for ((model, kind), studies) in kinds {
        if kind.0.scale() != Scale::None {
            files.extend(consistency(model, kind, &studies));
        }
    }
    files.extend(forest(import));
    files
}

fn measured(study: &Study, kind: &Kind, table: &Table, reference: Reference) -> Measures {
    measure(kind.0, &judge(study, kind, table, reference).used, None)
}

/// The range of an experiment's x axis, and its ticks.
fn range(experiment: Experiment) -> ([f64; 2], &'static [f64]) {
    match experiment.scale() {
        Scale::Decibels => ([-25.0, 35.0], &DECIBELS),
        _ => ([-5.0, 105.0], &HUNDREDS),
    }
}

fn axes(title: &str, kind: &Kind, of: &str) -> Chart {
    let (ends, ticks) = range(kind.0);
    Chart::new(title, (ends, ticks, kind.0.axis()), ([-5.0, 105.0], &HUNDREDS, of))
}

/// A level line over the whole axis.
fn level(chart: &mut Chart, experiment: Experiment, y: f64, colour: &str, dash: &str) {
    let [low, high] = range(experiment).0;
    chart.line(&[(low, y), (high, y)], colour, dash, ' ');
}

fn percent(hits: usize, of: usize) -> f64 {
    100.0 * hits as f64 / of as f64
}

/// Of the rows with the clean clip, how many percent fulfil this; they lie on no axis of decibels.
fn clean(rows: &[Used<'_>], test: impl Fn(&Used<'_>) -> bool) -> Option<f64> {
    let clean: Vec<&Used<'_>> = rows.iter().filter(|used| used.row.point == Point::Clean).collect();
    (!clean.is_empty()).then(|| percent(clean.iter().filter(|used| test(used)).count(), clean.len()))
}

fn xy(curve: &[(f64, f64, usize)]) -> Vec<(f64, f64)> {
    curve.iter().map(|(x, y, _)| (*x, *y)).collect()
}

/// Consistency against x, a line for each data set, with 95 % bands.
fn consistency(model: &str, kind: &Kind, studies: &[(&str, &Study)]) -> Vec<File> {
    let name = kind_name(kind);
    let mut chart = axes(&format!("{model}: {name}"), kind, "same answer as the baseline (%)");
    let mut numbers = String::new();
    for (place, (dataset, study)) in studies.iter().enumerate() {
        let Some(table) = study.tables.get(kind) else { continue };
        let judged = judge(study, kind, table, Reference::Baseline);
        let curve = measure(kind.0, &judged.used, None).curve;
        let (colour, mark) = style(dataset, place);
        let band = |(x, y, n): &(f64, f64, usize)| {
            let hits = (y / 100.0 * *n as f64).round() as usize;
            let [low, high] = bootstrap(hits, *n, &format!("{name}_{dataset}_{x}")).unwrap_or([0.0, 1.0]);
            (*x, 100.0 * low, 100.0 * high)
        };
        chart.band(&curve.iter().map(band).collect::<Vec<_>>(), colour);
        chart.line(&xy(&curve), colour, "", mark);
        chart.legend(colour, dataset);
        if let Some(y) = clean(&judged.used, |used| used.same()) {
            level(&mut chart, kind.0, y, colour, "2 3");
            chart.legend(colour, &format!("{dataset}, clean clip"));
        }
        for (x, y, n) in &curve {
            numbers += &format!("{dataset}\t{x}\t{y}\t{n}\t{}\n", spread(kind.0, &judged.used, *x));
        }
    }
    if numbers.is_empty() {
        return Vec::new();
    }
    let stem = format!("{model}_{name}");
    let heads = "dataset\tx\ty\tn\tmean\tmedian\tstd\tmin\tmax\tiqr\n";
    vec![
        (format!("{stem}.svg"), chart.finish()),
        (format!("{stem}.txt"), format!("{heads}{numbers}")),
    ]
}

/// Mean, median, deviation, least, most and quartile range of the consistency of each question in a bin.
fn spread(experiment: Experiment, rows: &[Used<'_>], bin: f64) -> String {
    let mut questions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for used in rows {
        let x = used.row.x(experiment).map(|x| {
            experiment
                .bin()
                .map_or(x, |width| (x / width).round_ties_even() * width)
        });
        if x == Some(bin) {
            let entry = questions.entry(&used.row.id).or_default();
            entry.0 += usize::from(used.same());
            entry.1 += 1;
        }
    }
    let mut shares: Vec<f64> = questions.values().map(|(same, all)| percent(*same, *all)).collect();
    shares.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (shares.first(), shares.last()) else {
        return String::new();
    };
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let deviation = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / n).sqrt();
    let quartile = |share| statistics::percentile(&shares, share);
    format!(
        "{mean}\t{}\t{deviation}\t{least}\t{most}\t{}",
        quartile(0.5),
        quartile(0.75) - quartile(0.25)
    )
}

/// The areas of every model, data set and experiment, with their intervals.
fn forest(import: &Import) -> Option<File> {
    let mut rows = Vec::new();
    for (series, ((model, dataset), study)) in import.studies.iter().enumerate() {
        for (kind, table) in &study.tables {
            let found = measured(study, kind, table, Reference::Baseline);
            if let Some(aoc) = found.aoc {
                rows.push(plots::Row {
                    label: format!("{model}, {dataset}: {}", kind_name(kind)),
                    value: aoc,
                    interval: found.aoc_interval().map(|[low, high]| (low, high)),
                    note: format!("{aoc:.3}, {} chains", found.chains_complete),
                    series,
                });
            }
        }
    }
    let title = format!("area over the curve: {}", area::DEFINITION);
    (!rows.is_empty()).then(|| {
        let plot = plots::forest(&title, &rows, 0.0, Some([-0.2, 1.0]));
        ("forest.svg".to_owned(), plot.document())
    })
}
