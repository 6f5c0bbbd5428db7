//! Every recipe of `examples/recipes`, through the real program: a few rows, checkpoints of some kilobytes, all files.

use crate::building::repository;
use crate::pairs;
use crate::support::host_program;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The recipes of the collections, by what trains them.
const GEMMA_1B: &str = "gemma3-1b-full";
const GEMMA_4B: &str = "gemma3-4b-qlora";
const CODER: &str = "qwen2_5-coder-3b-full";
const SETTINGS: [&str; 5] = [
    "input_all-output_numerical",
    "input_all-output_program",
    "input_gold-output_numerical",
    "input_gold-output_program",
    "input_noisy_gold-output_program",
];
const SLURP: [&str; 2] = ["slurp-qwen2-audio-rationale", "slurp-qwen2-audio-rationale-2-processes"];
const TRACES: &str = "gaia-traces-qwen3-4b-lora";
const LETTERS: &str = "arc-qwen3-0.6b-full";
const DEMO: &str = "demo-arc";

fn finqa(model: &str) -> impl Iterator<Item = String> {
    SETTINGS.iter().map(move |settings| format!("{model}-{settings}"))
}

fn recipe(name: &str) -> PathBuf {
    repository().join(format!("examples/recipes/{name}.toml"))
}

#[test]
fn every_recipe_is_tried_here() {
    let folder = std::fs::read_dir(repository().join("examples/recipes")).expect("recipes");
    let files = folder.map(|entry| entry.expect("a file").path());
    let there: BTreeSet<String> = files
        .filter(|file| file.extension().is_some_and(|ending| ending == "toml"))
        .map(|file| file.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    let all = [GEMMA_1B, GEMMA_4B, CODER].into_iter().flat_map(finqa);
    let others = SLURP.into_iter().chain([TRACES, LETTERS, DEMO]).map(str::to_owned);
    assert_eq!(there, all.chain(others).collect());
}

/// A folder to work in.
pub struct Workshop(TempDir);

/// A run's output, and the folder that it wrote.
struct Made {
    table: String,
    said: String,
    out: PathBuf,
}

impl Workshop {
    pub fn new() -> Workshop {
        let folder = tempfile::tempdir().expect("a folder");
        pairs::registry(folder.path());
        Workshop(folder)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes rows as JSON lines.
    pub fn rows(&self, name: &str, rows: &[Value]) -> String {
        let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(self.path(name), text).expect("rows");
        self.path(name).display().to_string()
    }

    pub fn host(&self, arguments: &[String]) -> (Option<i32>, String, String) {
        let output = Command::new(host_program())
            .args(arguments)
            .args(["--registry", "pairs.toml", "--offline"])
            .current_dir(self.0.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .stdin(Stdio::null())
            .output()
            .expect("the program starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// Trains by a recipe, with a tiny checkpoint and these files, and checks the files that every run writes.
    #[track_caller]
    fn train(&self, name: &str, weights: &str, more: &[String]) -> Made {
        let out = self.path(name);
        let fixed = [
            "train".to_owned(),
            "--config".to_owned(),
            recipe(name).display().to_string(),
            "-M".to_owned(),
            format!("weights={}", repository().join(weights).display()),
            "--smoke".to_owned(),
            "--out".to_owned(),
            out.display().to_string(),
        ];
        let (exit, table, said) = self.host(&[&fixed, more].concat());
        assert_eq!(exit, Some(0), "{name}\n{table}\n{said}");
        let made = Made { table, said, out };
        made.check_logs(name);
        made.check_published(name);
        made
    }
}

impl Made {
    fn text(&self, file: &str) -> String {
        let path = self.out.join(file);
        std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("`{}`: {why}\n{}", path.display(), self.said))
    }

    fn json(&self, file: &str) -> Value {
        serde_json::from_str(&self.text(file)).unwrap_or_else(|why| panic!("`{file}`: {why}"))
    }

    fn lines(&self, file: &str) -> Vec<Value> {
        let text = self.text(file);
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|why| panic!("`{file}`: {why}")))
            .collect()
    }

    /// The entries that every run logs.
    #[track_caller]
    fn check_logs(&self, name: &str) {
        let args = self.json("args.json");
        assert!(args["plan"].is_object() && args["model"].is_object(), "{name}: {args}");
        let metrics = self.lines("metrics.jsonl");
        assert!(!metrics.is_empty(), "{name} logged nothing");
        for line in &metrics {
            has(line, "type step epoch");
        }
        let losses = self.text("train_loss.log");
        for line in losses.lines() {
            let columns: Vec<&str> = line.split('\t').collect();
            assert!(columns.len() == 4 && columns[2] == "loss", "{name}: {line}");
        }
        for line in self.text("eval_loss.log").lines() {
            assert!(line.contains("\teval_loss\t"), "{name}: {line}");
        }
        assert!(self.text("logs.log").contains("steps"), "{name}");
        has(
            &self.json("timing.json"),
            "train_duration_seconds eval_duration_seconds test_inference_seconds cuda_max_memory_bytes peak_memory_bytes",
        );
        assert!(self.out.join("final_model/tokenizer.json").is_file(), "{name}");
    }

    /// The table has every published figure of the run, and its source.
    #[track_caller]
    fn check_published(&self, name: &str) {
        let text = std::fs::read_to_string(recipe(name)).expect("a recipe");
        let recipe: toml::Table = text.parse().expect("TOML");
        let Some(published) = recipe.get("published").and_then(toml::Value::as_table) else {
            assert!(!self.table.contains("published:"), "{name}\n{}", self.table);
            return;
        };
        let source = published["source"].as_str().expect("a source");
        assert!(self.table.contains(&format!("published: {source}")), "{}", self.table);
        for (figure, value) in published {
            let Some(value) = value.as_float().or(value.as_integer().map(|whole| whole as f64)) else {
                continue;
            };
            let shown = if value >= 1000.0 {
                format!("|{value:>9.0}|")
            } else if value >= 100.0 {
                format!("|{value:>9.1}|")
            } else {
                format!("|{value:>9.4}|")
            };
            assert!(self.table.contains(&shown), "{name}: {figure} {value}\n{}", self.table);
        }
    }
}

/// Checks that all of these keys are present.
#[track_caller]
fn has(value: &Value, keys: &str) {
    for key in keys.split(' ') {
        assert!(value.get(key).is_some(), "`{key}` is not in {value}");
    }
}

pub fn flags(flags: &[(&str, &str)]) -> Vec<String> {
    let both = |(flag, value): &(&str, &str)| [format!("--{flag}"), (*value).to_owned()];
    flags.iter().flat_map(both).collect()
}

/// The five runs of one model on FinQA.
fn check_finqa(model: &str, weights: &str, method: &str) {
    let workshop = Workshop::new();
    let data = |file: &str| {
        repository()
            .join("plugins/tasks/finqa/demo")
            .join(file)
            .display()
            .to_string()
    };
    let files = flags(&[
        ("train_file", &data("train.json")),
        ("eval_file", &data("test.json")),
        ("test_file", &data("test.json")),
        ("generation_max_new_tokens", "4"),
    ]);
    for (name, settings) in finqa(model).zip(SETTINGS) {
        let made = workshop.train(&name, weights, &files);
        let model_file = match method {
            "full" => "final_model/model.safetensors",
            _ => "final_model/adapter_model.safetensors",
        };
        assert!(made.out.join(model_file).is_file(), "{name}\n{}", made.said);
        let programs = settings.ends_with("program");
        let input_mode = settings.split(['_', '-']).nth(1).expect("an input mode");
        let args = made.json("args.json");
        assert_eq!(args["plan"]["method"], method, "{name}");
        let metrics = made.json("test_metrics.json");
        has(
            &metrics,
            "inference_total_seconds inference_latency_ms_avg inference_latency_ms_p50 inference_latency_ms_p90 \
             inference_latency_ms_p95 inference_latency_ms_p99 latency_file output_jsonl",
        );
        let field = if programs { "program" } else { "numerical" };
        assert_eq!(metrics["total"], 8, "{name}: {metrics}");
        assert_eq!(metrics["target_field"], field, "{name}: {metrics}");
        assert!(
            metrics["input_mode"].as_str().expect("a mode").starts_with(input_mode),
            "{metrics}"
        );
        assert_eq!(metrics["max_seq_length"], 1024, "{metrics}");
        assert_eq!(metrics["generation_max_new_tokens"], 4, "{metrics}");
        assert_eq!(metrics["generation_num_beams"], 1, "{metrics}");
        assert_eq!(metrics["test_file"], data("test.json"), "{metrics}");
        has(
            &metrics,
            if programs {
                "execution_accuracy program_accuracy"
            } else {
                "answer_accuracy"
            },
        );
        let predictions = made.lines("test_predictions.jsonl");
        assert_eq!(predictions.len(), 8, "{name}");
        for line in &predictions {
            has(line, "id question target_field prompt prediction");
            assert_eq!(line["target_field"], field);
            let prompt = line["prompt"].as_str().expect("a prompt");
            assert!(
                prompt.contains("\n\nQuestion:\n") && prompt.ends_with("\n\nAnswer:"),
                "{prompt}"
            );
            has(
                line,
                match programs {
                    true => {
                        "gold_program gold_exe_ans predicted_exe_ans execution_accuracy program_accuracy execution_error"
                    }
                    false => "gold_target answer_accuracy",
                },
            );
        }
        let latencies = made.lines("test_inference_latencies.jsonl");
        assert_eq!(latencies.len(), 8);
        has(&latencies[0], "id latency_ms");
        if input_mode == "noisy" {
            let task = &args["task_settings"];
            assert_eq!(
                [
                    &task["noisy_text_distractors"],
                    &task["noisy_table_distractors"],
                    &task["noisy_context_seed"]
                ],
                [3, 1, 42],
                "{task}"
            );
        }
    }
}

#[test]
fn gemma_1b_learns_finqa_in_full() {
    check_finqa(GEMMA_1B, "plugins/models/gemma/demo", "full");
}

#[test]
fn gemma_4b_learns_finqa_in_four_bits() {
    check_finqa(GEMMA_4B, "plugins/models/gemma/demo", "qlora");
}

#[test]
fn the_coder_learns_finqa_in_full() {
    check_finqa(CODER, "plugins/models/qwen3/demo-qwen2.5", "full");
}

/// A row in the format of collection 000.
pub fn command(id: u32, clip: &str, label: &Value) -> Value {
    json!({
        "id": format!("row-{id}"), "slurp_id": id, "filename": clip, "transcript": "wake me at six",
        "candidates": ["wake me at six", { "text": "wake me at sex" }],
        "rationale_text": { "why": "An alarm is asked for.", "sure": true }, "final": label,
    })
}

#[test]
fn an_audio_model_learns_commands_with_their_rationales() {
    let workshop = Workshop::new();
    let clips = repository().join("plugins/tasks/slurp/demo");
    let label = json!({ "intent": "alarm_set", "entities": [{ "type": "time", "filter": "six" }] });
    let plain = json!({ "scenario": "alarm", "action": "set", "entities": [] });
    let clip = |number: u32| ["audio-demo-900001.wav", "audio-demo-900001-headset.wav"][number as usize % 2];
    let mut rows: Vec<Value> = (1..=5).map(|number| command(number, clip(number), &label)).collect();
    rows.push(command(6, "gone.wav", &plain));
    let train = workshop.rows("train-rows.jsonl", &rows);
    let test = workshop.rows(
        "test-rows.jsonl",
        &[command(11, clip(0), &label), command(12, clip(1), &plain)],
    );
    let clips = clips.display().to_string();
    let files = flags(&[
        ("train_file", &train),
        ("eval_file", &test),
        ("test_file", &test),
        ("audio_dir", &clips),
        ("max_new_tokens", "4"),
    ]);
    for name in SLURP {
        let made = workshop.train(name, "plugins/models/qwen2-audio/demo", &files);
        assert!(
            made.said
                .contains("1 of 6 samples left out, since their clips are missing: `row-6`"),
            "{name}\n{}",
            made.said
        );
        let plan = &made.json("args.json")["plan"];
        let (accumulate, world) = if name == SLURP[0] { (4, 1) } else { (16, 2) };
        assert_eq!(
            (&plan["accumulate"], &plan["world"]),
            (&json!(accumulate), &json!(world)),
            "{plan}"
        );
        let generations = made.lines("eval_generations.jsonl");
        let asked =
            ["row-11", "row-12"].map(|lesson| generations.iter().filter(|line| line["lesson"] == lesson).count());
        assert!(asked[0] > 0 && asked[0] == asked[1], "{name}: {generations:?}");
        let prompt = generations[0]["prompt"].as_str().expect("a prompt");
        assert_eq!(prompt.matches("<|AUDIO|>").count(), 1, "{prompt}");
        let predictions = made.lines("prediction.jsonl");
        assert_eq!(predictions.len(), 2, "{name}");
        for line in &predictions {
            has(
                line,
                "scenario action entities pred_label file slurp_id id wer transcript candidates rationale_text raw_output target \
                 target_label type",
            );
            assert_eq!(
                (&line["scenario"], &line["action"]),
                (&json!("error"), &json!("error")),
                "{line}"
            );
            assert_eq!(
                (&line["type"], &line["transcript"]),
                (&json!("audio"), &json!("wake me at six"))
            );
        }
        assert_eq!(predictions[0]["target_label"]["scenario"], "alarm");
        assert_eq!(predictions[0]["id"], "row-11");
        let labels = made.lines("prediction_labels_only.jsonl");
        assert_eq!(labels.len(), 2);
        let keys: Vec<&String> = labels[0].as_object().expect("an object").keys().collect();
        assert_eq!(keys, ["id", "file", "slurp_id", "scenario", "action", "entities"]);
        let metrics = made.json("metrics_label_only.json");
        has(
            &metrics,
            "num_samples scenario_acc action_acc intent_acc entity_precision entity_recall entity_f1",
        );
        assert_eq!(
            (&metrics["num_samples"], &metrics["intent_acc"]),
            (&json!(2), &json!(0.0))
        );
    }
}

#[test]
fn traces_are_learnt_whole() {
    let workshop = Workshop::new();
    let messages = |words: &str| {
        json!({ "messages": [
            { "role": "user", "content": words }, { "role": "assistant", "content": "I look." },
            { "role": "tool", "content": "4" }, { "role": "assistant", "content": "FINAL ANSWER: 4" },
        ] })
    };
    let rows: Vec<Value> = (0..6)
        .map(|number| messages(&format!("What is {number} and 4?")))
        .collect();
    let train = workshop.rows("train-traces.jsonl", &rows);
    let val = workshop.rows("val-traces.jsonl", &rows[..2]);
    let made = workshop.train(
        TRACES,
        "plugins/models/qwen3/demo",
        &flags(&[("train_file", &train), ("val_file", &val)]),
    );
    assert!(made.out.join("final_model/adapter_config.json").is_file());
    let args = made.json("args.json");
    assert_eq!((&args["max_length"], &args["r"]), (&json!(2048), &json!(16)), "{args}");
    assert_eq!(args["target_modules"].as_array().map(Vec::len), Some(7), "{args}");
    assert!(
        made.lines("metrics.jsonl")
            .iter()
            .any(|line| line["eval_loss"].is_number())
    );
}

#[test]
fn letters_are_learnt_with_the_published_mask() {
    let workshop = Workshop::new();
    let data = repository().join("plugins/tasks/arc/demo");
    let file = |name: &str| data.join(name).display().to_string();
    let files = flags(&[
        ("train_file", &file("ARC-Easy-Train.jsonl")),
        ("eval_file", &file("ARC-Easy-Test.jsonl")),
        ("test_file", &file("ARC-Easy-Test.jsonl")),
    ]);
    let made = workshop.train(LETTERS, "plugins/models/qwen3/demo", &files);
    assert!(made.table.contains("with what was learnt"), "{}", made.table);
    assert_eq!(made.json("args.json")["plan"]["max_grad_norm"], 0.5);
    has(&made.json("test_metrics.json"), "acc total");
    let shown = ["train", "--config"]
        .map(str::to_owned)
        .into_iter()
        .chain([recipe(LETTERS).display().to_string()]);
    let weights = format!("weights={}", repository().join("plugins/models/qwen3/demo").display());
    let shown = shown
        .chain(["--show", "1", "--json", "-M", &weights].map(str::to_owned))
        .chain(files);
    let (exit, lesson, said) = workshop.host(&shown.collect::<Vec<_>>());
    assert_eq!(exit, Some(0), "{said}");
    let lesson: Value = serde_json::from_str(lesson.lines().next().expect("a lesson")).expect("JSON");
    let learnt = lesson["learn"]
        .as_array()
        .expect("what is learnt")
        .iter()
        .filter(|learn| **learn == true);
    // `<|im_start|>`, `assistant` (in as many tokens as this vocabulary has for it) and the line's end, letter,
    // `<|im_end|>`.
    assert!(learnt.count() >= 5, "{lesson}");
}

/// The JSON output of a run.
#[track_caller]
fn told(workshop: &Workshop, arguments: &str) -> Value {
    let words: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
    let (exit, told, said) = workshop.host(&[&words, ["--json".to_owned()].as_slice()].concat());
    assert_eq!(exit, Some(0), "{said}");
    serde_json::from_str(&told).unwrap_or_else(|why| panic!("{why}: {told}"))
}

#[test]
fn the_demo_is_taught_by_its_recipe() {
    let workshop = Workshop::new();
    let recipe = recipe(DEMO).display().to_string();
    let trained = told(&workshop, &format!("train --config {recipe} --out taught"));
    let of = |when: &str| trained["test"][when]["acc"].as_f64().expect("an accuracy");
    assert!(of("before") <= 0.6 && of("after") >= 0.8, "{trained}");
}

#[test]
fn the_demo_says_something_true() {
    let workshop = Workshop::new();
    let run = |arguments: &str| {
        told(&workshop, &format!("run --demo --model qwen3 {arguments} --out runs"))["runs"][0].clone()
    };
    let easy = run("--task arc");
    let accuracy = easy["results"]["arc_easy"]["acc,none"].as_f64().expect("an accuracy");
    assert!(accuracy >= 0.8, "{easy}");
    let mark = |run: &Value| run["host"]["marks"][0].as_str().expect("a mark").to_owned();
    assert!(mark(&easy).contains("`host train` taught such questions"), "{easy}");
    for untaught in ["--task arc -T subset=challenge --limit 2", "--task finqa --limit 1"] {
        assert!(mark(&run(untaught)).contains("the numbers mean nothing"), "{untaught}");
    }
}
