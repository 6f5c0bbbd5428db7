//! Prediction files: those of others, and the one that a run exports.

use crate::common::{DEMO, demo, row};
use plugin_api::{Code, FileAnswers, FileScores, NoCallbacks, Reply, Result, Row};
use serde_json::{Value, json};
use std::fs;
use testkit::task::{self, OnePage, folder, make_files_client, score_file, written};

/// What comes of a prediction file of this text, against these rows.
fn of_file(text: &str, gold: &[Value]) -> Result<FileScores> {
    let folder = folder(&[("predictions.json", text), ("gold.json", &json!(gold).to_string())]);
    let answers = FileAnswers {
        file: "predictions.json".into(),
        gold: vec!["gold.json".into()],
        ..FileAnswers::default()
    };
    score_file("finqa", folder.path(), answers)
}

const ID: &str = "ACME/2020/page_3.pdf-2";

fn prediction(tokens: &[&str]) -> Value {
    json!({"id": ID, "predicted": tokens})
}

#[test]
fn predictions_are_scored_in_the_order_of_their_file() {
    let right = ["subtract(", "120", "80", ")", "divide(", "#0", "80", ")", "EOF"];
    let mut other = row();
    other["id"] = json!("other");
    let predictions = json!([
        prediction(&right),
        prediction(&["divide(", "40", "80", ")", "EOF"]),
        prediction(&["divide(", "40", "0", ")", "EOF"]),
        prediction(&[]),
        prediction(&["exp(", "-8", "0.5", ")", "EOF"]),
        prediction(&["multiply(", "1e300", "1e300", ")", "EOF"]),
    ]);
    let scores = of_file(&predictions.to_string(), &[row(), other]).unwrap();
    let rows = scores.rows.iter().map(|row| {
        assert_eq!(row["id"], ID);
        (
            row["invalid"] == true,
            row["execution_correct"] == true,
            row["program_correct"] == true,
            row["value"].clone(),
        )
    });
    let rows: Vec<_> = rows.collect();
    let expected = [
        (false, true, true, json!(0.5)),
        (false, true, false, json!(0.5)),
        (true, false, false, json!("n/a")),
        (false, false, false, json!("n/a")),
        (true, false, false, json!("complex")),
        (false, false, false, json!("inf")),
    ];
    assert_eq!(rows, expected);
    let share = |name: &str| scores.metrics[name].as_f64().unwrap();
    assert_eq!(
        (share("execution_accuracy"), share("program_accuracy")),
        (2.0 / 6.0, 1.0 / 6.0)
    );
    // An id twice counts twice, an example without a prediction not at all; both are told.
    assert_eq!(
        (scores.n, scores.gold_total, &scores.other["not_predicted"]),
        (6, Some(2), &json!(1))
    );
    assert_eq!(scores.notes.len(), 2, "{:?}", scores.notes);
}

#[test]
fn a_file_that_is_none_of_predictions_is_an_error_that_names_the_item() {
    let check = |text: &str, gold: &[Value], words: &str| {
        let error = of_file(text, gold).unwrap_err();
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(error.code, Code::DATA);
    };
    let list = |second: Value| json!([prediction(&["EOF"]), second]).to_string();
    check("[]", &[row()], "`predictions.json` holds no predictions");
    check("{", &[row()], "`predictions.json` is not JSON");
    check(
        &list(json!({"id": "x", "predicted": []})),
        &[row()],
        "item 2 of `predictions.json`: field `id` is `x`",
    );
    check(
        &list(json!({"id": ID})),
        &[row()],
        "item 2 of `predictions.json`: field `predicted` is missing",
    );
    check(
        &list(json!({"id": ID, "predicted": "EOF"})),
        &[row()],
        "is the text `EOF`, expected a list",
    );
    check(
        &list(json!({"id": ID, "predicted": ["add(", 5]})),
        &[row()],
        "field `predicted.1` is the number 5",
    );
    check(
        &list(json!(7)),
        &[row()],
        "item 2 of `predictions.json` is the number 7, expected an object",
    );
    check(&list(json!({"predicted": []})), &[row()], "field `id` is missing");
    check(
        &list(prediction(&[])),
        &[row(), row()],
        "item 2 of `gold.json` has the id",
    );
    let mut hidden = row();
    hidden["qa"] = json!({"question": "?"});
    check(&list(prediction(&[])), &[hidden], "has no program and result for");
}

#[test]
fn a_run_comes_to_what_its_prediction_file_does() {
    let export = |settings: Value| -> Result<_> {
        let task = demo(settings);
        let rows = (0..task.count().unwrap()).map(|index| {
            let sample = task.sample(index).unwrap();
            let said = match index % 4 {
                0 => sample.target.as_str().unwrap().to_owned(),
                1 => format!("{}, add(#0, 1)", sample.target.as_str().unwrap()),
                2 => "I don't know".to_owned(),
                _ => "add(1, 2), divide(#0, 0)".to_owned(),
            };
            task::row(&task, index, Reply::text(said), &NoCallbacks)
        });
        let (rows, files): (Vec<Row>, _) = (rows.collect(), make_files_client("finqa"));
        let texts = written(|write| files.export("finqa", &OnePage::new(rows.clone()), write))?;
        assert_eq!(texts.len(), 1);
        Ok((rows, texts["predictions.json"].clone()))
    };
    let (rows, text) = export(json!({})).unwrap();
    let gold: Vec<Value> = serde_json::from_slice(&fs::read(format!("{DEMO}/test.json")).unwrap()).unwrap();
    let scores = of_file(&text, &gold).unwrap();
    assert_eq!(scores.n, rows.len() as u64);
    for (name, share) in &scores.metrics {
        let sum: f64 = rows.iter().map(|row| row.score.values[name]).sum();
        assert_eq!(share.as_f64(), Some(sum / rows.len() as f64), "{name}");
        assert!(sum > 0.0 && sum < rows.len() as f64, "{name}");
    }
    let error = export(json!({"target": "answer"})).unwrap_err();
    assert!(error.message.contains("has no program"), "{error}");
}
