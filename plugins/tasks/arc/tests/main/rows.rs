//! Rows and files of every layout, what is wrong with them, and what the card says of them.

use crate::common::{DEMO, DIGITS, FLAT, NESTED, over, task};
use plugin_api::client::TaskClient;
use plugin_api::{Code, Error};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use testkit::columns::{Column, write_parquet};
use testkit::task::{folder, ids};

#[test]
fn flat_and_nested_rows_are_the_same_question() {
    let (_folder, task) = over(&[FLAT, NESTED, DIGITS], json!({}));
    let (flat, nested) = (task.sample(0).unwrap(), task.sample(1).unwrap());
    assert_eq!(
        (&flat.id, &flat.choices, &flat.target),
        (&nested.id, &nested.choices, &nested.target)
    );
    assert_eq!((flat.target, flat.choices.len()), (json!("B"), 3));
    assert_eq!(
        task.prompt(&nested).unwrap(),
        task.prompt(&task.sample(0).unwrap()).unwrap()
    );
    let digits = task.sample(2).unwrap();
    assert_eq!((digits.target, &digits.doc["answerKey"]), (json!("A"), &json!("1")));
}

/// Rows as the hub has them: their options in two lists, their answer a digit.
fn write_rows(path: &Path, ids: &[&str]) {
    let schema = "message schema {
        optional binary id (UTF8);
        optional binary question (UTF8);
        optional group choices {
            optional group text (LIST) { repeated group list { optional binary element (UTF8); } }
            optional group label (LIST) { repeated group list { optional binary element (UTF8); } }
        }
        optional binary answerKey (UTF8);
    }";
    let levels = [0, 1].repeat(ids.len());
    let columns = [
        Column::new(ids, 1),
        Column::new(&vec!["What is hot?"; ids.len()], 1),
        Column::new(&["ice", "the Sun"].repeat(ids.len()), 4).repeated(levels.clone()),
        Column::new(&["1", "2"].repeat(ids.len()), 4).repeated(levels),
        Column::new(&vec!["2"; ids.len()], 1),
    ];
    write_parquet(path, schema, &columns);
}

#[test]
fn files_and_folders_of_every_published_layout() {
    let check = |root: &Path, settings: Value, expected: &[&str]| {
        let mut settings = settings;
        settings["data"] = json!(root);
        assert_eq!(ids(&task(settings).unwrap()), expected, "{}", root.display());
    };
    let flat = folder(&[("ARC-Easy-Test.jsonl", FLAT), ("ARC-Challenge-Dev.jsonl", DIGITS)]);
    check(flat.path(), json!({}), &["q1"]);
    check(
        flat.path(),
        json!({"subset": "challenge", "split": "validation"}),
        &["q2"],
    );
    check(&flat.path().join("ARC-Challenge-Dev.jsonl"), json!({}), &["q2"]);
    let authors = folder(&[("ARC-V1/ARC-Challenge/ARC-Challenge-Test.jsonl", NESTED)]);
    check(authors.path(), json!({"subset": "challenge"}), &["q1"]);
    let hub = TempDir::new().unwrap();
    write_rows(&hub.path().join("ARC-Easy/test-00000-of-00002.parquet"), &["p1", "p2"]);
    write_rows(&hub.path().join("ARC-Easy/test-00001-of-00002.parquet"), &["p3"]);
    check(hub.path(), json!({}), &["p1", "p2", "p3"]);
    check(&hub.path().join("ARC-Easy"), json!({}), &["p1", "p2", "p3"]);
    let task = task(json!({"data": hub.path()})).unwrap();
    let sample = task.sample(2).unwrap();
    assert_eq!(
        (sample.target, sample.choices),
        (json!("B"), vec!["ice".to_owned(), "the Sun".to_owned()])
    );
}

#[test]
fn a_file_is_what_its_name_says() {
    let folder = folder(&[("ARC-Challenge-Dev.jsonl", FLAT), ("rows.jsonl", FLAT)]);
    let named = folder.path().join("ARC-Challenge-Dev.jsonl");
    let card = task(json!({"data": named})).unwrap().card().unwrap();
    assert_eq!(
        (card.name.as_str(), card.split.as_deref()),
        ("arc_challenge", Some("validation"))
    );
    let card = task(json!({"data": folder.path().join("rows.jsonl")}))
        .unwrap()
        .card()
        .unwrap();
    assert_eq!((card.name.as_str(), card.split.as_deref()), ("arc_easy", None));
    let error = task(json!({"data": named, "subset": "easy"})).err().unwrap();
    assert_eq!(error.code, Code::SETTINGS);
    assert!(error.message.ends_with("which says `challenge`"), "{error}");
}

#[test]
fn a_malformed_row_is_that_samples_error() {
    let check = |row: &str, message: &str| {
        let (_folder, task) = over(&[FLAT, row, DIGITS], json!({}));
        let error = task.sample(1).unwrap_err();
        assert_eq!(error.code, Code::DATA);
        let plain = error.message.replace('`', "");
        assert!(plain.starts_with("line 2 of ") && plain.ends_with(message), "{plain}");
        assert_eq!((ids_of(&task, 0), ids_of(&task, 2)), ("q1".to_owned(), "q2".to_owned()));
    };
    fn ids_of(task: &TaskClient, index: usize) -> String {
        task.sample(index).unwrap().id
    }
    check("{\"id\": ", "is not JSON: EOF while parsing a value at column 7");
    check("[]", "is a list, expected an object");
    check(&FLAT.replace("question", "query"), "field question is missing");
    check(&FLAT.replace("\"What is hot?\"", "\" \""), "field question is empty");
    check(
        &FLAT.replace("\"What is hot?\"", "5"),
        "field question is the number 5, expected text",
    );
    check(&FLAT.replace("\"q1\"", "null"), "field id is missing");
    check(
        &FLAT.replace("\"B\"}", "\"E\"}"),
        "field answerKey is E, expected one of A, B, C",
    );
    check(
        &FLAT.replace("\"B\"}", "\"\"}"),
        "field answerKey is , expected one of A, B, C",
    );
    check(
        &FLAT.replace(", \"C\"]", "]"),
        "field choices.text has 3 texts, but there are 2 labels",
    );
    check(
        &FLAT.replace("\"the Sun\"", "\"\""),
        "field choices.text has no text for option B",
    );
    check(
        &FLAT.replace("\"the Sun\"", "{}"),
        "field choices.text.1 is an object, expected text",
    );
    check(
        &FLAT.replace("\"C\"]", "\"A\"]"),
        "field choices.text has the label A twice",
    );
    check(
        &NESTED.replace("\"label\": \"B\"", "\"l\": 1"),
        "field question.choices.1.label is missing",
    );
    check(&NESTED.replace("stem", "text"), "field question.stem is missing");
}

#[test]
fn data_that_is_not_there_says_what_to_do() {
    let error = |settings: Value| -> Error { task(settings).err().unwrap() };
    let missing = error(json!({}));
    assert_eq!(missing.code, Code::MISSING);
    assert!(missing.help.unwrap().contains("-T data=PATH"));
    let empty = folder(&[("README.md", "nothing"), ("ARC-Easy-Test.jsonl", "")]);
    assert!(error(json!({"data": empty.path()})).message.ends_with("holds no rows"));
    let other = error(json!({"data": empty.path(), "subset": "challenge"}));
    assert!(
        other.message.ends_with("holds no file for ARC-Challenge, test"),
        "{other}"
    );
    let mode = error(json!({"data": DEMO, "mode": "letters"}));
    assert_eq!(
        mode.message,
        "setting `mode` is `letters`, expected one of `letter`, `loglikelihood`, `generate`"
    );
}

#[test]
fn the_card_says_what_is_measured() {
    let check = |settings: Value, name: &str, metrics: &[&str], filter: Option<&str>| {
        let mut settings = settings;
        settings["data"] = json!(DEMO);
        let card = task(settings).unwrap().card().unwrap();
        let names: Vec<_> = card.metrics.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(
            (card.name.as_str(), names.as_slice(), card.filter.as_deref()),
            (name, metrics, filter)
        );
        assert_eq!((card.split.as_deref(), card.version.as_str()), (Some("test"), "1"));
        assert_eq!(card.needs_choices, filter.is_none());
    };
    check(json!({}), "arc_easy", &["acc"], None);
    check(json!({"mode": "generate"}), "arc_easy", &["acc"], Some("letter"));
    check(
        json!({"mode": "loglikelihood"}),
        "arc_easy",
        &["acc", "acc_norm", "acc_bytes"],
        None,
    );
    let challenge = json!({"mode": "loglikelihood", "subset": "challenge"});
    check(challenge, "arc_challenge", &["acc_norm", "acc", "acc_bytes"], None);
}

#[test]
fn the_demo_is_whole() {
    for (subset, count) in [("easy", 10), ("challenge", 8)] {
        let task = task(json!({"data": DEMO, "subset": subset, "shots": 1})).unwrap();
        assert_eq!(task.count().unwrap(), count);
        let answers: std::collections::BTreeSet<String> = (0..count)
            .map(|index| {
                let sample = task.sample(index).unwrap();
                task.prompt(&sample).unwrap();
                sample.target.to_string()
            })
            .collect();
        assert!(
            answers.len() >= 3,
            "one letter must not be right everywhere: {answers:?}"
        );
    }
}
