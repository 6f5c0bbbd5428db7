//! Figures over all samples, not means over samples.
//!
//! Records contain the counts, so summing needs neither replies nor audio. A standard error is that of a ratio of
//! sums, by its linearisation, with the recordings of one utterance as one cluster; a macro figure has none.

use crate::scorer::{Counts, Labels, Measure, Table, Tables};
use crate::utterance;
use plugin_api::{Metric, Row, Status};
use score::Ratio;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The main figures in the order of the card.
pub(crate) const MAIN: [(&str, Measure); 7] = [
    ("intent_acc", Measure::Intent),
    ("scenario_acc", Measure::Scenario),
    ("action_acc", Measure::Action),
    ("entity_f1", Measure::Entities),
    ("word_f1", Measure::Word),
    ("char_f1", Measure::Char),
    ("slu_f1", Measure::SluF1),
];

/// This many of them are accuracies.
const CLASSES: usize = 3;

/// Of these, the ones that are reported for each group: there are more than twenty groups.
const OF_GROUPS: [&str; 2] = ["intent_acc", "slu_f1"];

/// The share of replies with labels, and of replies that were strict JSON.
pub(crate) const READ: &str = "json_read";
pub(crate) const STRICT: &str = "json_strict";
/// The share of samples without their recording.
const AUDIO_MISSING: &str = "audio_missing";

/// The group that says what replaced the recording.
pub(crate) const AUDIO: &str = "audio";
pub(crate) const CLIP: &str = "clip";

/// A sample's share of the two sums of each F1 over all samples: what is above and what is below. `host compare` sums
/// them again in every draw.
pub(crate) fn ratios(tables: &Tables) -> Value {
    let ratio =
        |(name, measure): &(&str, Measure)| ((*name).to_owned(), json!(sums_of_f1(&tables.table(*measure).total())));
    Value::Object(MAIN[CLASSES..].iter().map(ratio).collect())
}

fn sums_of_f1(total: &Counts) -> (f64, f64) {
    let (predicted, there) = (total.right + total.too_many, total.right + total.missed);
    (2.0 * total.right, predicted + there)
}

#[derive(Debug, Clone, Copy)]
enum Figure {
    Precision,
    Recall,
    F1,
}

/// The sums over some samples, for one way of parsing.
#[derive(Debug, Clone, Default)]
struct Sums {
    tables: Tables,
    /// The F1 of each main measure, and precision and recall of the entity measures.
    ratios: BTreeMap<(usize, u8), Ratio>,
    count: u64,
}

impl Sums {
    fn add(&mut self, cluster: &str, tables: &Tables) {
        self.count += 1;
        self.tables.add(tables);
        for (index, (_, measure)) in MAIN.iter().enumerate() {
            let total = tables.table(*measure).total();
            let (right, predicted, there) = (total.right, total.right + total.too_many, total.right + total.missed);
            let mut add = |figure: Figure, above, below| {
                let ratio = self.ratios.entry((index, figure as u8)).or_default();
                ratio.add(cluster, above, below);
            };
            if index < CLASSES {
                // One predicted and one expected label: accuracy.
                add(Figure::F1, right, 1.0);
            } else {
                let (above, below) = sums_of_f1(&total);
                add(Figure::F1, above, below);
                add(Figure::Precision, right, predicted);
                add(Figure::Recall, right, there);
            }
        }
    }

    fn metric(&self, index: usize, figure: Figure) -> Metric {
        let figures = self.tables.table(MAIN[index].1).micro();
        let value = match figure {
            Figure::Precision => figures.precision,
            Figure::Recall => figures.recall,
            Figure::F1 => figures.f1,
        };
        let ratio = self.ratios.get(&(index, figure as u8));
        metric("", value, self.count, ratio, index < CLASSES)
    }

    fn main(&self) -> impl Iterator<Item = Metric> + '_ {
        MAIN.iter().enumerate().map(|(index, (name, _))| Metric {
            name: (*name).to_owned(),
            ..self.metric(index, Figure::F1)
        })
    }
}

/// All sums of a run in the making.
#[derive(Debug, Default)]
pub(crate) struct Summary {
    all: Sums,
    strict: Sums,
    groups: BTreeMap<String, Sums>,
    shares: BTreeMap<&'static str, (f64, Ratio)>,
}

impl Summary {
    /// Adds a finished sample. One that can't be scored is left out, as the host leaves it out of its means.
    pub fn add(&mut self, row: &Row) {
        if row.score.status == Status::Unscored {
            return;
        }
        let Some(tables) = row.score.details.get("counts").and_then(Tables::from_json) else {
            return;
        };
        let cluster = row.sample.cluster.as_deref().unwrap_or(&row.sample.id);
        self.all.add(cluster, &tables);
        let value = |name: &str| row.score.values.get(name).copied().unwrap_or(0.0);
        match value(STRICT) == 1.0 {
            true => self.strict.add(cluster, &tables),
            false => self.strict.add(cluster, &Tables::of(&gold(row), &Labels::default())),
        }
        for (group, member) in &row.sample.groups {
            let sums = self.groups.entry(format!("{group}={member}")).or_default();
            sums.add(cluster, &tables);
        }
        let mut share = |name, value: f64| {
            let (sum, ratio): &mut (f64, Ratio) = self.shares.entry(name).or_default();
            *sum += value;
            ratio.add(cluster, value, 1.0);
        };
        share(READ, value(READ));
        share(STRICT, value(STRICT));
        if let Some(audio) = row.sample.groups.get(AUDIO) {
            share(AUDIO_MISSING, f64::from(u8::from(audio != CLIP)));
        }
    }

    /// The figures: the main ones, what else there is of all samples, the strict reading, then group by group.
    pub fn metrics(&self, every_label: bool) -> Vec<Metric> {
        let mut metrics: Vec<Metric> = self.all.main().collect();
        for (index, (_, measure)) in MAIN.iter().enumerate().skip(CLASSES) {
            for (word, figure) in [("precision", Figure::Precision), ("recall", Figure::Recall)] {
                let name = format!("{}_{word}", prefix(*measure));
                metrics.push(Metric {
                    name,
                    ..self.all.metric(index, figure)
                });
            }
        }
        for (_, measure) in MAIN {
            let mean = self.all.tables.table(measure).macro_mean();
            let figures = [("f1", mean.f1), ("precision", mean.precision), ("recall", mean.recall)];
            let figures = figures.into_iter().take(if every_label { 3 } else { 1 });
            metrics.extend(figures.map(|(word, value)| {
                metric(
                    &format!("macro_{}_{word}", prefix(measure)),
                    value,
                    self.all.count,
                    None,
                    false,
                )
            }));
        }
        for (name, (sum, ratio)) in &self.shares {
            let share = sum / self.all.count as f64;
            metrics.push(metric(name, share, self.all.count, Some(ratio), true));
        }
        metrics.extend(self.strict.main().map(|metric| Metric {
            filter: "strict".to_owned(),
            ..metric
        }));
        for (group, sums) in &self.groups {
            let telling = sums.main().filter(|metric| OF_GROUPS.contains(&metric.name.as_str()));
            metrics.extend(telling.map(|metric| Metric {
                group: Some(group.clone()),
                ..metric
            }));
        }
        if every_label {
            for (_, measure) in MAIN {
                metrics.extend(labels(measure, &self.all.tables.table(measure)));
            }
        }
        metrics
    }
}

/// The expected labels, from the row in the record.
fn gold(row: &Row) -> Labels {
    utterance::labels(&task::row_of(&row.sample)).unwrap_or_default()
}

fn prefix(measure: Measure) -> &'static str {
    match measure {
        Measure::Entities => "entity",
        Measure::SluF1 => "slu",
        other => other.name(),
    }
}

/// The figures of each label, counted over expected labels.
fn labels(measure: Measure, table: &Table) -> Vec<Metric> {
    let kind = match measure {
        Measure::Scenario | Measure::Action | Measure::Intent => measure.name(),
        _ => "entity",
    };
    let mut metrics = Vec::new();
    for (label, counts) in &table.0 {
        let figures = counts.figures();
        let there = (counts.right + counts.missed).round() as u64;
        for (word, value) in [
            ("precision", figures.precision),
            ("recall", figures.recall),
            ("f1", figures.f1),
        ] {
            metrics.push(Metric {
                group: Some(format!("{kind}={label}")),
                ..metric(&format!("{}_{word}", prefix(measure)), value, there, None, false)
            });
        }
    }
    metrics
}

fn metric(name: &str, value: f64, count: u64, ratio: Option<&Ratio>, proportion: bool) -> Metric {
    let stderr = ratio.and_then(Ratio::stderr);
    Metric {
        name: name.to_owned(),
        value,
        stderr,
        interval: ratio.and_then(|ratio| ratio.interval(value, stderr, proportion)),
        count,
        ..Metric::default()
    }
}
