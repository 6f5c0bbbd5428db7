//! Figures as JSON: `{model: {dataset: {experiment: {"baseline": {…}, "full": {…}}}}}`.

use crate::experiment::{Experiment, Scale};
use crate::import::{Import, Kind, Study, Table, kind_name};
use crate::letters::offered;
use crate::metrics::curve::CurvePoint;
use crate::metrics::errors::mean;
use crate::metrics::{Judged, Measures, Reference, Used, area, judge, measure};
use crate::reasoning::Leak;
use crate::verdict;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// How figures are made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// The width of a curve's bins in place of the published ones, in percent.
    pub bin: Option<f64>,
}

/// The figures of everything that was read.
pub fn report(import: &Import, options: Options) -> Value {
    let mut models: Map<String, Value> = Map::new();
    for ((model, dataset), study) in &import.studies {
        let of_model = models.entry(model.clone()).or_insert_with(|| json!({}));
        of_model[dataset] = study_report(study, options);
    }
    Value::Object(models)
}

/// The figures of one model and data set.
pub fn study_report(study: &Study, options: Options) -> Value {
    let mut experiments = Map::new();
    for (kind, table) in &study.tables {
        let mut entry = Map::new();
        for reference in Reference::BOTH {
            let judged = judge(study, kind, table, reference);
            let mut figures = counts(table, &judged);
            figures.append(&mut core(kind.0, &judged.used, options));
            details(kind, &judged, study, options, &mut figures);
            entry.insert(reference.name().to_owned(), Value::Object(figures));
        }
        if let Some(verdict) = verdict::of(study, kind) {
            entry.insert("verdict".to_owned(), verdict.json());
        }
        if let Some(scores) = scores(table) {
            entry.insert("scores".to_owned(), scores);
        }
        experiments.insert(kind_name(kind), Value::Object(entry));
    }
    Value::Object(experiments)
}

fn counts(table: &Table, judged: &Judged<'_>) -> Map<String, Value> {
    let counts = json!({
        "rows_read": table.rows_read,
        "malformed": table.malformed,
        "repeated": table.repeated,
        "zero_length": judged.zero_length,
        "no_reference": judged.no_reference,
    });
    object(counts)
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn points(curve: &[CurvePoint]) -> Value {
    curve.iter().map(|(x, y, n)| json!([x, y, n])).collect()
}

/// What every selection of rows has.
fn core(experiment: Experiment, rows: &[Used<'_>], options: Options) -> Map<String, Value> {
    let measures = measure(experiment, rows, options.bin);
    let Measures { used, same, .. } = measures;
    let lengths: Map<String, Value> = measures
        .aoc_by_length
        .iter()
        .map(|(n, aoc)| (n.to_string(), json!(aoc)))
        .collect();
    object(json!({
        "used": used,
        "curve": points(&measures.curve),
        "accuracy_curve": points(&measures.accuracy_curve),
        "slope": measures.line.map(|line| line.0),
        "intercept": measures.line.map(|line| line.1),
        "interpolated": measures.interpolated,
        "consistent": same,
        "consistency": measures.consistency(),
        "flip_rate": measures.flip_rate(),
        "flip_interval": measures.flip_interval,
        "accuracy": measures.accuracy_micro,
        "accuracy_macro": measures.accuracy_macro,
        "chains_complete": measures.chains_complete,
        "chains_incomplete": measures.chains_incomplete,
        "aoc": measures.aoc,
        "aoc_definition": area::DEFINITION,
        "aoc_se_by_clip": measures.aoc_se_by_clip,
        "aoc_se_by_question": measures.aoc_se_by_question,
        "aoc_interval": measures.aoc_interval(),
        "aoc_by_length": lengths,
        "commit_mean": measures.commit_mean,
        "never_committed": measures.never_committed,
    }))
}

/// Rows by condition, by leak and by whether the baseline was right; soft figures where probabilities are known.
fn details(kind: &Kind, judged: &Judged<'_>, study: &Study, options: Options, figures: &mut Map<String, Value>) {
    let rows = &judged.used;
    let select = |keep: &dyn Fn(&Used<'_>) -> bool| -> Vec<Used<'_>> {
        rows.iter().filter(|used| keep(used)).copied().collect()
    };
    let named: BTreeSet<&str> = rows.iter().map(|used| used.row.condition.as_str()).collect();
    if named.len() > 1 {
        let conditions = named.iter().map(|name| {
            let rows = select(&|used| used.row.condition == **name);
            ((*name).to_owned(), Value::Object(core(kind.0, &rows, options)))
        });
        figures.insert("conditions".to_owned(), Value::Object(conditions.collect()));
    }
    if let Some(soft) = soft(kind.0, rows) {
        figures.insert("soft".to_owned(), soft);
    }
    if kind.0 == Experiment::Baseline {
        figures.insert("leaks".to_owned(), leaks(rows));
        return;
    }
    let right: BTreeMap<_, bool> = rows
        .iter()
        .filter_map(|used| Some((used.row.trial(), study.baseline(&used.row.trial(), &kind.1)?)))
        .map(|(trial, baseline)| (trial, baseline.right()))
        .collect();
    if right.is_empty() {
        return;
    }
    let mut splits = Map::new();
    for (name, wanted) in [("baseline_right", true), ("baseline_wrong", false)] {
        let rows = select(&|used| right.get(&used.row.trial()) == Some(&wanted));
        splits.insert(name.to_owned(), Value::Object(core(kind.0, &rows, options)));
    }
    let clean: BTreeSet<_> = right
        .keys()
        .filter(|trial| {
            study
                .baseline(trial, &kind.1)
                .is_some_and(|row| leak(row) == Leak::None)
        })
        .collect();
    let rows = select(&|used| clean.contains(&used.row.trial()));
    splits.insert("no_leak".to_owned(), Value::Object(core(kind.0, &rows, options)));
    figures.insert("splits".to_owned(), Value::Object(splits));
}

fn leak(row: &crate::import::Row) -> Leak {
    let reasoning = row
        .sanitized
        .as_deref()
        .or(row.reasoning.as_deref())
        .unwrap_or_default();
    let letters = offered(&('A'..='J').map(|letter| format!("({letter})")).collect::<String>());
    Leak::of(reasoning, &letters, None)
}

fn leaks(rows: &[Used<'_>]) -> Value {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for used in rows
        .iter()
        .filter(|used| used.row.reasoning.is_some() || used.row.sanitized.is_some())
    {
        *counts.entry(leak(used.row).name()).or_default() += 1;
    }
    json!(counts)
}

/// Areas and steps from option probabilities, over chains whose every point has them.
fn soft(experiment: Experiment, rows: &[Used<'_>]) -> Option<Value> {
    if experiment != Experiment::EarlyAnswering {
        return None;
    }
    let mut chains: BTreeMap<_, Vec<&Used<'_>>> = BTreeMap::new();
    for used in rows {
        chains.entry(used.row.trial()).or_default().push(used);
    }
    let (mut areas, mut variations, mut divergences) = (Vec::new(), Vec::new(), Vec::new());
    for chain in chains.values_mut() {
        chain.sort_by_key(|used| used.row.point.key());
        let total = chain[0].row.total?;
        let whole = chain.len() as u64 == total + 1 && chain.iter().all(|used| !used.row.options.is_empty());
        let crate::letters::Letter::Option(letter) = chain[0].reference else {
            continue;
        };
        if !whole {
            continue;
        }
        let index = (letter as usize).wrapping_sub('A' as usize);
        let Some(of_reference) = chain
            .iter()
            .map(|used| used.row.options.get(index).copied())
            .collect::<Option<Vec<f64>>>()
        else {
            continue;
        };
        areas.extend(area::soft(&of_reference));
        for pair in chain.windows(2) {
            let (from, to) = (&pair[0].row.options, &pair[1].row.options);
            variations.push(area::total_variation(from, to));
            divergences.push(area::divergence(from, to));
        }
    }
    (!areas.is_empty()).then(|| {
        json!({
            "chains": areas.len(),
            "aoc": mean(&areas),
            "total_variation": mean(&variations),
            "divergence": mean(&divergences),
        })
    })
}

/// Mean judge scores by condition and percentage. A score of 0 of a failed judge can't be told from a real one here.
fn scores(table: &Table) -> Option<Value> {
    let mut bins: BTreeMap<(String, u64), Vec<f64>> = BTreeMap::new();
    for row in &table.rows {
        if let (Some(score), Some(at)) = (row.score, row.point.number()) {
            bins.entry((row.condition.clone(), at.to_bits()))
                .or_default()
                .push(score);
        }
    }
    let rows = bins.iter().map(|((condition, at), scores)| {
        json!({ "condition": condition, "x": f64::from_bits(*at), "mean": mean(scores), "n": scores.len() })
    });
    (!bins.is_empty()).then(|| rows.collect())
}

/// Whether an experiment's points lie on an axis that can be drawn.
pub fn has_curve(experiment: Experiment) -> bool {
    experiment.scale() != Scale::None
}
