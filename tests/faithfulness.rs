//! `host faithfulness` from outside: models whose answers follow their reasoning or ignore it, kills, bad input.

use crate::support::Bench;
use serde_json::Value;
use std::path::PathBuf;
use std::time::Duration;

/// The figures of one experiment of a sweep.
#[track_caller]
fn figures(bench: &Bench, model: &str, flags: &str) -> Value {
    let run = run_of(bench, model);
    let out = bench.check(&format!("faithfulness {} {flags} --json", run.display()), 0, &[]);
    let all: Value = serde_json::from_str(&out).unwrap();
    all[model]["riddles"].clone()
}

fn run_of(bench: &Bench, model: &str) -> PathBuf {
    if !bench.path("runs").exists() || !bench.directories("runs").iter().any(|name| name.starts_with(model)) {
        bench.check(&format!("run --model {model} --task riddles --chains 2"), 0, &[]);
    }
    bench.directory(model)
}

fn sweep_of(run: &std::path::Path) -> PathBuf {
    let mut found = std::fs::read_dir(run.join("faithfulness"))
        .unwrap()
        .map(|entry| entry.unwrap().path());
    found.next().unwrap()
}

#[test]
fn an_answer_that_follows_its_reasoning_comes_out_as_one_and_one_that_ignores_it_as_zero() {
    let bench = Bench::new();
    let found = figures(&bench, "follower", "--experiments all");
    let early = &found["early_answering"];
    assert_eq!(early["verdict"]["follows"], 1.0, "{early}");
    assert_eq!(early["verdict"]["floor"], 0.0);
    // The colour is named in the second of three sentences.
    assert!((early["full"]["aoc"].as_f64().unwrap() - 0.5).abs() < 1e-9);
    assert_eq!(early["full"]["commit_mean"], 2.0 / 3.0);
    assert_eq!(found["no_reasoning"]["baseline"]["flip_rate"], 1.0);
    assert_eq!(found["conditioned"]["baseline"]["flip_rate"], 0.0);
    assert_eq!(found["adding_mistakes"]["baseline"]["chains_complete"], 12);
    let found = figures(&bench, "ignorer", "--experiments all");
    let early = &found["early_answering"];
    assert_eq!(early["verdict"]["follows"], 0.0);
    assert_eq!(
        (&early["full"]["aoc"], &early["baseline"]["aoc"]),
        (&Value::from(0.0), &Value::from(0.0))
    );
    assert_eq!(found["adding_mistakes"]["baseline"]["aoc"], 0.0);
    assert_eq!(found["partial_filler_text"]["full"]["aoc"], 0.0);
}

#[test]
fn a_model_that_scores_no_options_is_read_as_text_and_that_is_said() {
    let bench = Bench::new();
    bench.check("run --model follower --task riddles -M scores=false", 0, &[]);
    let run = bench.directory("follower");
    let words = ["does not score options"];
    bench.check(
        &format!("faithfulness {} --experiments early_answering", run.display()),
        0,
        &words,
    );
    let text = std::fs::read_to_string(sweep_of(&run).join("results.json")).unwrap();
    let found: Value = serde_json::from_str(&text).unwrap();
    let early = &found["follower"]["riddles"]["early_answering"];
    assert_eq!(early["verdict"]["follows"], 1.0, "{early}");
    assert_eq!(early["validity"]["answered_by"]["text"], 24);
}

/// So many kills, spread over the sweep: `SWEEP_KILLS=20` for the long version.
#[test]
fn a_sweep_that_is_killed_ends_with_the_files_of_one_that_was_not() {
    let kills: usize = std::env::var("SWEEP_KILLS").map_or(4, |kills| kills.parse().expect("a number"));
    let bench = Bench::new();
    bench.check("run --model follower --task riddles -M delay_ms=3", 0, &[]);
    let run = bench.directory("follower");
    let command = format!(
        "faithfulness {} --experiments early_answering,adding_mistakes,partial_filler_text --quiet",
        run.display()
    );
    bench.check(&command, 0, &[]);
    let sweep = sweep_of(&run);
    let files =
        || ["samples.jsonl", "writes.jsonl", "results.json"].map(|name| std::fs::read(sweep.join(name)).unwrap());
    let whole = files();
    // What is written comes first, then the answers.
    let lines = || {
        let count = |name: &str| {
            let bytes = std::fs::read(sweep.join(name)).unwrap_or_default();
            bytes.iter().filter(|byte| **byte == b'\n').count()
        };
        count("writes.jsonl") + count("samples.jsonl")
    };
    let all = lines();
    let mut in_the_middle = 0;
    for kill in 0..kills {
        std::fs::remove_dir_all(&sweep).unwrap();
        let mut child = bench.command(&command).spawn().unwrap();
        let wanted = 1 + all * kill / kills;
        while lines() < wanted && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();
        in_the_middle += usize::from((1..all).contains(&lines()));
        bench.check(&command, 0, &[]);
        assert!(files() == whole, "after kill {kill} of {kills}");
    }
    assert_eq!(in_the_middle, kills, "kills came too late");
}

#[test]
fn what_can_not_be_asked_about_is_told() {
    let bench = Bench::new();
    bench.check("run --model echo --task count -T n=3", 0, &[]);
    let run = bench.directory("echo-count").display().to_string();
    bench.check(
        &format!("faithfulness {run} --experiments nonsense"),
        2,
        &["unknown experiment `nonsense`"],
    );
    bench.check(
        "faithfulness nowhere --experiments conditioned",
        3,
        &["`nowhere` is not a run directory"],
    );
    let riddles = run_of(&bench, "follower").display().to_string();
    bench.check(
        &format!("faithfulness {riddles} --experiments audio_masking"),
        2,
        &["changes the sound"],
    );
    std::fs::write(
        bench.path("other.jsonl"),
        "{\"id\": \"elsewhere\", \"chain_id\": 0, \"sentence_idx\": 0, \"mistaken_sentence\": \"x\"}\n",
    )
    .unwrap();
    let foreign = format!("faithfulness {riddles} --experiments adding_mistakes --perturbations other.jsonl");
    bench.check(&foreign, 3, &["it is about other questions, such as `elsewhere`"]);
    bench.check("faithfulness import other.jsonl", 3, &["no file holds a row"]);
}

#[test]
fn a_sweep_is_exported_and_read_back_with_the_same_figures() {
    let bench = Bench::new();
    let own = figures(
        &bench,
        "follower",
        "--experiments early_answering,conditioned,partial_filler_text",
    );
    let run = run_of(&bench, "follower");
    bench.check(
        &format!("export {} --format faithfulness-r3 --out r3", run.display()),
        0,
        &[],
    );
    let out = bench.check("faithfulness import r3 --json", 0, &[]);
    let all: Value = serde_json::from_str(&out).unwrap();
    for experiment in ["early_answering", "partial_filler_text"] {
        for reference in ["baseline", "full"] {
            let (one, other) = (
                &own[experiment][reference],
                &all["follower"]["riddles"][experiment][reference],
            );
            for key in ["used", "curve", "aoc", "slope", "chains_complete", "commit_mean"] {
                assert_eq!(one[key], other[key], "{experiment} {reference} {key}");
            }
        }
    }
    bench.check("faithfulness verify r3", 0, &["counts_match"]);
}

#[test]
fn the_first_release_s_files_are_written_and_read_back() {
    let bench = Bench::new();
    let own = figures(&bench, "follower", "--experiments conditioned");
    let run = run_of(&bench, "follower");
    bench.check(
        &format!("export {} --format faithfulness-r1 --out r1", run.display()),
        0,
        &[],
    );
    let out = bench.check(
        "faithfulness import r1 --model follower --dataset riddles --json",
        0,
        &[],
    );
    let all: Value = serde_json::from_str(&out).unwrap();
    let read = &all["follower"]["riddles"];
    assert_eq!(
        read["baseline"]["baseline"]["used"], 12,
        "two chains of six questions: {read}"
    );
    // The first release asks about the first chain alone.
    let (one, other) = (&own["conditioned"]["baseline"], &read["conditioned"]["baseline"]);
    assert_eq!(
        (&other["used"], &other["flip_rate"]),
        (&Value::from(6), &one["flip_rate"])
    );
    assert_eq!(one["used"], 12);
}
