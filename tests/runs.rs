//! `host run` in end-to-end tests: the real program, real plugins, real files, and whatever people do to them.

use crate::support::Bench;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use serde_json::Value;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[test]
fn a_run_prints_a_table_and_leaves_everything_on_disk() {
    let bench = Bench::new();
    let table = bench.check("run --model echo --task count -T n=20", 0, &[]);
    assert!(table.starts_with("|Tasks"), "{table}");
    assert!(
        table.contains("|count")
            && table.contains("|acc")
            && table.contains("1.0000")
            && table.contains("0.8389 to 1.0000"),
        "{table}"
    );
    assert!(!table.contains("parity=even"), "{table}");
    assert!(
        table.contains("2 numbers by group are in results.json; `--groups` prints them"),
        "{table}"
    );
    let groups = bench.check("run --model echo --task count -T n=20 --groups", 0, &[]);
    assert!(groups.contains(" - parity=even"), "{groups}");
    let run = bench.directory("echo-count");
    for file in [
        "run.toml",
        "samples.jsonl",
        "results.json",
        "timing.json",
        "log.jsonl",
        "report.html",
    ] {
        assert!(run.join(file).exists(), "{file}");
    }
    let results: Value = serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap();
    assert_eq!(results["results"]["count"]["acc,none"], 1.0);
    assert_eq!(results["n-samples"]["count"]["effective"], 20);
    assert_eq!(results["higher_is_better"]["count"]["acc"], true);
    let timing: Value = serde_json::from_slice(&std::fs::read(run.join("timing.json")).unwrap()).unwrap();
    for key in [
        "inference_total_seconds",
        "inference_latency_ms_avg",
        "inference_latency_ms_p99",
    ] {
        assert!(timing[key].as_f64().is_some_and(|value| value >= 0.0), "{key}");
    }
    let record = &bench.records("echo-count")[&3];
    assert_eq!(record["resps"], serde_json::json!([["3"]]));
    assert_eq!(record["filtered_resps"], serde_json::json!(["3"]));
    for hash in ["doc_hash", "prompt_hash", "target_hash", "plugin_hash", "key"] {
        assert_eq!(record[hash].as_str().map(str::len), Some(64), "{hash}");
    }
}

#[test]
fn the_same_command_again_does_nothing_twice_and_says_the_same() {
    let bench = Bench::new();
    let first = bench.check("run --model echo --task count", 0, &[]);
    let before = std::fs::read(bench.directory("echo-count").join("samples.jsonl")).unwrap();
    let second = bench.check("run --model echo --task count", 0, &[]);
    let after = std::fs::read(bench.directory("echo-count").join("samples.jsonl")).unwrap();
    assert_eq!((first, before), (second, after));
    bench.check("run --model echo --task count --fresh", 0, &[]);
    assert_eq!(
        std::fs::read_dir(bench.path("runs")).unwrap().count(),
        2,
        "the former run is kept"
    );
}

#[test]
fn a_run_that_was_killed_goes_on_and_ends_as_if_nothing_had_been() {
    let bench = Bench::new();
    let arguments = "run --model echo --task count -T n=120 -M delay_ms=5";
    for _ in 0..3 {
        let mut child = bench.start_and_wait(arguments, "echo-count");
        std::thread::sleep(Duration::from_millis(60));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    // A line that was half written by a killed process.
    let samples = bench.directory("echo-count").join("samples.jsonl");
    let mut text = std::fs::read(&samples).unwrap();
    text.extend(b"{\"key\": \"torn");
    std::fs::write(&samples, text).unwrap();
    assert!(bench.lines("echo-count") < 120, "it was not killed in time");
    bench.check(&format!("{arguments} --workers 2"), 0, &["1.0000"]);
    let resumed = bench.records("echo-count");
    let whole = Bench::new();
    whole.check(arguments, 0, &[]);
    assert_eq!(resumed, whole.records("echo-count"));
}

#[test]
fn ctrl_c_ends_a_run_cleanly_and_it_goes_on_later() {
    for model in ["echo", "echo-apart"] {
        let bench = Bench::new();
        let arguments = format!("run --model {model} --task count -T n=60 -M delay_ms=20");
        let child = bench.start_and_wait(&arguments, model);
        let status = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let output = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(130), "{words}");
        assert!(
            words.contains("interrupted") && words.contains("goes on from here"),
            "{words}"
        );
        assert!(bench.lines(model) < 60);
        bench.check(&arguments, 0, &["1.0000"]);
        assert_eq!(bench.records(model).len(), 60);
    }
}

#[test]
fn a_run_that_can_not_be_written_keeps_what_is_finished_and_goes_on_later() {
    for model in ["echo", "echo-apart"] {
        let bench = Bench::new();
        let arguments = format!("run --model {model} --task count -T n=60 -M delay_ms=20");
        let child = bench.start_and_wait(&arguments, model);
        // Like a full disk: there is room for part of a line.
        let samples = bench.directory(model).join("samples.jsonl");
        let most = Some(samples.metadata().unwrap().len() + 100);
        let limit = Rlimit {
            current: most,
            maximum: most,
        };
        prlimit(Some(Pid::from_child(&child)), Resource::Fsize, limit).unwrap();
        let output = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(6), "{words}");
        for said in [
            "cannot write",
            "samples.jsonl",
            "File too large",
            "the same command goes on",
        ] {
            assert!(words.contains(said), "`{said}` is not in {words}");
        }
        assert!(bench.lines(model) < 60, "it was cut short");
        bench.check(&arguments, 0, &["1.0000"]);
        assert_eq!(bench.records(model).len(), 60);
    }
}

#[test]
fn results_that_can_not_be_written_are_no_success() {
    let bench = Bench::new();
    let arguments = "run --model echo --task count -T n=5";
    bench.check(arguments, 0, &[]);
    let (records, run) = (bench.records("echo-count"), bench.directory("echo-count"));
    let full = run.join("results.json.partial");
    std::os::unix::fs::symlink("/dev/full", &full).unwrap();
    bench.check(
        arguments,
        6,
        &["results.json`", "No space left on device", "finished samples are kept"],
    );
    std::fs::remove_file(&full).unwrap();
    bench.check(arguments, 0, &["1.0000"]);
    assert_eq!(bench.records("echo-count"), records);

    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = bench.command("ls models --json").stdout(full).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{words}");
    assert!(words.contains("cannot write `standard output`"), "{words}");
}

#[test]
fn a_sample_that_fails_is_a_record_and_not_the_end() {
    let bench = Bench::new();
    let out = bench.check(
        "run --model echo --task count -T broken=3",
        1,
        &["1 of 10 samples of echo on count failed", "--retry-errors"],
    );
    assert!(out.contains("note: echo on count: 1 of 10 samples failed"), "{out}");
    let record = &bench.records("echo-count")[&3];
    assert_eq!(
        record["error"]["message"],
        "sample 3 is broken, as the settings want it"
    );
    bench.check("run --model echo --task count -T broken=3 --fail-on-error 1", 0, &[]);
    bench.check("run --model echo --task count -T broken=3 --fail-on-error 0.05", 1, &[]);
}

#[test]
fn faults_in_a_worker_cost_their_samples_and_nothing_else() {
    for (model, words) in [
        ("panic", "panicked in `serve`: this is the panic's text"),
        ("segfault", "signal 11"),
        ("exit", "exited with code 7"),
        ("abort", "signal 6"),
        ("hang", "no answer within 1s"),
        ("memory", "memory"),
    ] {
        let bench = Bench::new();
        bench.check(
            &format!("run --model {model} --task count -T n=7 -T boom=3 --batch-size 3"),
            1,
            &["3 of 7 samples"],
        );
        for (number, record) in bench.records(model) {
            if number % 3 == 0 {
                let error = record["error"].to_string();
                assert!(error.contains(words), "{model}: `{words}` is not in {error}");
            } else {
                assert_eq!(record["metrics"]["acc"], 1.0, "{model}: {record}");
            }
        }
    }
}

#[test]
fn a_panic_in_this_process_costs_its_sample_and_nothing_else() {
    let bench = Bench::new();
    bench.check(
        "run --model panic-here --task count -T n=7 -T boom=3",
        1,
        &["3 of 7 samples"],
    );
    assert_eq!(bench.records("panic-here").len(), 7);
}

#[test]
fn a_hang_in_this_process_ends_the_run_with_a_word_about_workers() {
    let bench = Bench::new();
    bench.check(
        "run --model hang-here --task count -T n=7 -T boom=3",
        5,
        &["can't be stopped", "isolation = \"process\""],
    );
    // Also if nothing else was left to ask.
    bench.check(
        "run --model hang-here --task count -T n=1 -T boom=1 --out last",
        5,
        &["can't be stopped"],
    );
    bench.check(
        "run --model echo --task count --time-limit 0.05s -T n=500 -M delay_ms=5",
        5,
        &["the time limit is over"],
    );
}

#[test]
fn what_looks_broken_is_marked() {
    let bench = Bench::new();
    let table = bench.check("run --model stuck --task count", 0, &[]);
    assert!(table.contains("0.1000 (suspect)"), "{table}");
    assert!(
        table.contains("suspect: stuck on count: the same answer (`7`) to all 10 samples"),
        "{table}"
    );
    bench.check("ls runs", 0, &["suspect"]);
}

#[test]
fn a_model_hears_what_it_can_and_the_record_says_what_it_got() {
    let bench = Bench::new();
    let clips = bench.path("clips");
    std::fs::create_dir(&clips).unwrap();
    let audio = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/audio");
    let tone = std::fs::read_dir(audio)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "flac"));
    std::fs::copy(tone.expect("a flac fixture"), clips.join("1-tone.flac")).unwrap();
    std::fs::copy(clips.join("1-tone.flac"), clips.join("2-said.flac")).unwrap();
    std::fs::write(clips.join("3-text.wav"), "this is no sound").unwrap();
    bench.check(
        "run --model echo,echo-apart --task clips -T folder=clips --fail-on-error 1",
        0,
        &["1 of 3 samples failed"],
    );
    let (here, apart) = (bench.records("echo-clips"), bench.records("echo-apart-clips"));
    assert_eq!(here[&0]["reply"]["text"], apart[&0]["reply"]["text"]);
    assert_eq!(here[&0]["input"], "audio");
    assert_eq!(here[&0]["audio"][0]["rate"], 16000);
    assert!(
        here[&0]["reply"]["text"].as_str().unwrap().contains("heard"),
        "{}",
        here[&0]
    );
    assert!(
        here[&2]["error"]["message"].as_str().unwrap().contains("3-text.wav"),
        "{}",
        here[&2]
    );
    let table = bench.check(
        "run --model stuck --task clips -T folder=clips",
        0,
        &["input: blind", "input: words"],
    );
    assert!(
        !table.contains("failed"),
        "a model that hears nothing needs no file: {table}"
    );
    let deaf = bench.records("stuck-clips");
    assert_eq!(
        (&deaf[&0]["input"], &deaf[&1]["input"]),
        (&"blind".into(), &"words".into())
    );
}

#[test]
fn judges_rule_during_a_run_and_after_it() {
    let bench = Bench::new();
    let table = bench.check("run --model stuck --task count --judge agree", 0, &[]);
    assert!(
        table
            .lines()
            .any(|line| line.contains("|judge ") && line.contains("|agree") && line.contains("0.1000")),
        "{table}"
    );
    bench.check("run --model echo --task count", 0, &[]);
    let run = bench.directory("echo-count");
    let scored = bench.check(&format!("score {} --judge agree", run.display()), 0, &[]);
    assert!(
        scored
            .lines()
            .any(|line| line.contains("|agree") && line.contains("1.0000")),
        "{scored}"
    );
    let verdicts = std::fs::read_to_string(run.join("scores.jsonl")).unwrap();
    assert_eq!(verdicts.lines().count(), 10);
    bench.check(&format!("score {} --judge agree", run.display()), 0, &[]);
    assert_eq!(
        std::fs::read_to_string(run.join("scores.jsonl")).unwrap(),
        verdicts,
        "nothing is judged twice"
    );
    bench.check("score nowhere --judge agree", 3, &["is not a run directory"]);
}

#[test]
fn a_judge_asks_the_model_that_plays_its_role() {
    let bench = Bench::new();
    // The grader always says `7`, which this judge cannot read as a ruling.
    let words = ["judge asker left 10 answers unscored"];
    bench.check(
        "run --model echo --task count --judge asker --role grader=stuck",
        0,
        &words,
    );
    let verdicts = std::fs::read_to_string(bench.directory("echo-count").join("scores.jsonl")).unwrap();
    assert!(verdicts.contains("the grader said `7`"), "{verdicts}");
    let missing = ["judge asker failed on 10 answers"];
    bench.check("run --model echo --task count --judge asker --out other", 0, &missing);
    bench.check(
        "run --model echo --task count --role grader",
        2,
        &["expected `--role ROLE=MODEL`, got `grader`"],
    );
}

#[test]
fn a_runs_own_file_repeats_it() {
    let bench = Bench::new();
    bench.check("run --model echo --task count -T n=30 --limit 0.5 --seed 3", 0, &[]);
    let run = bench.directory("echo-count");
    let config = run.join("run.toml");
    std::fs::copy(&config, bench.path("again.toml")).unwrap();
    bench.check("run --config again.toml --out again --json", 0, &["\"effective\": 15"]);
    bench.check(
        "run --config again.toml --out more --limit 4 --json",
        0,
        &["\"effective\": 4"],
    );
    std::fs::write(bench.path("typo.toml"), "model = \"echo\"\ntsk = \"count\"").unwrap();
    bench.check(
        "run --config typo.toml",
        2,
        &["unknown key `tsk`", "did you mean `task`?"],
    );
}

#[test]
fn samples_are_chosen_by_number_share_range_and_id() {
    let bench = Bench::new();
    let chosen = |flags: &str, out: &str| -> Vec<u64> {
        bench.check(&format!("run --model echo --task count {flags} --out {out}"), 0, &[]);
        let run = std::fs::read_dir(bench.path(out))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let text = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
        let mut ids: Vec<u64> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["doc_id"].as_u64().unwrap())
            .collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(chosen("--limit 2", "a"), [0, 1]);
    assert_eq!(chosen("--limit 0.3", "b"), [0, 1, 2]);
    assert_eq!(chosen("--limit 8-99", "c"), [8, 9]);
    assert_eq!(chosen("--sample-id number-4 --sample-id number-7", "d"), [4, 7]);
    bench.check(
        "run --model echo --task count --sample-id number-77",
        2,
        &["has no sample `number-77`"],
    );
    bench.check("run --model echo --task count --limit none", 2, &["neither a number"]);
    bench.check("run --model echo --task count --workers 0", 2, &["`--workers 0`"]);
}

#[test]
fn mistakes_are_told_before_any_work_with_the_way_out() {
    let bench = Bench::new();
    bench.check(
        "run --model ecko --task count",
        3,
        &["there is no model `ecko`", "did you mean `echo`?"],
    );
    bench.check("run --model echo", 2, &["no task is given"]);
    bench.check(
        "run --model echo --task count -M delay=1",
        2,
        &["has no setting `delay`", "did you mean `delay_ms`?"],
    );
    bench.check(
        "run --model echo --task count -M delay_ms=soon",
        2,
        &["expected a whole number", "delay_ms (integer, default 0)"],
    );
    bench.check(
        "run --model echo --task count -M delay_ms",
        2,
        &["expected `-M KEY=VALUE`, got `delay_ms`"],
    );
    bench.check(
        "run --model echo --task count -M other:delay_ms=1",
        2,
        &["`other`, which this command does not use"],
    );
    bench.check("run --model echo --task clips", 3, &["needs the setting `folder`"]);
    bench.check("run --model echo --task count --frsh", 2, &["--fresh"]);
    bench.check(
        "run --model echo --task count --registry nowhere.toml",
        2,
        &["there is no registry `nowhere.toml`"],
    );
    bench.check(
        "run --model stuck --task count -M weights=/nowhere",
        3,
        &["`weights` of model `stuck` is not there: `/nowhere`"],
    );
    assert!(!bench.path("runs").exists(), "nothing was begun");
}

#[test]
fn a_dry_run_loads_no_model_and_writes_nothing() {
    let bench = Bench::new();
    let plan = bench.check("run --model echo --task count --limit 3 --dry-run", 0, &[]);
    let plan: Value = serde_json::from_str(&plan).unwrap();
    assert_eq!(plan["dry_run"][0]["selected"], 3);
    assert_eq!(plan["dry_run"][0]["first"]["ids"][0], "number-0");
    assert!(!bench.path("runs").exists());
}

#[test]
fn results_for_machines_are_json_and_nothing_else() {
    let bench = Bench::new();
    let out = bench.check("run --model echo,stuck --task count --json", 0, &[]);
    let results: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(results["runs"].as_array().map(Vec::len), Some(2));
    let run = bench.run("run --model echo --task count --json");
    assert!(run.stderr.is_empty(), "{}", String::from_utf8_lossy(&run.stderr));
}
