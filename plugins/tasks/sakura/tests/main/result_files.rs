//! The authors' result files and files of a judge's replies.

use crate::common::{DEMO, task};
use plugin_api::{FileAnswers, FileScores, Reply, Result};
use serde_json::{Value, json};
use testkit::task::{FixedGrader, OnePage, folder, make_files_client, row, score_file, written};

fn scored(kind: &str, name: &str, text: &str) -> Result<FileScores> {
    let folder = folder(&[(name, text)]);
    let answers = FileAnswers {
        kind: kind.to_owned(),
        file: name.into(),
        ..FileAnswers::default()
    };
    score_file("sakura", folder.path(), answers)
}

#[test]
fn a_judges_words_are_scored_and_invalid_ones_count() {
    let lines = r#"{"key": "a", "judge_reply": "Explanation: x\nJudgement: correct"}
        {"key": 7, "judge_reply": "Explanation: x\nJudgement: incorrect"}
        {"judge_reply": "Judgement: correct"}
        {"key": "d", "judge_reply": null}"#;
    let scores = scored("judge_replies", "r.jsonl", lines).unwrap();
    assert_eq!((scores.n, scores.gold_total), (4, None));
    let metrics = json!({"accuracy": 0.25, "correct": 1, "incorrect": 1, "invalid": 2});
    assert_eq!(Value::Object(scores.metrics), metrics);
    let verdict = |key: &str, verdict: &str| json!({"key": key, "verdict": verdict});
    let rows = [("a", "correct"), ("7", "incorrect"), ("3", "invalid"), ("d", "invalid")];
    assert_eq!(scores.rows, rows.map(|(key, word)| verdict(key, word)));
    let error = scored("judge_replies", "r.jsonl", r#"{"key": "a"}"#).unwrap_err();
    assert!(error.message.ends_with("field `judge_reply` is missing"), "{error}");
    assert!(
        scored("judge_replies", "r.jsonl", "")
            .unwrap_err()
            .message
            .ends_with("holds no rows")
    );
}

#[test]
fn a_run_is_written_as_the_authors_results_and_read_back() {
    let task = task(json!({"data": DEMO, "judge": true})).unwrap();
    let all = (0..task.count().unwrap()).map(|index| {
        let target = task.sample(index).unwrap().target;
        let text = if index % 4 == 0 {
            "none"
        } else {
            target.as_str().unwrap()
        };
        let grader = FixedGrader::new("Explanation: x\nJudgement: correct");
        row(&task, index, Reply::text(text), &grader)
    });
    let files = make_files_client("sakura");
    let texts = written(|write| files.export("sakura", &OnePage::new(all), write)).unwrap();
    assert_eq!(texts.len(), 16);
    let animal: Value = serde_json::from_str(&texts["animal_single.json"]).unwrap();
    assert_eq!(
        (&animal["attribute"], &animal["type"]),
        (&json!("Animal"), &json!("single"))
    );
    let result = &animal["results"]["data/Animal/audio/demo_crow.wav"];
    assert_eq!(
        (&result["response"], &result["label"]),
        (&json!("(a) crow"), &json!("(a) crow"))
    );
    let scores = scored("predictions", "animal_single.json", &texts["animal_single.json"]).unwrap();
    assert_eq!(Value::Object(scores.metrics), json!({"rule_acc": 0.5}));
    assert_eq!(
        scores.rows[0],
        json!({"key": "data/Animal/audio/demo_dog.wav", "correct": false, "chosen": null})
    );
    let judged = scored("judge_replies", "j.jsonl", &texts["animal_single_judge_replies.jsonl"]).unwrap();
    assert_eq!(judged.metrics["accuracy"], json!(1.0));
}
