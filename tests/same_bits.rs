//! A run's records are the same to the bit, however its prompts were put together and however often it was killed.
//!
//! All models of the registry answer questions of text and of sound with their demo weights; what is written down of
//! each answer is compared as the JSON that it is, in which numbers come back as they were.

use crate::building::repository;
use crate::pairs;
use crate::support::host_program;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        pairs::registry(folder.path());
        Bench { folder }
    }

    fn command(&self, arguments: &str, out: &str) -> Command {
        let mut command = Command::new(host_program());
        command
            .arg("run")
            .args(arguments.split_whitespace())
            .args(["--out", out, "--registry", "pairs.toml", "--offline", "--json"])
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &str, out: &str) {
        let output = self.command(arguments, out).output().expect("the program starts");
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "`host run {arguments}`\n{words}");
    }

    fn runs(&self, out: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path().join(out)).into_iter().flatten();
        let mut runs: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        runs.retain(|run| run.join("samples.jsonl").exists());
        runs.sort();
        runs
    }

    /// Each run's records by sample, without times. If runs differ in settings, only the model's output and the scores
    /// are compared, because the key and the seed of draws depend on the settings.
    #[track_caller]
    fn records(&self, out: &str, alike: bool) -> Vec<BTreeMap<u64, Value>> {
        let runs = self.runs(out);
        runs.iter().map(|run| records(run, alike)).collect()
    }
}

/// Fields of a record with the model's output.
const SAID: [&str; 11] = [
    "doc_id",
    "sample_id",
    "resps",
    "filtered_resps",
    "status",
    "metrics",
    "reply",
    "prompt_tokens",
    "generated_tokens",
    "flags",
    "error",
];

#[track_caller]
fn records(run: &Path, alike: bool) -> BTreeMap<u64, Value> {
    let text = fs::read_to_string(run.join("samples.jsonl")).expect("records");
    let mut records = BTreeMap::new();
    for line in text.lines() {
        let mut record: Value = serde_json::from_str(line).expect("every line is whole");
        let fields = record.as_object_mut().expect("an object");
        for field in ["latency_ms", "ttft_ms", "at_ms", "session"] {
            fields.remove(field);
        }
        if !alike {
            fields.retain(|field, _| SAID.contains(&field.as_str()));
        }
        if let Some(reply) = record["reply"].as_object_mut() {
            reply.remove("timing");
        }
        let number = record["doc_id"].as_u64().expect("a number");
        assert!(
            records.insert(number, record).is_none(),
            "sample {number} was recorded twice"
        );
    }
    records
}

#[track_caller]
fn compare(got: &BTreeMap<u64, Value>, expected: &BTreeMap<u64, Value>, what: &str) {
    assert_eq!(
        got.keys().collect::<Vec<_>>(),
        expected.keys().collect::<Vec<_>>(),
        "{what}: other samples"
    );
    let apart: Vec<u64> = got
        .iter()
        .filter(|(number, got)| expected[*number] != **got)
        .map(|(number, _)| *number)
        .collect();
    if let Some(first) = apart.first() {
        let (got, expected) = (&got[first], &expected[first]);
        panic!("{what}: samples {apart:?} differ\n{got}\n\n{expected}");
    }
}

/// The settings that change how prompts are batched, and nothing else.
const WAYS: [&str; 5] = [
    "--batch-size 1",
    "-M step_tokens=7",
    "-M prefix_mb=0 -M max_batch=3",
    "--batch-size 5 -M step_tokens=64",
    "--workers 2",
];

#[track_caller]
fn every_way(model: &str, tasks: &str, more: &str) {
    let bench = Bench::new();
    let arguments = format!("--model {model} --task {tasks} {more}");
    bench.run(&arguments, "plain");
    let plain = bench.records("plain", false);
    assert!(plain.iter().all(|records| !records.is_empty()) && !plain.is_empty());
    for (number, way) in WAYS.iter().enumerate() {
        let out = format!("way-{number}");
        bench.run(&format!("{arguments} {way}"), &out);
        let got = bench.records(&out, false);
        assert_eq!(got.len(), plain.len());
        for (got, plain) in got.iter().zip(&plain) {
            compare(got, plain, &format!("`{arguments}` with `{way}`"));
        }
    }
}

#[test]
fn text_models_answer_alike_in_any_batch() {
    for model in ["qwen3", "qwen2.5", "gemma"] {
        every_way(model, "arc,finqa,slurp", "--demo --limit 6");
        every_way(model, "arc", "--demo --limit 6 -T mode=loglikelihood -T shots=2");
        every_way(model, "arc", "--demo --limit 3 -T mode=generate -T max_tokens=20");
    }
}

#[test]
fn audio_models_answer_alike_in_any_batch() {
    for model in ["qwen2-audio", "af3", "salmonn", "qwen2.5-omni"] {
        every_way(model, "sakura,arc", "--demo --limit 5");
    }
}

#[test]
fn stored_weights_of_any_type_answer_alike_in_any_batch() {
    let weights = "--model qwen3-random --task arc --demo --limit 5 -T mode=loglikelihood -M shape=nano";
    for stored in ["-M dtype=bf16", "-M quant=q8_0", "-M quant=q6_k", "-M quant=q4_k"] {
        let bench = Bench::new();
        bench.run(&format!("{weights} {stored}"), "plain");
        let ways = ["--batch-size 1", "-M step_tokens=7", "-M max_batch=3 --workers 2"];
        for (number, way) in ways.iter().enumerate() {
            let out = format!("way-{number}");
            bench.run(&format!("{weights} {stored} {way}"), &out);
            let (got, plain) = (bench.records(&out, false), bench.records("plain", false));
            compare(&got[0], &plain[0], &format!("{stored} with `{way}`"));
        }
    }
}

#[test]
fn loras_answer_alike_in_any_batch() {
    let base = repository().join("plugins/models/qwen3/golden/tied");
    let data = repository().join("plugins/tasks/arc/demo");
    let (base, lora, data) = (base.display(), base.join("lora"), data.display());
    let lora = lora.display();
    let arguments = format!("-M weights={base} -M lora=tuned={lora} -T data={data} -T mode=loglikelihood --limit 6");
    every_way("qwen3", "arc", &arguments);
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Questions of different lengths, so that batches vary.
fn questions(folder: &Path, count: usize) {
    const WORDS: [&str; 12] = [
        "water", "ice", "a plant", "the sun", "iron", "sand", "wind", "a frog", "the moon", "glass", "light", "sound",
    ];
    let mut state = 1;
    let mut lines = String::new();
    for number in 0..count {
        let mut word = || WORDS[next(&mut state) as usize % WORDS.len()];
        let many = 3 + number * 7 % 41;
        let list: Vec<&str> = (0..many).map(|_| word()).collect();
        let texts: Vec<String> = (0..4)
            .map(|place| format!("{} and {} {place}", word(), word()))
            .collect();
        let question = format!("Of {}: which goes with {}?", list.join(", "), word());
        let line = serde_json::json!({
            "id": format!("made-{number}"), "question": question,
            "choices": { "text": texts, "label": ["A", "B", "C", "D"] }, "answerKey": "B",
        });
        lines += &format!("{line}\n");
    }
    fs::create_dir_all(folder).expect("a folder");
    for split in ["Test", "Train"] {
        fs::write(folder.join(format!("ARC-Easy-{split}.jsonl")), &lines).expect("questions");
    }
}

/// `results.json` without times.
fn results(run: &Path) -> Value {
    let mut results: Value =
        serde_json::from_slice(&fs::read(run.join("results.json")).expect("results")).expect("JSON");
    let fields = results.as_object_mut().expect("an object");
    for field in ["date", "total_evaluation_time_seconds"] {
        assert!(fields.remove(field).is_some(), "{field}");
    }
    results
}

/// Kills a run two or three times at random instants and then lets it finish; repeats this three times, or as often as
/// `SAME_BITS_KILLS` says.
#[test]
fn runs_that_are_killed_at_any_instant_end_as_the_undisturbed_one() {
    let bench = Bench::new();
    questions(&bench.folder.path().join("questions"), 300);
    let arguments =
        "--model qwen3 --task arc --demo -T data=questions -T subset=easy -T mode=loglikelihood -M max_batch=8";
    let began = Instant::now();
    bench.run(arguments, "undisturbed");
    let whole = began.elapsed().as_millis() as u64;
    let expected = bench.records("undisturbed", true);
    let expected_results = results(&bench.runs("undisturbed")[0]);
    assert_eq!(expected[0].len(), 300);
    let count = std::env::var("SAME_BITS_KILLS")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(3);
    let mut state = 25;
    let mut cut_short = 0;
    for number in 0..count {
        let out = format!("killed-{number}");
        for _ in 0..2 + next(&mut state) % 2 {
            let mut child = bench
                .command(arguments, &out)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            std::thread::sleep(Duration::from_millis(next(&mut state) % whole.max(1)));
            child.kill().expect("SIGKILL");
            child.wait().expect("its end");
            let done = bench.runs(&out).first().map_or(0, |run| {
                fs::read_to_string(run.join("samples.jsonl"))
                    .unwrap_or_default()
                    .matches('\n')
                    .count()
            });
            cut_short += usize::from(done > 0 && done < 300);
        }
        bench.run(arguments, &out);
        compare(&bench.records(&out, true)[0], &expected[0], &format!("run {number}"));
        assert_eq!(results(&bench.runs(&out)[0]), expected_results, "run {number}");
    }
    assert!(cut_short > 0, "no run was killed amid its work");
}
