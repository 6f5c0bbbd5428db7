//! Trainings that end early or never begin: lessons that cannot be learnt, interrupts, processes that are gone.

use crate::building::repository;
use crate::recipes::{Workshop, command, flags};
use crate::train::{RUN, School};
use host::audio::interventions::write_wav;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::{Value, json};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// A workshop with clips of their own, and lessons about them.
struct Studio {
    workshop: Workshop,
    rows: Vec<Value>,
}

impl Studio {
    /// One clip a lesson, of these lengths in samples.
    fn new(lengths: &[usize]) -> Studio {
        let workshop = Workshop::new();
        let scenario = |number: usize| ["alarm", "music"][number % 2];
        let label = |number: usize| json!({ "scenario": scenario(number), "action": "set", "entities": [] });
        let rows = lengths.iter().enumerate().map(|(number, length)| {
            let tone = |place: usize| 0.3 * (place as f32 * 0.01 * (number + 2) as f32).sin();
            let samples: Vec<f32> = (0..*length).map(tone).collect();
            write_wav(&workshop.path(&format!("{number}.wav")), 16_000, &samples).expect("a clip");
            command(number as u32, &format!("{number}.wav"), &label(number))
        });
        let rows = rows.collect();
        Studio { workshop, rows }
    }

    fn clip(&self, number: usize) -> PathBuf {
        self.workshop.path(&format!("{number}.wav"))
    }

    /// Trains a model on the lessons, the last two of which are held out.
    fn train(&self, model: &str, weights: &str, more: &str) -> (Option<i32>, String, String) {
        let (learnt, asked) = self.rows.split_at(self.rows.len() - 2);
        let weights = repository().join("plugins/models").join(weights);
        let all = flags(&[
            ("model", model),
            ("task", "slurp"),
            ("train_file", &self.workshop.rows("learnt.jsonl", learnt)),
            ("eval_file", &self.workshop.rows("asked.jsonl", asked)),
            ("audio_dir", &self.workshop.path("").display().to_string()),
        ]);
        let fixed = ["-M".to_owned(), format!("weights={}", weights.display())];
        let method = if more.contains("--method") { "" } else { "--method lora" };
        let more: [Vec<String>; 2] = [method, more].map(|words| words.split_whitespace().map(str::to_owned).collect());
        self.workshop
            .host(&[vec!["train".to_owned()], all, fixed.to_vec(), more.concat()].concat())
    }

    fn bytes(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.workshop.path(path)).unwrap_or_else(|why| panic!("`{path}`: {why}"))
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.bytes(path)).expect("JSON")
    }
}

const HEARING: [(&str, &str); 3] = [
    ("qwen2-audio", "qwen2-audio/demo"),
    ("qwen2.5-omni", "qwen2-5-omni/demo"),
    ("af3", "af3/demo"),
];

#[test]
fn lessons_with_clips_that_cannot_be_learnt_are_named_before_training() {
    let mut studio = Studio::new(&[8_000, 464_000, 24_000, 100, 8_000, 8_000, 8_000, 8_000]);
    for (model, weights) in HEARING {
        let (exit, _, said) = studio.train(model, weights, "--max_length 600 --dry-run --out none");
        assert_eq!(exit, Some(2), "{model}\n{said}");
        // No option shortens a clip that is too short: it is named in any case.
        for words in [
            "1 of 6 lessons too long: `row-1` (",
            "at most 600 tokens fit",
            "`row-3`: clip 1 is too short",
        ] {
            assert!(said.contains(words), "{model}: `{words}`\n{said}");
        }
        let (exit, _, same) = studio.train(model, weights, "--max_length 600 --out none");
        assert_eq!((exit, same), (Some(2), said), "{model}");
        assert!(!studio.workshop.path("none").exists());
    }
    for (number, bytes) in [(4, &b""[..]), (5, b"<html>not found</html>")] {
        std::fs::write(studio.clip(number), bytes).expect("a file");
    }
    let (exit, _, said) = studio.train("qwen2-audio", "qwen2-audio/demo", "--out none");
    assert_eq!(exit, Some(3), "{said}");
    for words in [
        "3 of 6 lessons cannot be learnt",
        "sample `row-4` cannot be learnt: cannot use clip",
        "got text that starts",
    ] {
        assert!(said.contains(words), "`{words}`\n{said}");
    }
    // Without those, a dry run counts the tokens that are learnt from.
    for number in [5, 4, 3, 1] {
        studio.rows.remove(number);
    }
    for (model, weights) in HEARING {
        let (exit, estimated, said) = studio.train(model, weights, "--max_steps 2 --dry-run --out none");
        assert_eq!(exit, Some(0), "{model}\n{said}");
        let estimated: Value = serde_json::from_str(&estimated).expect("JSON");
        let (exit, _, said) = studio.train(model, weights, &format!("--max_steps 2 --out {model}"));
        assert_eq!(exit, Some(0), "{model}\n{said}");
        let timing = studio.json(&format!("{model}/timing.json"));
        assert_eq!(estimated["dry_run"]["tokens"], timing["tokens"], "{model}");
    }
}

#[test]
fn a_place_for_a_clip_without_one_is_named_before_training() {
    let workshop = Workshop::new();
    let row = |ids: [u32; 3]| json!({ "input_ids": ids, "labels": [-100, -100, ids[2]] });
    let rows = workshop.rows("tokens.jsonl", &[row([5, 6, 7]), row([5, 354, 7])]);
    let weights = repository().join("plugins/models/qwen2-audio/demo");
    let weights = format!("weights={}", weights.display());
    let line = ["train", "--model", "qwen2-audio", "-M", &weights, "--rows", &rows].map(str::to_owned);
    let (exit, _, said) = workshop.host(&line);
    assert_eq!(exit, Some(3), "{said}");
    assert!(
        said.contains("`row 1`: it has the token 354, the place of a clip, and no clip"),
        "{said}"
    );
}

/// A row of nine tokens, seven of which are learnt, takes 4,104 bytes, and one of seven tokens 3,992.
#[test]
fn lessons_that_are_too_large_for_the_memory_are_named_before_training() {
    let school = School::new();
    for more in ["", "--dry-run"] {
        let words = [
            "lessons that alone do not fit into the 4000 bytes",
            "`row 5` (9 tokens, 4104 bytes)",
            "and others",
        ];
        school.check(&format!("{RUN} -M available=4000 --out out {more}"), 3, &words);
        let words = ["this run takes 3704 bytes of memory, and 100 bytes are free", "qlora"];
        school.check(&format!("{RUN} -M available=100 --out out {more}"), 3, &words);
    }
    assert!(!school.path("out").exists());
}

/// A LoRA that is part of a model stays beside what is learnt; only weights that lie in a folder of another part are not
/// learnt whole.
#[test]
fn models_with_a_lora_of_their_own_are_trained_beside_it() {
    let studio = Studio::new(&[8_000; 4]);
    let short = "--max_steps 2 --logging_steps 1 --learning_rate 0.01";
    for (model, weights, more) in [
        ("salmonn", "salmonn/golden/tiny", ""),
        ("af3", "af3/golden/hears", "-M thinking=true"),
    ] {
        let (exit, planned, said) = studio.train(model, weights, &format!("{more} {short} --out none --dry-run"));
        assert_eq!(exit, Some(0), "{model}\n{said}");
        let planned: Value = serde_json::from_str(&planned).expect("JSON");
        let (exit, _, said) = studio.train(model, weights, &format!("{more} {short} --out {model}"));
        assert_eq!(exit, Some(0), "{model}\n{said}");
        let timing = studio.json(&format!("{model}/timing.json"));
        assert_eq!(planned["dry_run"]["tokens"], timing["tokens"], "{model}");
    }
    for more in ["", "--dry-run"] {
        let full = format!("--method full -M thinking=true {short} --out none {more}");
        let (exit, _, said) = studio.train("af3", "af3/golden/hears", &full);
        assert_eq!(exit, Some(2), "{said}");
        assert!(
            said.contains("all weights of the variant that thinks cannot be learnt"),
            "{said}"
        );
    }
}

/// Blocks are trained beside, as the fp32 values that they stand for, and never learnt themselves.
#[test]
fn weights_in_blocks_are_not_learnt() {
    let studio = Studio::new(&[8_000; 4]);
    let weights = repository().join("plugins/models/salmonn/golden/tiny");
    let (weights, blocks) = (format!("weights={}", weights.display()), studio.workshop.path("blocks"));
    let blocks = blocks.display().to_string();
    let convert = [
        "convert",
        "salmonn",
        "--out",
        &blocks,
        "-M",
        &weights,
        "-M",
        "quant=q8_0",
    ]
    .map(str::to_owned);
    let (exit, _, said) = studio.workshop.host(&convert);
    assert_eq!(exit, Some(0), "{said}");
    let frozen = |weights: &str| {
        let (exit, planned, said) = studio.train("salmonn", weights, "--max_steps 2 --out none --dry-run");
        assert_eq!(exit, Some(0), "{said}");
        let planned: Value = serde_json::from_str(&planned).expect("JSON");
        planned["dry_run"]["memory"]["frozen_bytes"].as_u64().expect("bytes")
    };
    assert!(frozen(&blocks) > frozen("salmonn/golden/tiny"));
    let (exit, _, said) = studio.train("salmonn", &blocks, "--max_steps 2 --out blocks-lora");
    assert_eq!(exit, Some(0), "{said}");
    let gguf = "qwen3/golden/gguf/llama.gguf";
    for (model, weights) in [("salmonn", blocks.as_str()), ("qwen3", gguf)] {
        let (exit, _, said) = studio.train(model, weights, "--method full --max_steps 2 --out none");
        assert_eq!(exit, Some(2), "{model}\n{said}");
        assert!(said.contains("in a type that can be learnt"), "{model}\n{said}");
    }
}

/// Its header is whole, so that it is found when its step comes.
#[test]
fn a_clip_that_is_cut_short_ends_two_processes_together_and_the_run_goes_on() {
    let studio = Studio::new(&[8_000; 12]);
    let way = "--processes 2 --learning_rate 0.02 --per_device_train_batch_size 1 --gradient_accumulation_steps 1 \
        --num_train_epochs 1 --logging_steps 1 --eval_strategy epoch --save_strategy no";
    let train = |out: &str| studio.train("qwen2-audio", "qwen2-audio/demo", &format!("{way} --out {out}"));
    let (exit, _, said) = train("whole");
    assert_eq!(exit, Some(0), "{said}");
    let logged = |out: &str| -> Vec<(Value, Value, Value)> {
        let text = String::from_utf8(studio.bytes(&format!("{out}/metrics.jsonl"))).expect("a text");
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("a line"));
        lines
            .map(|line| (line["step"].clone(), line["loss"].clone(), line["eval_loss"].clone()))
            .collect()
    };
    // In the batches of either process, and among those held out.
    let mut saved = Vec::new();
    for number in [3, 6, 11] {
        let (out, clip) = (format!("cut-{number}"), studio.clip(number));
        let bytes = std::fs::read(&clip).expect("a clip");
        std::fs::write(&clip, &bytes[..bytes.len() / 2]).expect("a clip");
        let (exit, _, said) = train(&out);
        assert_eq!(exit, Some(3), "{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{said}");
        let named = format!(
            "sample `row-{number}` cannot be learnt\n  Caused by: cannot use clip `{}`",
            clip.display()
        );
        assert!(said.contains(&named) && said.contains("it is cut short"), "{said}");
        std::fs::write(&clip, bytes).expect("a clip");
        saved.extend(
            said.contains("when this can be read, the same command goes on there")
                .then_some(number),
        );
        let (exit, _, said) = train(&out);
        assert_eq!(
            (exit, said.contains("going on at step")),
            (Some(0), saved.contains(&number)),
            "{said}"
        );
        assert_eq!(logged(&out), logged("whole"), "{number}");
        let model = "final_model/adapter_model.safetensors";
        assert!(
            studio.bytes(&format!("{out}/{model}")) == studio.bytes(&format!("whole/{model}")),
            "{number}"
        );
    }
    assert!(
        saved.len() >= 2 && saved.contains(&11),
        "only the first step has nothing to keep: {saved:?}"
    );
}

/// Starts two processes that take their time, in a group of their own as under a terminal, until one has logged.
fn started(school: &School, line: &str) -> (Child, Pid) {
    let mut command = school.command(line);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    let child = quiet.process_group(0).spawn().expect("it starts");
    wait("nothing was logged", || {
        std::fs::read_to_string(school.path("out/metrics.jsonl")).is_ok_and(|text| text.contains("\"step\":3"))
    });
    let pid = Pid::from_raw(child.id() as i32).expect("a process");
    (child, pid)
}

#[track_caller]
fn wait(what: &str, until: impl Fn() -> bool) {
    let began = Instant::now();
    while !until() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn checkpoints(school: &School) -> usize {
    let entries = std::fs::read_dir(school.path("out")).expect("a folder").flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("checkpoint-"))
        .count()
}

const SLOW: &str = "--processes 2 --save_steps 100 --num_train_epochs 60 -M pause_ms=20 --out out";

#[test]
fn ctrl_c_in_a_terminal_saves_what_several_processes_learnt() {
    let school = School::new();
    let line = format!("{RUN} {SLOW}");
    let (mut child, pid) = started(&school, &line);
    kill_process_group(pid, Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(checkpoints(&school), 1);
}

#[test]
fn processes_end_with_the_program_that_started_them() {
    let school = School::new();
    let line = format!("{RUN} {SLOW}");
    let (mut child, pid) = started(&school, &line);
    kill_process(pid, Signal::KILL).expect("it is there");
    child.wait().expect("it ends");
    wait("they go on", || checkpoints(&school) == 1);
}

#[test]
fn a_full_disk_is_told_once_by_several_processes() {
    let school = School::new();
    let line = format!("{RUN} --processes 2 -M full_at=8 --out out");
    let output = school.command(&line).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(6), "{said}");
    assert_eq!(said.matches("error: ").count(), 1, "{said}");
    assert!(
        said.contains("No space left on device") && checkpoints(&school) == 1,
        "{said}"
    );
}
