//! The published predictions against the official script's figures, where somebody has both.

#![allow(clippy::print_stderr)] // says what was compared, or that nothing was

use data::{Row, Rows};
use serde_json::Value;
use slurp::inventory::Inventory;
use slurp::official::{Gold, Key, score};
use slurp::utterance;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// The folder with SLURP's `devel.jsonl` and `test.jsonl`, the published `*_predictions.jsonl`, and the script's own
/// figures of them as `official_results.json`.
const FOLDER: &str = "SLURP_OFFICIAL";

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from);
    if folder.is_none() {
        eprintln!("skipped: {FOLDER} names no folder");
    }
    folder
}

#[test]
fn the_official_figures_are_met() {
    let Some(folder) = folder() else { return };
    let official: Value =
        serde_json::from_slice(&std::fs::read(folder.join("official_results.json")).unwrap()).unwrap();
    let gold = Rows::open(folder.join("test.jsonl")).unwrap();
    let mut largest: f64 = 0.0;
    let mut compared = 0;
    for (file, expected) in official.as_object().unwrap() {
        let key = if expected["load_gold"] == true {
            Key::SlurpId
        } else {
            Key::File
        };
        let gold = Gold::read(gold.iter(), key).unwrap();
        let rows: Vec<Row> = Rows::open(folder.join(file))
            .unwrap()
            .iter()
            .map(Result::unwrap)
            .collect();
        let scored = score(&gold, rows.into_iter().map(Ok), key).unwrap();
        let metrics = scored.metrics().unwrap();
        assert_eq!(scored.verdicts.len(), expected["scored"]);
        assert_eq!(scored.gold_total, expected["gold_total"]);
        assert_eq!(scored.not_predicted(), expected["gold_not_predicted"]);
        for kind in ["micro", "macro"] {
            for (measure, figures) in expected[kind].as_object().unwrap() {
                let total = slurp::scorer::Measure::ALL
                    .into_iter()
                    .find(|known| known.name() == measure);
                let total = scored.tables.table(total.unwrap()).total();
                for (name, figure) in figures.as_object().unwrap() {
                    let ours = match name.as_str() {
                        "tp" => total.right,
                        "fp" => total.too_many,
                        "fn" => total.missed,
                        _ => metrics[kind][measure][name].as_f64().unwrap(),
                    };
                    let off = (ours - figure.as_f64().unwrap()).abs();
                    assert!(off < 1e-9, "{file} {kind} {measure} {name}: {ours}, expected {figure}");
                    (largest, compared) = (largest.max(off), compared + 1);
                }
            }
        }
    }
    eprintln!("{compared} figures compared, none further off than {largest:e}");
}

#[test]
fn the_labels_are_those_of_the_data() {
    let Some(folder) = folder() else { return };
    let mut actions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut types = BTreeSet::new();
    for file in ["devel.jsonl", "test.jsonl"] {
        for row in Rows::open(folder.join(file)).unwrap().iter() {
            let labels = utterance::labels(&row.unwrap()).unwrap();
            actions.entry(labels.scenario).or_default().insert(labels.action);
            types.extend(labels.entities.into_iter().map(|entity| entity.kind));
        }
    }
    let listed = Inventory::published();
    let sorted = actions
        .into_iter()
        .map(|(scenario, actions)| (scenario, Vec::from_iter(actions)));
    assert_eq!(listed.actions_by_scenario, sorted.collect());
    assert_eq!(listed.entity_types, Vec::from_iter(types));
}
