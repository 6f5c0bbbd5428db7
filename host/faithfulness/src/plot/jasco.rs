//! JASCO's plots: what a judge's scores do as speech or the sounds around it are masked, and what the answers are
//! about.

use super::{File, HUNDREDS, percent};
use crate::experiment::Experiment;
use crate::import::{Orientation, Row, Study};
use plots::{Chart, colour};
use std::collections::BTreeMap;

/// What judged answers describe, from the bottom of a column to its top.
const ORIENTATIONS: [(Orientation, &str); 3] = [
    (Orientation::Audio, "the sounds"),
    (Orientation::Speech, "the speech"),
    (Orientation::Good, "both"),
];

/// By which region is masked, then by how many percent; the clip as it is belongs to each region.
type Conditions<'a> = BTreeMap<&'a str, BTreeMap<u64, Vec<&'a Row>>>;

pub(super) fn plots(model: &str, dataset: &str, study: &Study) -> Vec<File> {
    let mut files = Vec::new();
    for ((_, variant), table) in study
        .tables
        .iter()
        .filter(|((experiment, _), _)| *experiment == Experiment::JascoMasking)
    {
        let mut conditions: Conditions<'_> = BTreeMap::new();
        let (whole, masked): (Vec<&Row>, Vec<&Row>) = table.rows.iter().partition(|row| row.condition.is_empty());
        for row in masked {
            let at = row.point.number().unwrap_or(0.0) as u64;
            let region = conditions.entry(&row.condition).or_default();
            region.entry(at).or_default().push(row);
        }
        for region in conditions.values_mut() {
            region.entry(0).or_default().extend(&whole);
        }
        let stem = format!("{model}_{dataset}_jasco_masking{variant}");
        files.extend(scores(&conditions).map(|text| (format!("{stem}_scores.svg"), text)));
        for (name, region) in &conditions {
            files.extend(orientations(name, region).map(|text| (format!("{stem}_{name}_orientation.svg"), text)));
        }
    }
    files
}

/// The mean score against the masked share, a line for each region.
fn scores(conditions: &Conditions<'_>) -> Option<String> {
    let mut chart = Chart::new(
        "JASCO: scores",
        ([-5.0, 105.0], &HUNDREDS, "% of the region masked"),
        ([-0.1, 2.1], &[0.0, 0.5, 1.0, 1.5, 2.0], "mean score"),
    );
    let mut drawn = 0;
    for (place, (name, region)) in conditions.iter().enumerate() {
        let mean = |(at, rows): (&u64, &Vec<&Row>)| {
            let scores: Vec<f64> = rows.iter().filter_map(|row| row.score).collect();
            (!scores.is_empty()).then(|| (*at as f64, scores.iter().sum::<f64>() / scores.len() as f64))
        };
        let line: Vec<(f64, f64)> = region.iter().filter_map(mean).collect();
        drawn += line.len();
        chart.line(&line, colour(place), "", 'o');
        chart.legend(colour(place), &format!("{name} masked"));
    }
    (drawn > 0).then(|| chart.finish())
}

/// The share of each among the answers that describe the sounds, the speech or both.
fn orientations(name: &str, region: &BTreeMap<u64, Vec<&Row>>) -> Option<String> {
    let mut chart = Chart::new(
        &format!("JASCO: {name} masked"),
        ([-5.0, 105.0], &HUNDREDS, "% of the region masked"),
        ([0.0, 105.0], &HUNDREDS, "% of the answers that are about something"),
    );
    let mut drawn = 0;
    for (at, rows) in region {
        let count = |wanted: Orientation| rows.iter().filter(|row| row.orientation == Some(wanted)).count();
        let counts = ORIENTATIONS.map(|(orientation, _)| count(orientation));
        let all: usize = counts.iter().sum();
        let (middle, mut low) = (*at as f64, 0.0);
        for (place, count) in counts.into_iter().enumerate().filter(|_| all > 0) {
            let high = low + percent(count, all);
            chart.rectangle([middle - 3.5, middle + 3.5], [low, high], colour(place));
            low = high;
        }
        drawn += all;
    }
    for (place, (_, words)) in ORIENTATIONS.iter().enumerate() {
        chart.legend(colour(place), words);
    }
    (drawn > 0).then(|| chart.finish())
}
