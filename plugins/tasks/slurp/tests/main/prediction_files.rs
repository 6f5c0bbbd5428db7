//! Prediction files of others, line by line.

use crate::common::ROW;
use plugin_api::{Code, FileAnswers, Result};
use serde_json::Value;
use testkit::task::{folder, score_file};

/// What comes of a file of these lines, against one row of the data.
fn of_file(lines: &[&str]) -> Result<Value> {
    let folder = folder(&[
        ("predictions.jsonl", &lines.join("\n")),
        ("test.jsonl", &ROW.replace('\n', " ")),
    ]);
    let answers = FileAnswers {
        file: "predictions.jsonl".into(),
        gold: vec!["test.jsonl".into()],
        ..FileAnswers::default()
    };
    Ok(serde_json::to_value(score_file("slurp", folder.path(), answers)?).unwrap())
}

fn prediction(key: &str, action: &str, entities: &str) -> String {
    format!(r#"{{{key}, "scenario": "alarm", "action": {action}, "entities": {entities}}}"#)
}

#[test]
fn a_line_is_what_the_official_script_makes_of_it() {
    let file = |name: &str| format!(r#""file": "{name}""#);
    let check = |lines: &[String], verdicts: &[(&str, bool)], entities: f64, word: f64| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let report = of_file(&lines).unwrap();
        let rows = report["rows"].as_array().unwrap().iter();
        let found: Vec<_> = rows
            .map(|row| (row["key"].as_str().unwrap(), row["intent_correct"].as_bool().unwrap()))
            .collect();
        assert_eq!(found, verdicts, "{lines:?}");
        let figure = |name: &str| report["metrics"]["micro"][name]["f1"].as_f64().unwrap();
        assert_eq!((figure("entities"), figure("word")), (entities, word), "{lines:?}");
    };
    let time = r#"[{"type": "time", "filler": "ten am"}]"#;
    let right = |name: &str| prediction(&file(name), r#""set""#, time);
    let wrong = |name: &str| prediction(&file(name), r#""query""#, "[]");
    check(&[right("audio-1.flac")], &[("audio-1.flac", true)], 1.0, 1.0);
    // The last line of a key counts, and what the data doesn't have is passed over.
    check(
        &[wrong("audio-1.flac"), right("b"), right("audio-1.flac")],
        &[("audio-1.flac", true)],
        1.0,
        1.0,
    );
    let both = [right("audio-2-headset.flac"), wrong("audio-1.flac")];
    check(
        &both,
        &[("audio-2-headset.flac", true), ("audio-1.flac", false)],
        2.0 / 3.0,
        2.0 / 3.0,
    );
    check(
        &[prediction(r#""slurp_id": "7""#, r#""set""#, time)],
        &[("7", true)],
        1.0,
        1.0,
    );
    // Capitals are another filler, and a third key makes another entity, but no other words.
    let one = |entities: &str| prediction(&file("audio-1.flac"), r#""set""#, entities);
    check(
        &[one(r#"[{"type": "time", "filler": "Ten am"}]"#)],
        &[("audio-1.flac", true)],
        0.0,
        2.0 / 3.0,
    );
    check(
        &[one(r#"[{"type": "time", "filler": "ten am", "score": 1}]"#)],
        &[("audio-1.flac", true)],
        0.0,
        1.0,
    );
    // A value that is not text equals nothing.
    check(
        &[prediction(&file("audio-1.flac"), "null", time)],
        &[("audio-1.flac", false)],
        1.0,
        1.0,
    );
    check(
        &[one(r#"[{"type": "date", "filler": null}, {"type": 3}]"#)],
        &[("audio-1.flac", true)],
        0.0,
        0.0,
    );
}

#[test]
fn a_file_that_is_none_of_predictions_is_an_error_that_names_the_line() {
    let check = |lines: &[&str], words: &str| {
        let error = of_file(lines).unwrap_err();
        assert!(error.message.contains(words), "{lines:?}: {error}");
        assert_eq!(error.code, Code::DATA);
    };
    let right = prediction(r#""file": "audio-1.flac""#, r#""set""#, "[]");
    check(&[], "`predictions.jsonl` holds no predictions");
    check(&[&right, "{"], "line 2 of `predictions.jsonl` is not JSON");
    check(
        &[&right, "[1]"],
        "line 2 of `predictions.jsonl`: field `file` is missing",
    );
    check(
        &[r#"{"scenario": "alarm"}"#],
        "line 1 of `predictions.jsonl`: field `file` is missing",
    );
    check(
        &[&prediction(r#""file": "audio-1.flac""#, "[]", "[]")],
        "field `action` is a list",
    );
    check(
        &[&prediction(r#""file": "audio-1.flac""#, r#""set""#, "{}")],
        "field `entities` is an object",
    );
    let entity = prediction(
        r#""file": "audio-1.flac""#,
        r#""set""#,
        r#"[{"type": "time", "filler": 10}]"#,
    );
    check(&[&entity], "field `entities.0.filler` is the number 10, expected text");
    check(
        &[r#"{"file": "audio-1.flac", "action": "set", "entities": []}"#],
        "field `scenario` is missing",
    );
    check(
        &[&prediction(r#""slurp_id": 7"#, r#""set""#, "[]")],
        "none of the predictions is for one of the 1 examples",
    );
}
