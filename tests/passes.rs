//! Answers first and scores later: the separate passes of a run.

use crate::support::Bench;
use serde_json::{Value, json};
use std::path::Path;

fn results(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap()
}

fn lines(path: &Path) -> usize {
    std::fs::read_to_string(path).unwrap().lines().count()
}

#[test]
fn answers_are_kept_without_scores_and_scored_later_without_the_model() {
    let bench = Bench::new();
    let note = "note: echo on count: 10 answers are not scored yet";
    let table = bench.check("run --model echo --task count --predict-only", 0, &[note]);
    assert!(!table.contains("acc"), "{table}");
    let run = bench.directory("echo-count");
    for record in bench.records("echo-count").values() {
        assert_eq!(
            (&record["pending"], &record["status"]),
            (&json!(true), &json!("unscored"))
        );
        assert_eq!(record["metrics"], json!({}));
        assert!(record["reply"]["text"].is_string());
    }
    let counts = &results(&run)["host"]["counts"];
    assert_eq!((&counts["pending"], &counts["unscored"]), (&json!(10), &json!(0)));
    let answers = std::fs::read(run.join("samples.jsonl")).unwrap();

    let score = format!("score {}", run.display());
    let table = bench.check(&score, 0, &["1.0000"]);
    assert!(!table.contains("not scored yet"), "{table}");
    assert_eq!(results(&run)["results"]["count"]["acc_n,none"], 10);
    assert_eq!(std::fs::read(run.join("samples.jsonl")).unwrap(), answers);
    assert_eq!(lines(&run.join("scores.jsonl")), 10);
    assert_eq!(results_before(&run)["results"]["count"], json!({ "alias": "count" }));
    // A line that was half written by a killed process is ignored.
    let mut text = std::fs::read(run.join("scores.jsonl")).unwrap();
    text.truncate(text.len() - 20);
    std::fs::write(run.join("scores.jsonl"), text).unwrap();
    assert_eq!(bench.check(&score, 0, &[]), table);
    assert_eq!(lines(&run.join("scores.jsonl")), 10);
    bench.check(&score, 0, &[]);
    assert_eq!(lines(&run.join("scores.jsonl")), 10, "nothing is scored twice");
    bench.check(&format!("{score} --fresh"), 0, &[]);
    assert_eq!(lines(&run.join("scores.jsonl")), 20, "unless it is asked for");
}

fn results_before(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("results.old-1.json")).unwrap()).unwrap()
}

#[test]
fn the_same_command_without_the_flag_scores_what_is_there() {
    let bench = Bench::new();
    bench.check("run --model echo --task count --predict-only --limit 4", 0, &[]);
    let run = bench.directory("echo-count");
    let first = std::fs::read(run.join("samples.jsonl")).unwrap();
    let table = bench.check("run --model echo --task count", 0, &["1.0000"]);
    let whole = std::fs::read(run.join("samples.jsonl")).unwrap();
    assert!(whole.starts_with(&first) && whole.len() > first.len());
    let plain = Bench::new().check("run --model echo --task count", 0, &[]);
    assert_eq!(table, plain);
    // Scores are not lost either when the flag is used again.
    assert_eq!(
        bench.check("run --model echo --task count --predict-only", 0, &[]),
        plain
    );
}

#[test]
fn another_scorer_writes_new_results_and_the_old_ones_stay() {
    let bench = Bench::new();
    bench.check("run --model stuck --task count", 0, &["0.1000"]);
    let run = bench.directory("stuck-count");
    let score = format!("score {}", run.display());
    bench.check(&score, 0, &["0.1000"]);
    assert!(
        !run.join("results.old-1.json").exists(),
        "the run's own scorer says the same"
    );
    assert!(!run.join("scores.jsonl").exists());

    let generous = bench.check(
        &format!("{score} -T generous=true"),
        0,
        &["1.0000", "suspect: stuck on count"],
    );
    assert!(generous.contains("1.0000 (suspect)"), "{generous}");
    assert_eq!(results(&run)["configs"]["count"]["settings"]["generous"], true);
    assert_eq!(results_before(&run)["results"]["count"]["acc,none"], 0.1);
    assert_eq!(lines(&run.join("scores.jsonl")), 10);
    // Judges see the score that the results are made of.
    bench.check(&format!("{score} --judge agree"), 0, &["0.1000"]);
    bench.check(&score, 0, &["0.1000"]);
    assert_eq!(results(&run)["results"]["count"]["acc,none"], 0.1);

    bench.check(&format!("{score} -T genrous=true"), 2, &["did you mean `generous`?"]);
    bench.check(&format!("{score} --judge agree --fresh"), 2, &["--fresh"]);
}

#[test]
fn scorers_are_timed_on_what_tasks_hold() {
    let bench = Bench::new();
    let figures: Value = serde_json::from_str(&bench.check("bench score --task count -T n=5 --json", 0, &[])).unwrap();
    let scorer = &figures["scorers"][0];
    assert_eq!((&scorer["task"], &scorer["samples"]), (&json!("count"), &json!(5)));
    assert!(
        scorer["per_second"].as_f64().is_some_and(|rate| rate > 100.0),
        "{figures}"
    );
    assert_eq!(scorer["summed_per_second"], Value::Null, "the host sums this task up");
    bench.check("bench score --task count -T n=0", 3, &["task `count` has no sample"]);
    bench.check("bench score --task conut", 3, &["did you mean `count`?"]);
}
