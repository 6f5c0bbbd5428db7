//! `--judge`: judges by name, the judge that suits a task, and models that play it.

use crate::support::Bench;
use serde_json::Value;

fn results(bench: &Bench, run: &str) -> Value {
    let text = std::fs::read_to_string(bench.directory(run).join("results.json")).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_models_name_stands_for_the_judge_that_suits_the_task() {
    let bench = Bench::new();
    let table = bench.check("run --model echo --task count --judge stuck", 0, &[]);
    assert!(table.contains("seven[stuck]"), "{table}");
    let found = results(&bench, "echo-count");
    assert_eq!(found["results"]["count"]["seven[stuck],judge"], 1.0);
    let judge = &found["host"]["judges"]["seven[stuck]"];
    assert_eq!(judge["graders"]["judge"][0]["model"], "stuck");
    assert_eq!(
        (&judge["n"], &judge["unscored"], &judge["bounds"]),
        (&10.into(), &0.into(), &Value::Null)
    );
    assert_eq!(judge["self_judged"], false);
}

#[test]
fn auto_is_the_judge_that_suits_the_task_with_the_commands_roles() {
    let bench = Bench::new();
    let command = "run --model echo --task count --judge auto";
    bench.check(&format!("{command} --role judge=stuck"), 0, &[]);
    assert_eq!(results(&bench, "echo-count")["results"]["count"]["seven,judge"], 1.0);
    let missing = ["judge `seven` asks a model in the role `judge`", "--judge MODEL"];
    bench.check(&format!("{command} --out other"), 2, &missing);
    assert!(!bench.path("other").exists(), "nothing was run");
}

#[test]
fn what_a_judge_cannot_rule_on_gives_bounds_and_is_never_wrong_or_right() {
    let bench = Bench::new();
    // The echo repeats the answer: 7 is a yes, 8 a no, and the other eight of ten say nothing.
    let words = [
        "left 8 answers unscored: scored 2 of 10, between 0.1000 if all of them were wrong and 0.9000",
        "is suspect: 8 of 10 answers are unscored",
        "rules on its own answers (self_judged)",
    ];
    bench.check("run --model echo --task count --judge echo", 0, &words);
    let found = results(&bench, "echo-count");
    assert_eq!(found["results"]["count"]["seven[echo],judge"], 0.5);
    assert_eq!(
        found["results"]["count"]["seven[echo]_bounds,judge"],
        serde_json::json!([0.1, 0.9])
    );
    let run = bench.directory("echo-count");
    let scored = bench.check(
        &format!("score {} --judge echo,stuck", run.display()),
        0,
        &["0.5000 (suspect)"],
    );
    assert!(scored.contains("seven[stuck]") && scored.contains("1.0000"), "{scored}");
}

#[test]
fn several_judges_rule_beside_each_other_and_each_is_known_by_its_model() {
    let bench = Bench::new();
    bench.check("run --model echo --task count --judge agree,stuck,echo", 0, &[]);
    let judges = results(&bench, "echo-count")["host"]["judges"].clone();
    let names: Vec<&String> = judges.as_object().unwrap().keys().collect();
    assert_eq!(names, ["agree", "seven[stuck]", "seven[echo]"]);
    let run = bench.directory("echo-count");
    let verdicts = || {
        std::fs::read_to_string(run.join("scores.jsonl"))
            .unwrap()
            .lines()
            .count()
    };
    assert_eq!(verdicts(), 30);
    bench.check(
        &format!("score {} --judge stuck --role judge=echo", run.display()),
        0,
        &[],
    );
    assert_eq!(verdicts(), 30, "the same model judges nothing twice");
}

#[test]
fn a_name_that_is_neither_judge_nor_model_is_refused_with_the_nearest() {
    let bench = Bench::new();
    let words = ["neither a judge nor a model `stack`", "did you mean `stuck`?"];
    bench.check("run --model echo --task count --judge stack", 2, &words);
}
