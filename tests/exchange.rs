//! Files that others made, and files that others read: `host score --task`, `host export`.

use crate::support::Bench;
use serde_json::{Value, json};
use std::fs;

const ANSWERS: &str = "number-1 1\nnumber-2 3\nnumber-2 2\nnumber-x 1\n";

fn bench() -> Bench {
    let bench = Bench::new();
    fs::write(bench.path("answers.txt"), ANSWERS).unwrap();
    bench
}

#[test]
fn answers_of_others_are_scored_in_the_order_of_their_file() {
    let bench = bench();
    for task in ["count", "count-apart"] {
        let arguments = format!("score --task {task} --predictions answers.txt --json --rows");
        let report: Value = serde_json::from_str(&bench.check(&arguments, 0, &["note: numbers are taken"])).unwrap();
        assert_eq!(
            report,
            json!({
                "task": task, "n": 4, "gold_total": null, "metrics": { "accuracy": 0.5, "all": { "right": 2 } },
                "notes": ["numbers are taken as they are"],
                "rows": [
                    { "id": "number-1", "correct": true }, { "id": "number-2", "correct": false },
                    { "id": "number-2", "correct": true }, { "id": "number-x", "correct": false },
                ],
            })
        );
    }
    let keys = |arguments: &str| -> Vec<String> {
        let report: Value = serde_json::from_str(&bench.check(arguments, 0, &[])).unwrap();
        report.as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(
        keys("score --task count --predictions answers.txt --json"),
        ["task", "n", "gold_total", "metrics", "notes"]
    );
    let table = bench.check(
        "score -t count --answers predictions=answers.txt --rows",
        0,
        &["|n", "all right"],
    );
    assert!(
        table.contains("|accuracy |0.5000|") && table.ends_with("{\"id\":\"number-x\",\"correct\":false}\n"),
        "{table}"
    );
}

#[test]
fn what_can_not_be_scored_is_said() {
    let bench = bench();
    fs::write(bench.path("odd.txt"), "number-1 1\nnumber-2\n").unwrap();
    for (arguments, exit, words) in [
        ("--predictions odd.txt", 3, "line 2 of `odd.txt` has no answer"),
        ("--predictions none.txt", 3, "cannot read `none.txt`"),
        ("--predictions answers.txt --gold answers.txt", 2, "leave `--gold` out"),
        ("--judge-replies answers.txt", 2, "name its files with `--gold FILE`"),
        (
            "--loglikelihoods answers.txt",
            2,
            "it reads `--predictions FILE`: lines of an id and an answer",
        ),
        ("--answers answers.txt", 2, "is not `KIND=FILE`"),
        ("", 2, "no answers to task `count` are given"),
        (
            "--predictions answers.txt --judge-replies answers.txt",
            2,
            "is scored by a command of its own",
        ),
        ("runs/x --predictions answers.txt", 2, "cannot be used with"),
    ] {
        bench.check(&format!("score --task count {arguments}"), exit, &[words]);
    }
    bench.check(
        "score --task clips --predictions answers.txt",
        3,
        &["no files of task `clips`", "it has files of `count`"],
    );
    bench.check(
        "score --task cuont --predictions answers.txt",
        3,
        &["did you mean `count`?"],
    );
    bench.check("score --predictions answers.txt", 2, &["--task"]);
}

#[test]
fn a_run_is_written_for_others_and_comes_to_the_same() {
    let bench = bench();
    bench.check(
        "run --model echo --task count -T n=20 -T broken=3 --fail-on-error 1",
        0,
        &[],
    );
    let run = bench.directory("echo-count");
    let run = run.display();
    bench.check(
        &format!("export {run} --format count --out out"),
        0,
        &["note: left out 1 samples", "out/answers.txt"],
    );
    let text = fs::read_to_string(bench.path("out/answers.txt")).unwrap();
    assert_eq!((text.lines().count(), text.lines().nth(3)), (19, Some("number-4 4")));
    bench.check(
        "score --task count --predictions out/answers.txt",
        0,
        &["|accuracy |1.0000|"],
    );

    let files = |format: &str| -> Vec<String> {
        let said = bench.check(&format!("export {run} --format {format} --json"), 0, &[]);
        let said: Value = serde_json::from_str(&said).unwrap();
        let files = said["files"].as_array().unwrap().iter();
        files
            .map(|file| fs::read_to_string(file.as_str().unwrap()).unwrap())
            .collect()
    };
    let lm_eval = files("lm-eval");
    let results: Value = serde_json::from_str(&lm_eval[0]).unwrap();
    assert_eq!(
        (&results["results"]["count"]["acc,none"], results.get("host")),
        (&json!(1.0), None)
    );
    let sample: Value = serde_json::from_str(lm_eval[1].lines().nth(2).unwrap()).unwrap();
    assert_eq!(
        (&sample["doc_id"], &sample["acc"], &sample["resps"]),
        (&json!(2), &json!(1.0), &json!([["2"]]))
    );
    assert_eq!(lm_eval[1].lines().count(), 19);
    let sheet = files("csv").remove(0);
    assert!(sheet.starts_with("doc_id,sample_id,status,"), "{sheet}");
    assert!(
        sheet.contains("\r\n3,#3,failed,") && sheet.contains(",1.0,even,"),
        "{sheet}"
    );
    assert!(files("markdown")[0].contains("| - parity=even"));
    let log: Value = serde_json::from_str(&files("inspect")[0]).unwrap();
    assert_eq!(
        (
            &log["status"],
            &log["eval"]["task"],
            &log["results"]["scores"][0]["metrics"]["acc"]["value"]
        ),
        (&json!("success"), &json!("count"), &json!(1.0))
    );
    let samples = log["samples"].as_array().unwrap();
    assert_eq!(samples.len(), 20);
    assert!(samples[3]["error"]["message"].is_string(), "{}", samples[3]);
    assert_eq!(samples[2]["scores"]["count"]["value"], json!(1.0));
}

/// Names of the files below a folder of a run.
fn below(run: &std::path::Path, folder: &str) -> Vec<String> {
    let entries = fs::read_dir(run.join(folder)).unwrap().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn trackers_get_the_numbers_of_a_run_once() {
    let bench = bench();
    let run = |more: &str| {
        let mut command = bench.command(&format!("run --model echo --task count -T n=4 {more}"));
        command.env_remove("WANDB_MODE").env("WANDB_RUN_ID", "abc12345");
        command.output().unwrap()
    };
    let output = run("--report-to tensorboard,wandb");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.contains("wandb sync"), "{said}");
    let directory = bench.directory("echo-count");
    let events = below(&directory, "tensorboard");
    assert!(
        events.len() == 1 && events[0].starts_with("events.out.tfevents."),
        "{events:?}"
    );
    let bytes = fs::read(directory.join("tensorboard").join(&events[0])).unwrap();
    for name in [
        "count/acc",
        "count/acc_stderr",
        "count/parity=even/acc",
        "count/samples/finished",
    ] {
        assert!(bytes.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
    }
    let runs = below(&directory, "wandb");
    assert!(
        runs[0].starts_with("offline-run-") && runs[0].ends_with("-abc12345"),
        "{runs:?}"
    );
    // The same command finds everything done and writes the same files again.
    let config = format!("--config {}", directory.join("run.toml").display());
    assert!(bench.run(&format!("run {config}")).status.success());
    assert_eq!(below(&directory, "tensorboard").len(), 1);
    bench.check(
        "run --model echo --task count --report-to mlflow",
        2,
        &["`--report-to` names `mlflow`", "`tensorboard`, `wandb`"],
    );
}

#[test]
fn a_task_in_a_worker_writes_as_any_other() {
    let bench = bench();
    bench.check("run --model echo --task count-apart -T n=600", 0, &[]);
    let run = bench.directory("echo-count-apart");
    bench.check(&format!("export {} --format count --out out", run.display()), 0, &[]);
    let text = fs::read_to_string(bench.path("out/answers.txt")).unwrap();
    let numbers: Vec<String> = (0..600).map(|number| format!("number-{number} {number}")).collect();
    assert_eq!(text.lines().collect::<Vec<_>>(), numbers);
    bench.check(
        "data convert --task count-apart answers.txt --out loud",
        0,
        &["loud/loud.txt"],
    );
}

#[test]
fn what_can_not_be_written_leaves_nothing_behind() {
    let bench = bench();
    bench.check("run --model echo --task count -T n=2", 0, &[]);
    let run = bench.directory("echo-count");
    let run = run.display();
    bench.check(
        &format!("export {run} --format xml"),
        2,
        &["no format `xml`", "count: answers.txt", "csv"],
    );
    bench.check(
        &format!("export {run} --format stray --out out"),
        4,
        &["`../answers.txt` is not a file name"],
    );
    assert_eq!(fs::read_to_string(bench.path("answers.txt")).unwrap(), ANSWERS);
    assert_eq!(fs::read_dir(bench.path("out")).unwrap().count(), 0);
    bench.check(&format!("export {run}x --format csv"), 3, &["is not a run directory"]);
    bench.check(
        &format!("export {run} --format csv --out answers.txt"),
        6,
        &["cannot write `answers.txt`"],
    );
}

#[test]
fn samples_become_rows_to_train_on() {
    let bench = bench();
    let lines = |text: &str| -> Vec<Value> { text.lines().map(|line| serde_json::from_str(line).unwrap()).collect() };
    let rows = bench.check("data prepare --task count --limit 8-11 -T n=12", 0, &["note: 3 rows"]);
    let row = |number: u32| json!({ "user_text": "Number?", "assistant_text": number.to_string() });
    assert_eq!(lines(&rows), [row(8), row(9), row(10)]);
    bench.check(
        "data prepare --task count -T broken=3 --out rows.jsonl",
        1,
        &["1 of 10 samples could not be used", "note: 9 rows"],
    );
    assert_eq!(fs::read_to_string(bench.path("rows.jsonl")).unwrap().lines().count(), 9);
    bench.check("data prepare --task clips", 3, &["needs the setting `folder`"]);
    bench.check("data prepare", 2, &["no task is given", "`count`"]);
    bench.check("data noisy-gold --task count", 2, &["no setting `inputs`"]);

    let arguments = "data tokenize --task count -T n=12 --model echo --out tokens.jsonl --json";
    let summary: Value = serde_json::from_str(&bench.check(arguments, 0, &["one token each"])).unwrap();
    assert_eq!(
        (&summary["rows"], &summary["letters_in_pieces"]),
        (&json!(12), &json!([]))
    );
    let rows = lines(&fs::read_to_string(bench.path("tokens.jsonl")).unwrap());
    let ids: Vec<u8> = rows[11]["input_ids"]
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_u64().unwrap() as u8)
        .collect();
    assert_eq!(ids, b"Number?11");
    assert_eq!(
        rows[11]["labels"],
        json!([-100, -100, -100, -100, -100, -100, -100, 49, 49])
    );
    assert_eq!(rows[11]["attention_mask"], json!([1, 1, 1, 1, 1, 1, 1, 1, 1]));
    bench.check(
        "data tokenize --task count --model stuck",
        3,
        &["can't show a lesson's tokens"],
    );
}

#[test]
fn data_are_counted_split_and_converted() {
    let bench = bench();
    let stats: Value =
        serde_json::from_str(&bench.check("data stats --task count -T n=5 -T broken=1 --json", 0, &[])).unwrap();
    assert_eq!(
        (&stats["samples"], &stats["unreadable"], &stats["groups"]),
        (&json!(4), &json!(1), &json!({ "parity": { "even": 3, "odd": 1 } }))
    );
    bench.check("data stats --task count -T n=5", 0, &["|parity |even|  3| 60.0%|"]);
    let out = bench.check("data split --task count -T n=5 --by parity --out parts", 0, &[]);
    assert_eq!(out, "parts/parity_even.jsonl\t3\nparts/parity_odd.jsonl\t2\n");
    assert_eq!(
        fs::read_to_string(bench.path("parts/parity_even.jsonl")).unwrap(),
        "0\n2\n4\n"
    );
    bench.check(
        "data split --task count --fraction 0.3 --out drawn",
        0,
        &["drawn.jsonl\t3", "rest.jsonl\t7"],
    );
    bench.check(
        "data split --task count --by size --out x",
        2,
        &["counted under `size`", "there are `parity`"],
    );
    bench.check(
        "data split --task count --fraction 2 --out x",
        2,
        &["must be between 0 and 1"],
    );
    bench.check("data split --task count --out x", 2, &["--by"]);
    bench.check(
        "data split --task count -T broken=1 --by parity --out x",
        4,
        &["sample 1 is broken"],
    );
    assert!(!bench.path("x").exists());
    bench.check(
        "data convert --task count answers.txt --out loud",
        0,
        &["loud/loud.txt"],
    );
    assert_eq!(
        fs::read_to_string(bench.path("loud/loud.txt")).unwrap(),
        ANSWERS.to_uppercase()
    );
    bench.check(
        "data convert --task count --to lod answers.txt --out loud",
        2,
        &["did you mean `loud`?"],
    );
    bench.check(
        "data convert --task clips answers.txt --out loud",
        3,
        &["no files of task `clips`"],
    );
}
