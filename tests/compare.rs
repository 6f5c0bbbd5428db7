//! `host compare`: two runs, sample by sample.

use crate::support::Bench;
use serde_json::Value;
use std::path::Path;

/// Runs a model on numbers and gives the run's directory.
fn run(bench: &Bench, arguments: &str, out: &str) -> String {
    bench.check(&format!("run {arguments} --out {out} --quiet"), 0, &[]);
    let names = bench.directories(out);
    assert_eq!(names.len(), 1, "{names:?}");
    Path::new(out).join(&names[0]).display().to_string()
}

fn json(bench: &Bench, arguments: &str) -> Value {
    let output = bench.run(&format!("{arguments} --json"));
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn a_run_compared_with_itself_differs_in_nothing() {
    let bench = Bench::new();
    let echo = run(&bench, "--model echo --task count -T n=30", "echo");
    let report = json(&bench, &format!("compare {echo} {echo}"));
    let row = &report["rows"][0];
    assert_eq!(
        (row["metric"].as_str(), row["difference"].as_f64(), row["p"].as_f64()),
        (Some("acc"), Some(0.0), Some(1.0))
    );
    assert_eq!(report["flips"], Value::Array(Vec::new()));
    assert_eq!(report["paired"], 30);
    bench.check(&format!("compare {echo} {echo} --fail-if worse"), 0, &["no difference"]);
}

#[test]
fn a_worse_model_is_found_with_its_flips_and_fails_the_threshold() {
    let bench = Bench::new();
    let echo = run(&bench, "--model echo --task count -T n=30", "echo");
    let stuck = run(&bench, "--model stuck --task count -T n=30", "stuck");
    let report = json(&bench, &format!("compare {echo} {stuck}"));
    let row = &report["rows"][0];
    // The stuck model always says 7: one of 30 is right by chance, and 29 were right only before.
    assert_eq!(
        (row["b"].as_u64(), row["c"].as_u64(), row["n"].as_u64()),
        (Some(29), Some(0), Some(30))
    );
    assert!((row["difference"].as_f64().unwrap() + 29.0 / 30.0).abs() < 1e-12);
    assert!((row["p_mcnemar"].as_f64().unwrap() - 2f64.powi(-28)).abs() < 1e-15);
    assert_eq!(row["decision"], "worse");
    let flips = report["flips"].as_array().unwrap();
    assert_eq!(flips.len(), 29);
    assert_eq!(
        (&flips[0]["flip"], &flips[0]["first_text"], &flips[0]["second_text"]),
        (&"loss".into(), &"0".into(), &"7".into())
    );
    let parities: Vec<_> = report["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["group"].clone())
        .collect();
    assert_eq!(parities, ["parity=even", "parity=odd"]);
    bench.check(&format!("compare {echo} {stuck} --fail-if worse:0.5"), 1, &["worse"]);
    bench.check(&format!("compare {echo} {stuck} --fail-if worse:0.99"), 0, &[]);
    bench.check(&format!("compare {stuck} {echo} --fail-if worse"), 0, &["better"]);
    let csv = bench.check(&format!("compare {echo} {stuck} --format csv"), 0, &[]);
    assert!(csv.starts_with("first,second,metric,"), "{csv}");
}

#[test]
fn several_runs_are_each_compared_with_the_first() {
    let bench = Bench::new();
    let echo = run(&bench, "--model echo --task count -T n=20", "echo");
    let stuck = run(&bench, "--model stuck --task count -T n=20", "stuck");
    let report = json(&bench, &format!("compare {echo} {stuck} {echo}"));
    let comparisons = report["comparisons"].as_array().unwrap();
    let p = |place: usize, name: &str| comparisons[place]["rows"][0][name].as_f64().unwrap();
    assert_eq!(comparisons.len(), 2);
    assert!((p(0, "p_holm") - 2.0 * p(0, "p")).abs() < 1e-12);
    assert_eq!(p(1, "p_holm"), 1.0);
}

#[test]
fn a_judges_verdicts_are_compared_as_the_tasks_scores_are() {
    let bench = Bench::new();
    let echo = run(&bench, "--model echo --task count -T n=20 --judge agree", "echo");
    let stuck = run(&bench, "--model stuck --task count -T n=20 --judge agree", "stuck");
    let report = json(&bench, &format!("compare {echo} {stuck}"));
    let metrics: Vec<_> = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["metric"].clone())
        .collect();
    assert_eq!(metrics, ["acc", "agree"]);
}

#[test]
fn runs_that_asked_something_else_are_refused_with_the_way_out() {
    let bench = Bench::new();
    let whole = run(&bench, "--model echo --task count -T n=20", "whole");
    let boom = run(&bench, "--model echo --task count -T n=20 -T boom=3", "boom");
    bench.check(
        &format!("compare {whole} {boom}"),
        2,
        &["scorer differs", "--across scorer"],
    );
    bench.check(
        &format!("compare {whole} {boom} --across scorer"),
        2,
        &["prompt of sample `number-0` differs", "--across prompts"],
    );
    bench.check(
        &format!("compare {whole} {boom} --across scorer,prompts"),
        0,
        &["with different prompts"],
    );
    bench.check(
        &format!("compare {whole} {boom} --across flavour"),
        2,
        &["unknown name `flavour`"],
    );
    bench.check(&format!("compare {whole} nowhere"), 3, &["is not a run directory"]);
    bench.check(
        &format!("compare {whole} {whole} --fail-if better"),
        2,
        &["--fail-if better"],
    );
    let few = run(&bench, "--model echo --task count -T n=20 --limit 5", "few");
    bench.check(&format!("compare {whole} {few}"), 2, &["5 of 20 samples are in both"]);
}
