//! Files of log-likelihoods, as other harnesses write them.

use crate::common::{DIGITS, FLAT, NESTED, over, scored};
use plugin_api::{FileAnswers, FileScores, NoCallbacks, Result};
use serde_json::json;
use testkit::task::{OnePage, folder, make_files_client, row, score_file, written};

/// What comes of a file of log-likelihoods, against the rows above.
fn of_file(lines: &[&str]) -> Result<FileScores> {
    let nested = NESTED.replace("q1", "q3");
    let rows = folder(&[
        ("ll.jsonl", &lines.join("\n")),
        ("a.jsonl", &[FLAT, DIGITS].join("\n")),
        ("b.jsonl", &[FLAT, &nested].join("\n")),
    ]);
    let answers = FileAnswers {
        file: "ll.jsonl".into(),
        gold: vec!["a.jsonl".into(), "b.jsonl".into()],
        ..FileAnswers::default()
    };
    score_file("arc", rows.path(), answers)
}

#[test]
fn log_likelihoods_of_others_are_scored_as_harnesses_do() {
    let check = |likelihoods: &str, acc: f64, acc_norm: f64| {
        let scores = of_file(&[&format!(r#"{{"id": "q1", "loglikelihoods": {likelihoods}}}"#)]).unwrap();
        assert_eq!(
            scores.rows,
            [json!({"id": "q1", "acc": acc, "acc_norm": acc_norm})],
            "{likelihoods}"
        );
        assert_eq!((scores.n, scores.gold_total), (1, Some(3)));
    };
    // The options are `ice`, `the Sun` and `a rock`; the second is right.
    check("[-3, -1, -2]", 1.0, 1.0);
    check("[-3.5, -4, -9]", 0.0, 1.0);
    check("[-1, -1, -1]", 0.0, 1.0); // the first among equals; by character the longest
    check("[-3, -7, -6]", 0.0, 0.0);
    check("[-1, NaN, -2]", 1.0, 1.0); // the largest of all
    check("[NaN, NaN, -2]", 0.0, 0.0);
    check("[-1, null, -2]", 1.0, 1.0);
    check("[-Infinity, -1e400, -Infinity]", 0.0, 0.0);
    check("[-Infinity, -1e300, -1e308]", 1.0, 1.0);
}

#[test]
fn likelihood_files_are_counted_whole_or_refused_with_the_line() {
    let lines = [
        r#"{"id": "q3", "loglikelihoods": [-1, -2, -3]}"#,
        r#"{"id": "q2", "loglikelihoods": [-1, -2]}"#,
        r#"{"id": "q3", "loglikelihoods": [-2, -1, -3]}"#,
    ];
    let scores = of_file(&lines).unwrap();
    let ids: Vec<_> = scores.rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(
        (ids, &scores.metrics["acc"]),
        (vec!["q3", "q2", "q3"], &json!(2.0 / 3.0))
    );
    assert_eq!((&scores.other["not_predicted"], scores.notes.len()), (&json!(1), 2));
    let check = |line: &str, words: &str| {
        let error = of_file(&[lines[0], line]).unwrap_err();
        assert!(
            error.message.contains(words) && error.message.contains("line 2 of `ll.jsonl`"),
            "{line}: {error}"
        );
    };
    check("{", "is not JSON");
    check(
        r#"{"id": "q9", "loglikelihoods": []}"#,
        "field `id` is `q9`, which the data doesn't have",
    );
    check(
        r#"{"id": "q2", "loglikelihoods": [-1]}"#,
        "has 1 numbers, but the question has 2 options",
    );
    check(
        r#"{"id": "q2", "loglikelihoods": [-1, "x"]}"#,
        "field `loglikelihoods.1` is the text `x`, expected a number",
    );
    check(r#"{"id": "q2"}"#, "field `loglikelihoods` is missing");
    check(r#"{"loglikelihoods": [-1, -2]}"#, "field `id` is missing");
    assert!(of_file(&[]).unwrap_err().message.contains("holds no log-likelihoods"));
}

#[test]
fn a_run_comes_to_what_its_likelihood_file_does() {
    let export = |mode: &str| {
        let (_folder, task) = over(&[FLAT, DIGITS], json!({"mode": mode}));
        let replies = [scored(&[-9.0, f64::NAN, -1.25]), scored(&[-2.5, -0.1])].into_iter();
        let rows = replies
            .enumerate()
            .map(|(index, reply)| row(&task, index, reply, &NoCallbacks));
        let files = make_files_client("arc");
        written(|write| files.export("arc", &OnePage::new(rows), write))
            .map(|texts| texts["loglikelihoods.jsonl"].clone())
    };
    let text = export("loglikelihood").unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"id":"q1","loglikelihoods":[-9.0,"NaN",-1.25]}"#,
            r#"{"id":"q2","loglikelihoods":[-2.5,-0.1]}"#,
        ]
    );
    assert_eq!(of_file(&lines).unwrap().metrics["acc"], json!(0.5));
    assert!(
        export("letter")
            .unwrap_err()
            .message
            .contains("no log-likelihoods of option texts")
    );
}
