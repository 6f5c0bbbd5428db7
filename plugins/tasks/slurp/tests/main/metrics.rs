//! The figures of a whole run.

use crate::common::{DEMO, RIGHT, ROW, demo, over};
use plugin_api::client::TaskClient;
use plugin_api::{FileAnswers, Metric, NoCallbacks, Reply, Row};
use serde_json::{Value, json};
use std::path::Path;
use testkit::task::{OnePage, folder, make_files_client, row, score_file, written};

/// Replies with slips of every kind, and what the task makes of them.
fn scored(task: &TaskClient) -> Vec<Row> {
    let rows = (0..task.count().unwrap()).map(|index| {
        let sample = task.sample(index).unwrap();
        let right = sample.target.to_string();
        let reply = match index % 5 {
            0 => right,
            1 => format!("Well: {}", right.replace("query", "set")),
            2 => right.replace("filler\":\"", "filler\":\"the "),
            3 => "no idea".to_owned(),
            _ => right.replace("\"type\"", "\"kind\""),
        };
        row(task, index, Reply::text(reply), &NoCallbacks)
    });
    rows.collect()
}

fn metric<'a>(metrics: &'a [Metric], name: &str, filter: &str, group: Option<&str>) -> &'a Metric {
    let fits = |metric: &&Metric| metric.name == name && metric.filter == filter && metric.group.as_deref() == group;
    metrics
        .iter()
        .find(fits)
        .unwrap_or_else(|| panic!("no {name} {filter} {group:?}"))
}

#[test]
fn a_run_comes_to_what_the_official_rules_make_of_its_prediction_file() {
    let task = demo(json!({"labels": true}));
    let rows = scored(&task);
    let files = make_files_client("slurp");
    let texts = written(|write| files.export("slurp", &OnePage::new(rows.clone()), write)).unwrap();
    let folder = folder(&[("p.jsonl", &texts["prediction_labels_only.jsonl"])]);
    let answers = FileAnswers {
        file: "p.jsonl".into(),
        gold: vec![Path::new(DEMO).join("test.jsonl")],
        ..FileAnswers::default()
    };
    let official = score_file("slurp", folder.path(), answers).unwrap();
    assert_eq!(
        (&official.other["not_predicted"], &official.other["unknown"]),
        (&json!(0), &json!(0))
    );
    assert_eq!(
        (official.n, official.gold_total, official.rows.len()),
        (11, Some(11), 11)
    );
    let kept: Value = serde_json::from_str(&texts["metrics_label_only.json"]).unwrap();
    let report = official.metrics;
    assert_eq!(kept["intent_acc"], report["micro"]["intent"]["f1"]);
    assert_eq!(kept["entity_recall"], report["micro"]["entities"]["recall"]);
    let metrics = task.metrics(&OnePage::new(rows)).unwrap();
    let value = |name: &str| metric(&metrics, name, "", None).value;
    for (ours, theirs) in [
        ("scenario_acc", "scenario"),
        ("action_acc", "action"),
        ("intent_acc", "intent"),
    ] {
        assert_eq!(Some(value(ours)), report["micro"][theirs]["f1"].as_f64());
    }
    for (ours, theirs) in [
        ("entity", "entities"),
        ("word", "word"),
        ("char", "char"),
        ("slu", "slu_f1"),
    ] {
        for figure in ["precision", "recall", "f1"] {
            let near = |ours: f64, theirs: &Value| (ours - theirs.as_f64().unwrap()).abs() < 1e-12;
            assert!(
                near(value(&format!("{ours}_{figure}")), &report["micro"][theirs][figure]),
                "{ours} {figure}"
            );
            assert!(
                near(
                    value(&format!("macro_{ours}_{figure}")),
                    &report["macro"][theirs][figure]
                ),
                "{ours} {figure}"
            );
        }
    }
    let labels = &official.other["labels"];
    let of_date = metric(&metrics, "slu_f1", "", Some("entity=date")).value;
    assert!((of_date - labels["slu_f1"]["date"]["f1"].as_f64().unwrap()).abs() < 1e-12);
}

#[test]
fn what_was_no_json_and_what_was_not_heard_is_counted() {
    let task = demo(json!({"hypotheses": format!("{DEMO}/hypotheses.jsonl")}));
    let rows = scored(&task);
    let metrics = task.metrics(&OnePage::new(rows)).unwrap();
    let value = |name: &str, filter: &str, group: Option<&str>| metric(&metrics, name, filter, group).value;
    // Of 11 samples the fourth and the ninth have no labels; the second and the seventh have words before them.
    assert_eq!(value("json_read", "", None), 9.0 / 11.0);
    assert!(value("json_strict", "", None) < value("json_read", "", None));
    assert!(value("intent_acc", "strict", None) < value("intent_acc", "", None));
    assert_eq!(value("audio_missing", "", None), 9.0 / 11.0);
    assert_eq!(metric(&metrics, "intent_acc", "", Some("audio=clip")).count, 2);
    assert_eq!(metric(&metrics, "intent_acc", "", Some("scenario=alarm")).count, 2);
    assert!(metrics.iter().all(|metric| metric.value.is_finite()));
}

#[test]
fn the_recordings_of_an_utterance_are_one_cluster() {
    // Two utterances of two recordings each, both of one right and of the other wrong: as sure as two samples.
    let other = ROW
        .replace("\"slurp_id\": 7", "\"slurp_id\": 8")
        .replace("audio-", "audio-9");
    let (_folder, task) = over(&[ROW, &other], &[], json!({}));
    let task = task.unwrap();
    let rows = (0..4).map(|index| {
        let reply = if index < 2 { RIGHT } else { "no idea" };
        row(&task, index, Reply::text(reply), &NoCallbacks)
    });
    let metrics = task.metrics(&OnePage::new(rows)).unwrap();
    let intent = metric(&metrics, "intent_acc", "", None);
    assert_eq!((intent.value, intent.stderr, intent.count), (0.5, Some(0.5), 4));
    assert_eq!(intent.interval, Some((0.0, 1.0)));
    assert_eq!(
        metric(&metrics, "slu_f1", "", None).stderr.map(|stderr| stderr > 0.0),
        Some(true)
    );
}

#[test]
fn figures_that_do_not_vary_are_not_held_for_certain() {
    let task = demo(json!({"input": "transcript"}));
    let rows = (0..10).map(|index| {
        let right = task.sample(index).unwrap().target.to_string();
        row(&task, index, Reply::text(right), &NoCallbacks)
    });
    let metrics = task.metrics(&OnePage::new(rows)).unwrap();
    let intent = metric(&metrics, "intent_acc", "", None);
    let (low, high) = intent.interval.unwrap(); // ten of ten: 72% to 100%
    assert!((low - 0.7225).abs() < 1e-4 && high > 0.999_999, "{low} to {high}");
    assert_eq!(metric(&metrics, "slu_f1", "", None).interval, None);
    assert!(!metrics.iter().any(|metric| {
        metric
            .group
            .as_deref()
            .is_some_and(|group| group.starts_with("microphone"))
    }));
}

#[test]
fn no_rows_come_to_no_nonsense() {
    let task = demo(json!({}));
    let metrics = task.metrics(&OnePage::new([])).unwrap();
    assert!(
        metrics
            .iter()
            .all(|metric| metric.count == 0 && metric.stderr.is_none())
    );
}
