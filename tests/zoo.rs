//! The families of candle-transformers through the real program, in a worker, and the remarks of a model's card below
//! a run's numbers.

use crate::building::repository;
use crate::pairs;
use crate::support::Bench;
use serde_json::Value;
use std::path::Path;

fn results(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("results.json")).expect("results");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_family_answers_a_task_from_a_worker() {
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    bench.check(
        "run --registry pairs.toml --demo --model zoo --task arc --limit 4 --offline",
        0,
        &["arc_easy"],
    );
    let run = bench.directory("zoo-arc");
    let results = results(&run);
    assert_eq!(results["host"]["counts"]["answered"], 4, "{results}");
    let kernels = results["config"]["kernels"].as_str().expect("a class");
    assert!(kernels.starts_with("candle"), "{kernels}");
    for record in bench.records("zoo-arc").values() {
        assert!(
            record["error"].is_null() && record["prompt_tokens"].as_u64() > Some(20),
            "{record}"
        );
    }
    // The same to the bit after a restart, with options instead of texts, and from two workers.
    for (out, workers) in [("one", 1), ("two", 2)] {
        let arguments = format!(
            "run --registry pairs.toml --demo --model zoo --task arc -T mode=loglikelihood --offline --workers {workers} --out {out}"
        );
        bench.check(&arguments, 0, &["arc_easy"]);
    }
    let of = |out: &str| -> Vec<Value> {
        let names = bench.directories(out);
        let records = bench.records_in(&bench.path(out).join(&names[0]));
        records
            .values()
            .map(|record| record["reply"]["options"].clone())
            .collect()
    };
    assert!(of("one").iter().all(|options| options[0]["loglik"].is_number()));
    assert_eq!(of("one"), of("two"));
}

#[test]
fn numbers_of_an_unverified_family_are_marked() {
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    let falcon = repository().join("plugins/models/zoo/golden/falcon");
    let arguments = format!(
        "run --registry pairs.toml --demo --model zoo --task arc --limit 1 --offline -M weights={}",
        falcon.display()
    );
    bench.check(&arguments, 0, &["unverified: the family `falcon`"]);
    let results = results(&bench.directory("zoo-arc"));
    let marks = results["host"]["marks"].to_string();
    assert!(marks.contains("unverified: the family `falcon`"), "{marks}");
}

#[test]
fn families_are_compared_with_their_recordings() {
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    let golden = repository().join("plugins/models/zoo/golden");
    let folders = ["gemma2", "mamba"].map(|family| golden.join(family).display().to_string());
    let arguments = format!("parity --registry pairs.toml --json --model zoo {}", folders.join(" "));
    let out = bench.check(&arguments, 0, &[]);
    let lines: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert!(
        lines.len() >= 6 && lines.iter().all(|line| line["ok"] == true),
        "{lines:?}"
    );
}

#[test]
fn what_a_card_says_stands_beside_the_numbers_and_stays_there() {
    const MARK: &str = "it says the same to everything";
    let bench = Bench::new();
    bench.check("run --model stuck --task count --limit 3", 0, &[MARK]);
    let run = bench.directory("stuck-count");
    let marks = || results(&run)["host"]["marks"].to_string();
    assert!(marks().contains(MARK), "{}", marks());
    bench.check(&format!("score {} --fresh", run.display()), 0, &[]);
    assert!(marks().contains(MARK), "{}", marks());
}
