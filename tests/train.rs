//! `host train`, with a model that trains in milliseconds.

use crate::support::{host_program, plugin_file};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A folder with a registry and rows.
pub struct School(TempDir);

impl School {
    pub fn new() -> School {
        let school = School(tempfile::tempdir().expect("a folder"));
        let [pupil, echo] = ["fixture-pupil", "fixture-echo"].map(|name| plugin_file(name).display().to_string());
        let registry = format!(
            "[plugins.pupil]\npath = {pupil:?}\nisolation = \"in-process\"\n[plugins.pupil-apart]\npath = {pupil:?}\n\
             [models.pupil]\nplugin = \"pupil\"\n[models.pupil-apart]\nplugin = \"pupil-apart\"\nadapter = \"pupil\"\n\
             [plugins.echo]\npath = {echo:?}\nisolation = \"in-process\"\n[tasks.count]\nplugin = \"echo\"\n"
        );
        school.write("fixtures.toml", &registry);
        let row = |number: u32| {
            let mut ids = vec![number % 13];
            while ids.len() < 4 + number as usize % 6 {
                let last = ids[ids.len() - 1];
                ids.push((last * 3 + 1) % 13);
            }
            let labels: Vec<i64> = ids
                .iter()
                .enumerate()
                .map(|(place, id)| if place > 1 { i64::from(*id) } else { -100 })
                .collect();
            json!({ "input_ids": ids, "labels": labels, "attention_mask": vec![1; ids.len()] }).to_string() + "\n"
        };
        school.write("rows.jsonl", &(0..29).map(row).collect::<String>());
        school.write("held.jsonl", &(100..105).map(row).collect::<String>());
        school
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("a file");
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(host_program());
        command
            .args(arguments.split_whitespace())
            .args(["--registry", "fixtures.toml"])
            .current_dir(self.0.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    #[track_caller]
    pub fn check(&self, arguments: &str, exit: i32, words: &[&str]) -> String {
        let output = self.run(arguments);
        let both = format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(output.status.code(), Some(exit), "`host {arguments}`\n{both}");
        for words in words {
            assert!(
                both.contains(words),
                "`{words}` is not in what `host {arguments}` said:\n{both}"
            );
        }
        assert!(!both.contains("panicked at"), "{both}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn metrics(&self, out: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path(out).join("metrics.jsonl")).expect("metrics");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("every line is whole"));
        let timeless = lines.map(|mut line: Value| {
            let entries = line.as_object_mut().expect("an object");
            entries.retain(|key, _| !key.ends_with("_runtime") && !key.ends_with("_per_second"));
            line
        });
        timeless.collect()
    }

    pub fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.path(path)).unwrap_or_else(|why| panic!("`{path}`: {why}"))
    }
}

pub const RUN: &str = "train --model pupil --rows rows.jsonl --eval-rows held.jsonl --per_device_train_batch_size 2 \
    --gradient-accumulation-steps 2 --num_train_epochs 2 --learning_rate 0.05 --lr_scheduler_type cosine --warmup_ratio 0.2 \
    --logging_steps 3 --eval_steps 4 --save_steps 4";

#[test]
fn rows_are_learnt_and_files_written() {
    let school = School::new();
    school.check(&format!("{RUN} --out out"), 0, &["train loss", "peak memory"]);
    let lines = school.metrics("out");
    let steps = |kind: &str| -> Vec<u64> {
        let of_kind = lines.iter().filter(|line| line["type"] == kind);
        of_kind.map(|line| line["step"].as_u64().expect("a step")).collect()
    };
    assert_eq!(steps("train"), [3, 6, 9, 12, 15, 16]);
    assert_eq!(steps("eval"), [4, 8, 12, 16]);
    let first = &lines[0];
    for key in ["loss", "grad_norm", "learning_rate", "epoch", "items"] {
        assert!(first[key].is_number(), "{first}");
    }
    let losses: Vec<f64> = lines.iter().filter_map(|line| line["eval_loss"].as_f64()).collect();
    assert!(losses[3] < losses[0] - 0.3, "it learns: {losses:?}");
    for file in [
        "args.json",
        "timing.json",
        "train_loss.log",
        "eval_loss.log",
        "final_model/model.safetensors",
    ] {
        assert!(school.path("out").join(file).is_file(), "`{file}` is missing");
    }
    let args: Value = serde_json::from_slice(&school.bytes("out/args.json")).expect("JSON");
    assert_eq!(
        (&args["per_device_train_batch_size"], &args["lr_scheduler_type"]),
        (&json!(2), &json!("cosine"))
    );
    let timing: Value = serde_json::from_slice(&school.bytes("out/timing.json")).expect("JSON");
    assert!(timing["train_duration_seconds"].is_number() && timing["peak_memory_bytes"].as_u64() > Some(0));
    // The same command again finds nothing to do, and changes nothing.
    let model = school.bytes("out/final_model/model.safetensors");
    school.check(&format!("{RUN} --out out"), 0, &["training is complete"]);
    assert_eq!(school.bytes("out/final_model/model.safetensors"), model);
    assert_eq!(school.metrics("out"), lines);
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes() {
    let school = School::new();
    school.check(&format!("{RUN} --out whole"), 0, &[]);
    for number in 0..6_u64 {
        let out = format!("out{number}");
        let slow = format!("{RUN} -M pause_ms=3 --out {out}");
        let mut child = school
            .command(&slow)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let began = Instant::now();
        while !school
            .path(&out)
            .join(format!("checkpoint-{}", 4 * (1 + number / 2)))
            .exists()
        {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint came");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(number * 3));
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        // It continues from a checkpoint if there is one; the settings are the same.
        school.check(&slow, 0, &["of 16"]);
        assert_eq!(school.metrics(&out), school.metrics("whole"), "{number}");
        for file in ["checkpoint-16/optimizer.safetensors", "final_model/model.safetensors"] {
            assert_eq!(
                school.bytes(&format!("{out}/{file}")),
                school.bytes(&format!("whole/{file}")),
                "{number} {file}"
            );
        }
    }
}

#[test]
fn an_interrupt_saves_and_ends_with_130() {
    let school = School::new();
    let slow = format!("{RUN} -M pause_ms=30 --out out");
    let mut child = school
        .command(&slow)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let began = Instant::now();
    while !school.path("out/metrics.jsonl").exists() || school.metrics("out").is_empty() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was logged");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(130));
    school.check(&slow, 0, &["going on at step"]);
    school.check(&format!("{RUN} --out whole"), 0, &[]);
    assert_eq!(school.metrics("out"), school.metrics("whole"));
}

#[test]
fn other_settings_or_rows_are_refused() {
    let school = School::new();
    school.check(&format!("{RUN} --out out"), 0, &[]);
    school.check(
        &format!("{RUN} --learning_rate 0.01 --out out"),
        2,
        &["`learning_rate` was 0.05, and is 0.01", "--resume-changed"],
    );
    let rows = std::fs::read_to_string(school.path("rows.jsonl")).expect("rows");
    school.write(
        "rows.jsonl",
        rows.trim_end_matches('\n').rsplit_once('\n').expect("lines").0,
    );
    school.check(&format!("{RUN} --out out"), 2, &["the rows differ"]);
    school.check(&format!("{RUN} --out out --fresh"), 0, &[]);
    assert!(school.path("out--2/final_model").is_dir(), "what was there is kept");
}

#[test]
fn what_is_wrong_is_said_before_anything_is_learnt() {
    let school = School::new();
    school.check("train --rows rows.jsonl", 2, &["no model is given"]);
    school.check("train --model pupil", 2, &["neither a task nor rows"]);
    school.check(
        "train --model pupil --rows rows.jsonl --learning_rat 1",
        2,
        &["did you mean `learning_rate`?"],
    );
    school.check(
        "train --model pupil --rows rows.jsonl --warmup_steps many",
        2,
        &["`warmup_steps` cannot be `many`"],
    );
    school.check(
        "train --model pupil --rows rows.jsonl --method dora",
        2,
        &["unknown method `dora`"],
    );
    school.check(
        "train --model pupil --rows gone.jsonl",
        3,
        &["cannot read `gone.jsonl`"],
    );
    school.check(
        "train --model pupil --rows rows.jsonl --lr_scheduler_type cosin --out o",
        2,
        &["unknown schedule `cosin`"],
    );
    school.check(
        "train --model pupil --rows rows.jsonl --max_length 4 --truncation refuse",
        2,
        &["too long", "`row 1` (5 tokens)"],
    );
    school.write("broken.jsonl", "{\"input_ids\":[1,2],\"labels\":[1]}\n");
    school.check(
        "train --model pupil --rows broken.jsonl",
        3,
        &["row 0 of", "has 2 `input_ids` and 1 `labels`"],
    );
    school.write("nothing.jsonl", "{\"input_ids\":[1,2],\"labels\":[-100,-100]}\n");
    school.check("train --model pupil --rows nothing.jsonl", 3, &["has a learnt token"]);
    school.write("bad.toml", "model = \"pupil\"\nlerning_rate = 1\n");
    school.check(
        "train --config bad.toml",
        2,
        &["unknown key `lerning_rate`", "did you mean `learning_rate`?"],
    );
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_checkpoint() {
    let school = School::new();
    let words = ["the loss of step 7 is not a number", "`row ", "checkpoint-4"];
    school.check(&format!("{RUN} -M nan_at=6 --out out"), 4, &words);
    assert!(school.path("out/checkpoint-4").is_dir() && !school.path("out/checkpoint-8").exists());
}

#[test]
fn a_full_disk_while_saving_loses_nothing() {
    let school = School::new();
    school.check(
        &format!("{RUN} -M full_at=8 --out out"),
        6,
        &["cannot save", "No space left on device"],
    );
    let entries = std::fs::read_dir(school.path("out")).expect("a folder").flatten();
    let left: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(left.contains(&"checkpoint-4".to_owned()), "{left:?}");
    assert!(
        !left
            .iter()
            .any(|name| name == "checkpoint-8" || name.starts_with(".unfinished")),
        "{left:?}"
    );
}

#[test]
fn lessons_are_shown_and_counted() {
    let school = School::new();
    let shown = school.check("train --model pupil --rows rows.jsonl --show 2 --json", 0, &[]);
    let lines: Vec<Value> = shown
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!((lines.len(), &lines[0]["input_ids"]), (2, &json!([0, 1, 4, 0])));
    assert_eq!(lines[0]["learn"], json!([false, false, true, true]));
    let report = school.check(&format!("{RUN} --dry-run --quiet"), 0, &[]);
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let dry = &report["dry_run"];
    assert_eq!(
        (&dry["steps"], &dry["batches_per_epoch"], &dry["rows"]),
        (&json!(16), &json!(15), &json!(29))
    );
    let learnt: u64 = (0..29_u64).map(|number| 4 + number % 6 - 2).sum();
    assert_eq!(dry["learnt_tokens_per_epoch"], learnt);
    assert_eq!(dry["learnt_tokens"], 2 * learnt);
    assert_eq!(dry["memory"]["parameters"], 169);
    school.check(
        &format!("{RUN} --dry-run -M available=100"),
        3,
        &["of memory, and 100 bytes are free", "qlora"],
    );
}

/// The launcher of the installed MPI; none, with a message, if there is none.
fn mpirun() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path)
        .map(|folder| folder.join("mpirun"))
        .find(|file| file.is_file());
    if found.is_none() {
        crate::support::skipped("there is no `mpirun`; Debian has it in `openmpi-bin` and in `mpich`");
    }
    found
}

impl School {
    /// The same command in two processes that MPI connects.
    fn under_mpi(&self, mpirun: &Path, arguments: &str) -> Output {
        let mut command = Command::new(mpirun);
        command
            .args(["-n", "2"])
            .arg(host_program())
            .args(arguments.split_whitespace())
            .args(["--registry", "fixtures.toml"])
            .current_dir(self.0.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            // Only Open MPI reads these: it may run as root, and with fewer cores than processes.
            .env("OMPI_ALLOW_RUN_AS_ROOT", "1")
            .env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1")
            .env("OMPI_MCA_rmaps_base_oversubscribe", "1")
            .stdin(Stdio::null());
        command.output().expect("mpirun starts")
    }

    /// Checks that both runs logged the same losses.
    #[track_caller]
    fn same_curve(&self, one: &str, two: &str) {
        let (one, two) = (self.metrics(one), self.metrics(two));
        assert_eq!(one.len(), two.len());
        for (one, two) in one.iter().zip(&two) {
            for key in ["loss", "eval_loss", "eval_loss_by_batch", "grad_norm"] {
                if let (Some(a), Some(b)) = (one[key].as_f64(), two[key].as_f64()) {
                    assert!((a - b).abs() < 1e-6, "{key}: {one} {two}");
                }
            }
            assert_eq!((&one["step"], &one["items"]), (&two["step"], &two["items"]));
        }
    }
}

/// Two processes with one batch each must give the same result as one process with two batches.
pub const SHARED: &str = "train --model pupil --rows rows.jsonl --eval-rows held.jsonl --per_device_train_batch_size 2 \
    --num_train_epochs 2 --learning_rate 0.05 --logging_steps 1 --data_seed 5 --save_strategy no --gradient_accumulation_steps";

#[test]
fn two_processes_are_one_that_accumulates() {
    let school = School::new();
    school.check(&format!("{SHARED} 2 --out one"), 0, &[]);
    school.check(&format!("{SHARED} 1 --processes 2 --out two"), 0, &[]);
    school.same_curve("one", "two");
}

#[test]
fn two_processes_that_mpi_connects_are_one_that_accumulates() {
    let Some(mpirun) = mpirun() else { return };
    let school = School::new();
    school.check(&format!("{SHARED} 2 --out one"), 0, &[]);
    let output = school.under_mpi(&mpirun, &format!("{SHARED} 1 --collective mpi --out two"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    school.same_curve("one", "two");
}

#[test]
fn a_process_that_fails_ends_the_others_with_its_message() {
    let school = School::new();
    let began = Instant::now();
    let line = format!("{RUN} --processes 2 -M pause_ms=5 -M broken_at=3 -M only_rank=1 --out out");
    school.check(&line, 4, &["the engine broke"]);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn a_process_that_fails_under_mpi_says_why_and_ends_the_others() {
    let Some(mpirun) = mpirun() else { return };
    let school = School::new();
    let line = format!("{RUN} -M pause_ms=5 -M broken_at=3 -M only_rank=1 --out out");
    let output = school.under_mpi(&mpirun, &line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the engine broke"), "{said}");
}

#[test]
fn a_worker_process_learns_as_well() {
    let school = School::new();
    school.check(&format!("{RUN} --out here"), 0, &[]);
    school.check(
        &format!("{} --out apart", RUN.replace("--model pupil", "--model pupil-apart")),
        0,
        &[],
    );
    assert_eq!(school.metrics("here"), school.metrics("apart"));
    let model = "final_model/model.safetensors";
    assert_eq!(
        school.bytes(&format!("here/{model}")),
        school.bytes(&format!("apart/{model}"))
    );
}

#[test]
fn a_file_holds_what_flags_say() {
    let school = School::new();
    let text = "model = \"pupil\"\nrows = \"rows.jsonl\"\neval-rows = \"held.jsonl\"\nper_device_train_batch_size = 2\n\
                gradient-accumulation-steps = 2\nnum_train_epochs = 2\nlearning_rate = 0.05\nlr_scheduler_type = \"cosine\"\n\
                warmup_ratio = 0.2\nlogging_steps = 3\neval_steps = 4\nsave_steps = 4\n\
                [published]\ntrain_loss = 0.5\nsource = \"a table\"\n";
    school.write("run.toml", text);
    school.check(
        "train --config run.toml --out file",
        0,
        &["published: a table", "0.5000"],
    );
    school.check(&format!("{RUN} --out flags"), 0, &[]);
    assert_eq!(school.metrics("file"), school.metrics("flags"));
    school.check("train --config run.toml --out other --num_train_epochs 1", 0, &[]);
    assert_eq!(
        school.metrics("other").last().expect("a line")["step"],
        8,
        "flags count more"
    );
}

#[test]
fn trackers_are_written() {
    let school = School::new();
    let mut command = school.command(&format!(
        "{RUN} --out out --report_to tensorboard,wandb --wandb_project lab --run_name first"
    ));
    let output = command
        .env_remove("WANDB_MODE")
        .env("WANDB_RUN_ID", "abc12345")
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("wandb sync"));
    let names = |folder: &Path| -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder").flatten();
        entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect()
    };
    let events = names(&school.path("out/tensorboard"));
    assert!(
        events.len() == 1 && events[0].starts_with("events.out.tfevents."),
        "{events:?}"
    );
    let runs = names(&school.path("out/wandb"));
    assert!(
        runs.len() == 1 && runs[0].starts_with("offline-run-") && runs[0].ends_with("-abc12345"),
        "{runs:?}"
    );
    let written = school.bytes(&format!("out/wandb/{}/run-abc12345.wandb", runs[0]));
    assert!(written.starts_with(b":W&B") && written.windows(10).any(|bytes| bytes == b"train/loss"));
}
