//! The published predictions against the official script's figures, where somebody has both.

use data::{Row, Rows};
use serde_json::Value;
use slurp::official::{Gold, Key, score};
use std::path::Path;

/// The folder with SLURP's `test.jsonl`, the published `*_predictions.jsonl`, and the script's own figures of them as
/// `official_results.json`.
const FOLDER: &str = "SLURP_OFFICIAL";

#[test]
fn the_official_figures_are_met() {
    let Ok(folder) = std::env::var(FOLDER) else {
        eprintln!("skipped: {FOLDER} names no folder");
        return;
    };
    let folder = Path::new(&folder);
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
        let began = std::time::Instant::now();
        let scored = score(&gold, rows.iter().cloned().map(Ok), key).unwrap();
        eprintln!(
            "{file}: {} rows, {:.0} a second",
            rows.len(),
            rows.len() as f64 / began.elapsed().as_secs_f64()
        );
        let report = scored.report(false).unwrap();
        assert_eq!(report["n"], expected["scored"]);
        assert_eq!(report["gold_total"], expected["gold_total"]);
        assert_eq!(report["not_predicted"], expected["gold_not_predicted"]);
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
                        _ => report["metrics"][kind][measure][name].as_f64().unwrap(),
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
