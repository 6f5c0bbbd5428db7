//! `--judge`: judges by name, the judge that suits a task, and models in the role of a judge.

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
    // The echo repeats the answer: 7 means yes, 8 means no, and the other eight of ten mean nothing.
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

#[test]
fn a_judge_is_held_against_peoples_labels() {
    let bench = Bench::new();
    // The echo takes 7 as right and 8 as wrong and leaves the rest open; people's labels say that 7, 8 and 9 are
    // right.
    bench.check("run --model echo --task count --judge echo", 0, &[]);
    let run = bench.directory("echo-count");
    let label = |number: usize, right: bool| format!("{{\"sample_id\": \"number-{number}\", \"right\": {right}}}\n");
    let labels = [label(7, true), label(8, true), label(9, true), label(99, false)].concat();
    std::fs::write(bench.path("labels.jsonl"), labels).unwrap();
    let check = format!("judge check labels.jsonl {}", run.display());
    bench.check(
        &check,
        0,
        &[
            "Judge seven[echo] against 2 labels",
            "called wrong, but labelled right: number-8",
        ],
    );
    let output = bench.run(&format!("{check} --judge echo --json"));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["sensitivity"]["value"], 0.5);
    assert_eq!(
        (&found["unscored"], &found["unknown"]),
        (&serde_json::json!(["number-9"]), &serde_json::json!(["number-99"]))
    );
    bench.check(
        &format!("{check} --judge stuck"),
        3,
        &["was not judged by `stuck`", "it was judged by `seven[echo]`"],
    );
    std::fs::write(bench.path("labels.jsonl"), "{\"sample_id\": 7}\n").unwrap();
    bench.check(&check, 3, &["`labels.jsonl` line 1: `sample_id` is missing or no text"]);
}

#[test]
fn a_judge_that_rules_on_several_cases_together_gets_them_together() {
    let bench = Bench::new();
    bench.check("run --model echo --task count --judge panel", 0, &[]);
    let scores = std::fs::read_to_string(bench.directory("echo-count").join("scores.jsonl")).unwrap();
    assert_eq!(scores.matches("ruled together").count(), 10, "{scores}");
}

#[test]
fn a_judge_that_breaks_down_costs_the_cases_that_break_it() {
    // The prompts of 0, 4 and 8 of ten contain the word that breaks it; a worker is restarted, a panic is caught.
    for judge in ["panic", "panic-here", "segfault"] {
        let bench = Bench::new();
        bench.check(
            &format!("run --model echo --task count -T boom=4 --judge {judge}"),
            0,
            &[],
        );
        let found = results(&bench, "echo-count");
        let judged = &found["host"]["judges"][judge];
        assert_eq!(
            (&judged["n"], &judged["unscored"]),
            (&7.into(), &3.into()),
            "{judge}: {judged}"
        );
    }
}

#[test]
fn a_judge_that_hangs_is_given_up_and_the_run_ends() {
    for judge in ["hang", "hang-here"] {
        let bench = Bench::new();
        bench.check(
            &format!("run --model echo --task count -T boom=4 --judge {judge}"),
            0,
            &[],
        );
        let found = results(&bench, "echo-count");
        let judged = &found["host"]["judges"][judge];
        let unscored = judged["unscored"].as_u64().unwrap();
        assert!((3..=10).contains(&unscored), "{judge}: {judged}");
    }
}
