//! `host run --shard` and `host join`: a run that was split equals one that was not.

use crate::support::Bench;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

fn results(run: &Path) -> Value {
    let mut results: Value = serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap();
    for time in ["date", "total_evaluation_time_seconds"] {
        assert!(results.as_object_mut().unwrap().remove(time).is_some(), "{time}");
    }
    results
}

fn shards(bench: &Bench, of: usize, more: &str) -> String {
    let mut all = Vec::new();
    for index in 0..of {
        bench.check(
            &format!("run --model echo --task count --out parts --shard {index}/{of} {more}"),
            0,
            &[],
        );
        let end = format!("-shard-{index}-of-{of}");
        let mut names = bench.directories("parts").into_iter();
        all.push(format!(
            "parts/{}",
            names.find(|name| name.ends_with(&end)).expect("a shard's directory")
        ));
    }
    all.join(" ")
}

#[test]
fn joined_shards_equal_a_run_that_was_never_split() {
    let bench = Bench::new();
    for more in ["-T n=101 --chains 2", "-T n=50 --limit 3"] {
        bench.check(&format!("run --model echo --task count --fresh {more}"), 0, &[]);
        let whole = bench.directory("echo-count");
        let parts = shards(&bench, 5, more);
        let mut seen = BTreeSet::new();
        for part in parts.split(' ') {
            for doc in std::fs::read_to_string(bench.path(part).join("samples.jsonl"))
                .unwrap_or_default()
                .lines()
            {
                let record: Value = serde_json::from_str(doc).unwrap();
                seen.insert((record["doc_id"].as_u64(), record["chain"].as_u64()));
            }
        }
        bench.check(&format!("join {parts} --out joined"), 0, &[]);
        let joined = bench.path("joined").join(whole.file_name().unwrap());
        let (one, other) = (results(&whole), results(&joined));
        assert_eq!(
            serde_json::to_string_pretty(&one).unwrap(),
            serde_json::to_string_pretty(&other).unwrap()
        );
        let lines = std::fs::read_to_string(joined.join("samples.jsonl"))
            .unwrap()
            .lines()
            .count();
        assert_eq!(lines, seen.len(), "every record is in one shard");
        let toml = |run: &Path| std::fs::read_to_string(run.join("run.toml")).unwrap();
        assert_eq!(toml(&whole), toml(&joined));
        assert!(joined.join("report.html").exists() && joined.join("join.json").exists());
        for folder in ["runs", "parts", "joined"] {
            std::fs::remove_dir_all(bench.path(folder)).unwrap();
        }
    }
}

#[test]
fn shards_that_do_not_belong_together_are_refused_by_name() {
    let bench = Bench::new();
    let parts = shards(&bench, 3, "-T n=30");
    let parts: Vec<&str> = parts.split(' ').collect();
    let [a, b, c] = parts[..] else { panic!("three shards") };
    bench.check(&format!("join {a} {c}"), 3, &["1 of 3 shards are missing: 1/3"]);
    bench.check(&format!("join {a} {b} {b} {c}"), 2, &["shard 1/3 is given twice"]);
    bench.check(
        "run --model echo --task count -T n=30 --out parts --seed 1 --shard 1/3",
        0,
        &[],
    );
    let names = bench.directories("parts");
    let unrelated = names
        .iter()
        .find(|name| name.ends_with("-shard-1-of-3") && !b.ends_with(*name))
        .unwrap();
    bench.check(
        &format!("join {a} parts/{unrelated} {c}"),
        2,
        &["are not of one run: seed differs (0 and 1)"],
    );
    bench.check("run --model echo --task count -T n=30", 0, &[]);
    let whole = bench.directory("echo-count");
    bench.check(&format!("join {}", whole.display()), 2, &["is not a shard of a run"]);
    bench.check("run --model echo --task count --shard 3/3", 2, &["shards count from 0"]);
    bench.check(
        "run --model echo --task count --shard 3",
        2,
        &["expected INDEX/COUNT such as `3/16`"],
    );

    let table = bench.check(
        &format!("join {a} {c} --partial"),
        0,
        &["incomplete:", "of 30 samples are done"],
    );
    assert!(table.contains("|count"), "{table}");
    bench.check(&format!("join {a} {b} {c}"), 2, &["already exists", "`--fresh`"]);
    bench.check(&format!("join {a} {b} {c} --fresh"), 0, &["30 records"]);
}

#[test]
fn a_registry_without_the_task_is_told_before_anything_is_written() {
    let bench = Bench::new();
    let parts = shards(&bench, 2, "-T n=10");
    let registry = std::fs::read_to_string(bench.path("fixtures.toml")).unwrap();
    std::fs::write(
        bench.path("fixtures.toml"),
        registry.replace("[tasks.count]", "[tasks.other]"),
    )
    .unwrap();
    let before = bench.directories("parts");
    bench.check(
        &format!("join {parts}"),
        3,
        &["the run's task `count` is needed to score it"],
    );
    assert_eq!(bench.directories("parts"), before);
    std::fs::write(bench.path("fixtures.toml"), registry).unwrap();
    bench.check(&format!("join {parts}"), 0, &["10 records"]);
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../examples/cluster")
        .join(name)
}

/// Replacements for a cluster's programs.
fn stand_ins(bench: &Bench, programs: &[(&str, &str)]) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::create_dir_all(bench.path("bin")).unwrap();
    for (name, body) in programs {
        let path = bench.path("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[track_caller]
fn sh(bench: &Bench, name: &str, variables: &[(&str, &str)], exit: i32) -> String {
    let path = format!(
        "{}:{}",
        bench.path("bin").display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut command = std::process::Command::new("sh");
    command
        .arg(script(name))
        .args(["--registry", "fixtures.toml"])
        .current_dir(bench.path(""));
    let output = command
        .env("PATH", path)
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{text}");
    text
}

#[test]
fn the_array_of_jobs_splits_a_run_that_joins_again() {
    let bench = Bench::new();
    let host = crate::support::host_program();
    stand_ins(
        &bench,
        &[
            ("srun", "exec \"$@\""),
            ("host", &format!("exec {} \"$@\"", host.display())),
        ],
    );
    for index in ["1", "2", "3"] {
        let variables = [
            ("MODEL", "echo"),
            ("TASK", "count"),
            ("SLURM_ARRAY_TASK_ID", index),
            ("SLURM_ARRAY_TASK_MIN", "1"),
            ("SLURM_ARRAY_TASK_COUNT", "3"),
        ];
        sh(&bench, "evaluate.sh", &variables, 0);
    }
    let parts: Vec<String> = bench
        .directories("runs")
        .iter()
        .map(|name| format!("runs/{name}"))
        .collect();
    bench.check(&format!("join {}", parts.join(" ")), 0, &["records"]);
}

#[test]
fn the_served_model_is_waited_for_and_its_end_ends_the_job() {
    let bench = Bench::new();
    let asked = "case $(cat tries 2>/dev/null) in xx) exit 0 ;; *) printf x >> tries; exit 7 ;; esac";
    let programs = [("vllm", "exec sleep 60"), ("curl", asked), ("host", "echo host \"$@\"")];
    stand_ins(&bench, &programs);
    let variables = [("SERVED", "m"), ("TASK", "count"), ("WAIT", "0.05")];
    let said = sh(&bench, "serve.sh", &variables, 0);
    assert!(
        said.contains("host run --model openai --task count -M base_url=http://127.0.0.1:8000/v1 -M model=m"),
        "{said}"
    );
    stand_ins(&bench, &[("vllm", "exit 1"), ("curl", "exit 7")]);
    let said = sh(&bench, "serve.sh", &variables, 3);
    assert!(said.contains("the server ended before it answered"), "{said}");
    let read = std::process::Command::new("sh")
        .arg("-n")
        .arg(script("train.sh"))
        .status()
        .unwrap();
    assert!(read.success());
}
