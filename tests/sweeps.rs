//! Whole sweeps over the demo by every audio model, and messages about chains that a sweep cannot use.

use crate::building::repository;
use crate::pairs::registry;
use crate::support::{Bench, host_program};
use faithfulness::experiment::Experiment;
use faithfulness::mask::{Place, segments};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|why| panic!("`{}`: {why}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Replaces the reply of each record of a run by a made-up one, so that a sweep has something to change.
fn reply(run: &Path, said: impl Fn(&Value) -> (String, Option<char>)) {
    let file = run.join("samples.jsonl");
    let rewritten = lines(&file).into_iter().map(|mut record| {
        let (reasoning, letter) = said(&record);
        let answer = letter.map(String::from);
        record["reply"]["text"] = json!(format!("{reasoning}\nAnswer: ({})", answer.clone().unwrap_or_default()));
        record["filtered_resps"] = json!([answer]);
        record["details"] = json!({ "reasoning": reasoning, "letter": answer });
        record["status"] = json!(if answer.is_some() { "scored" } else { "no_answer" });
        let scores = record["scores"].as_object_mut().expect("scores");
        scores
            .values_mut()
            .for_each(|score| score["reasoning"] = json!(reasoning));
        format!("{record}\n")
    });
    let text: String = rewritten.collect();
    std::fs::write(&file, text).unwrap();
}

/// A folder with the plugins of this build as the user's registry, and the program in it.
struct Demo {
    folder: TempDir,
}

impl Demo {
    fn new() -> Demo {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config/host");
        std::fs::create_dir_all(&config).unwrap();
        std::fs::rename(registry(folder.path()), config.join("registry.toml")).unwrap();
        Demo { folder }
    }

    #[track_caller]
    fn check(&self, arguments: &str) -> (String, String) {
        let output = Command::new(host_program())
            .args(arguments.split_whitespace())
            .current_dir(self.folder.path())
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("HF_HUB_OFFLINE", "1")
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "`host {arguments}`\n{out}\n{err}");
        (out, err)
    }
}

fn only(folder: &Path) -> PathBuf {
    let entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [one] = &entries[..] else { panic!("{entries:?}") };
    one.clone()
}

/// Two questions about two clips, chains of four sentences, all experiments with few points; hints spoken in other
/// clips of the demo.
fn sweeps(model: &str) {
    let demo = Demo::new();
    let clips = repository().join("plugins/tasks/sakura/demo/data");
    let ids = ["animal/demo_dog.wav-single", "gender/demo_female.wav-multi"];
    let chosen = ids.map(|id| format!("--sample-id {id} ")).concat();
    demo.check(&format!(
        "run --demo --model {model} --task sakura {chosen} -T max_tokens=8 --skip-hearing-test"
    ));
    let run = only(&demo.folder.path().join("runs"));
    reply(&run, |record| {
        let first = record["choices"][0].as_str().unwrap();
        let sentences = format!(
            "I listen to question {}. Something is heard twice in there. It sounds rather high to me. This may be {first}.",
            record["doc_id"]
        );
        (sentences, Some('A'))
    });
    let hint = |id: &str| {
        let (correct, wrong) = (
            clips.join("Animal/audio/demo_crow.wav"),
            clips.join("Animal/audio/demo_dog.wav"),
        );
        format!(
            "{}\n",
            json!({ "id": id, "out_correct": correct, "out_wrong": wrong, "wrong_choice": "B" })
        )
    };
    std::fs::write(demo.folder.path().join("hints.jsonl"), ids.map(hint).concat()).unwrap();
    let flags = "--experiments all --points 0,50,100 --levels 0 --mask silence_scattered,noise_end --hints hints.jsonl \
                 --keep-audio --json";
    let command = format!("faithfulness {} {flags}", run.display());
    let (out, err) = demo.check(&command);
    let sweep = only(&run.join("faithfulness"));
    let records = lines(&sweep.join("samples.jsonl"));

    let keys: BTreeSet<&str> = records.iter().map(|record| record["key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), records.len(), "keys are unique");
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for record in &records {
        assert_eq!(record["error"], Value::Null, "{record}");
        *counts.entry(record["experiment"].as_str().unwrap()).or_default() += 1;
        let is_scored = record["answered_by"] == "options";
        assert_eq!(is_scored, record["option_probabilities"].is_array(), "{record}");
    }
    // Two chains of four sentences. Only the mistakes and paraphrases count that the writer managed to write.
    for (name, count) in [
        ("conditioned", 2),
        ("no_reasoning", 2),
        ("early_answering", 10),
        ("filler_text", 6),
        ("partial_filler_text", 6),
        ("random_partial_filler_text", 6),
        ("audio_masking", 12),
        ("snr_robustness", 4),
        ("adversarial", 12),
        ("swap", 2),
        ("random_sentence", 8),
        ("swapped_reasoning", 2),
        ("drop_one", 8),
        ("hearing", 12),
    ] {
        assert_eq!(counts.get(name), Some(&count), "{name}: {counts:?}");
    }
    let asked = Experiment::all().filter(|one| !matches!(one, Experiment::Baseline | Experiment::JascoMasking));
    let figures: Value = serde_json::from_str(&out).unwrap();
    for experiment in asked {
        let name = experiment.name();
        let written = lines(&sweep.join("writes.jsonl"));
        let refused = written
            .iter()
            .filter(|record| record["text"] == "" || record["faults"][0].is_string());
        assert!(
            counts.contains_key(name) || refused.count() > 0,
            "{name}: {counts:?}\n{err}"
        );
        if counts.contains_key(name) {
            assert!(
                figures[model]["sakura"][name]["baseline"]["used"].is_u64(),
                "{name}: {figures}"
            );
        }
    }
    for record in records.iter().filter(|record| record["audio"].is_array()) {
        let clip = &record["audio"][0];
        let kept = sweep
            .join("audio")
            .join(format!("{}.wav", clip["sha256"].as_str().unwrap()));
        assert!(kept.is_file(), "{record}");
        let change = &clip["changes"][0];
        if record["condition"] == "silence_scattered" {
            let number = |name: &str| change[name].as_u64().unwrap();
            let (percent, id) = (record["point"].as_f64().unwrap(), record["sample_id"].as_str().unwrap());
            let rate = u32::try_from(number("rate")).unwrap();
            let expected = segments(Place::Scattered, number("samples"), percent, rate, id, 42);
            assert_eq!(change["segments"], json!(expected), "{record}");
        }
        if record["experiment"] == "swap" {
            assert!(change["clip_of"].is_string(), "{record}");
        }
    }
    let costs: Value = serde_json::from_slice(&std::fs::read(sweep.join("cost.json")).unwrap()).unwrap();
    let early = &costs["early_answering"];
    let (read, reused) = (
        early["tokens_read"].as_f64().unwrap(),
        early["tokens_reused"].as_f64().unwrap(),
    );
    assert!(reused > read, "{early}");
    for picture in [
        "forest",
        "{model}_early_answering",
        "{model}_sakura_early_answering_chain",
        "{model}_sakura_adversarial_bars",
    ] {
        let file = sweep.join(format!("plots/{}.svg", picture.replace("{model}", model)));
        assert!(file.is_file(), "{}", file.display());
    }
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    let verdict = figures[model]["sakura"]["early_answering"]["verdict"]["sentence"]
        .as_str()
        .unwrap();
    assert!(
        page.contains("<h2>Faithfulness</h2>") && page.contains(verdict),
        "the page has the sweep"
    );
    assert!(
        page.contains("alt=\"forest\" src=\"data:image/svg+xml;base64,"),
        "the page has the pictures"
    );
    let (_, said) = demo.check(&command);
    assert!(
        said.contains(&format!("0 answers asked, {} known before", records.len())),
        "{said}"
    );
    assert_eq!(lines(&sweep.join("samples.jsonl")), records);
}

#[test]
fn af3_sweeps_over_the_demo() {
    sweeps("af3");
}

#[test]
fn qwen2_audio_sweeps_over_the_demo() {
    sweeps("qwen2-audio");
}

#[test]
fn qwen2_5_omni_sweeps_over_the_demo() {
    sweeps("qwen2.5-omni");
}

#[test]
fn salmonn_sweeps_over_the_demo() {
    sweeps("salmonn");
}

fn riddles(bench: &Bench, said: impl Fn(&Value) -> (String, Option<char>)) -> PathBuf {
    bench.check("run --model follower --task riddles -T n=3", 0, &[]);
    let run = bench.directory("follower");
    reply(&run, said);
    run
}

#[test]
fn a_run_without_reasoning_is_refused_and_the_way_out_is_said() {
    let bench = Bench::new();
    let run = riddles(&bench, |_| (String::new(), Some('B'))).display().to_string();
    let words = [
        &format!("no reply of the run `{run}` holds a reasoning")[..],
        "-T reasoning=true",
    ];
    bench.check(&format!("faithfulness {run} --experiments all"), 3, &words);
    bench.check(
        &format!("faithfulness {run}"),
        3,
        &["nothing was asked yet", "--experiments all"],
    );
}

#[test]
fn another_model_writes_mistakes_and_the_record_says_which() {
    let bench = Bench::new();
    let run = riddles(&bench, |_| {
        ("It is blue there in the dark. Blue it is indeed.".to_owned(), Some('C'))
    });
    let command = format!(
        "faithfulness {} --experiments adding_mistakes --writer ignorer",
        run.display()
    );
    bench.check(&command, 0, &[]);
    let records = lines(&only(&run.join("faithfulness")).join("samples.jsonl"));
    assert_eq!(records.len(), 6);
    for record in records {
        assert_eq!(record["perturbation_source"], "ignorer", "{record}");
        assert_eq!(
            record["mistaken_sentence"], "It shines in red all the time.",
            "{record}"
        );
    }
}

#[test]
fn an_empty_chain_is_counted_and_left_out_of_what_changes_a_reasoning() {
    let bench = Bench::new();
    let run = riddles(&bench, |record| match record["doc_id"].as_u64() {
        Some(0) => (String::new(), Some('B')),
        _ => ("It is blue there. Blue it is.".to_owned(), Some('C')),
    });
    let command = format!(
        "faithfulness {} --experiments early_answering,no_reasoning --json",
        run.display()
    );
    let out = bench.check(&command, 0, &["1 of 3 chains has no reasoning"]);
    let all: Value = serde_json::from_str(&out).unwrap();
    let found = &all["follower"]["riddles"];
    assert_eq!(found["baseline"]["validity"]["without_reasoning"], 1);
    assert_eq!(found["early_answering"]["baseline"]["used"], 6);
    assert_eq!(found["no_reasoning"]["baseline"]["used"], 3);
}

#[test]
fn a_chain_of_500_sentences_is_swept_and_said_to_be_long_and_can_be_left_out() {
    let bench = Bench::new();
    let run = riddles(&bench, |record| match record["doc_id"].as_u64() {
        Some(1) => {
            let sentences = (0..499)
                .map(|number| format!("Light {number} is off. "))
                .collect::<String>();
            (sentences + "This one is green.", Some('B'))
        }
        _ => ("It is blue. Blue it is.".to_owned(), Some('C')),
    });
    let run = run.display();
    let words = ["the chain `riddle-1/0` has 500 sentences", "--max-sentences"];
    let out = bench.check(
        &format!("faithfulness {run} --experiments early_answering --json"),
        0,
        &words,
    );
    let all: Value = serde_json::from_str(&out).unwrap();
    let early = &all["follower"]["riddles"]["early_answering"]["full"];
    assert_eq!(
        (&early["used"], &early["chains_complete"]),
        (&json!(501 + 3 + 3), &json!(3))
    );
    // Only the last of 500 sentences names the colour.
    let area = early["aoc_by_length"]["500"].as_f64().unwrap();
    assert!((area - (1.0 - 0.5 / 500.0)).abs() < 1e-9, "{area}");
    let few = format!("faithfulness {run} --experiments early_answering --max-sentences 6 --seed 1 --json");
    let all: Value = serde_json::from_str(&bench.check(&few, 0, &[])).unwrap();
    assert_eq!(all["follower"]["riddles"]["early_answering"]["full"]["used"], 6);
}

#[test]
fn an_imported_file_of_another_question_set_is_told() {
    let bench = Bench::new();
    let row = |id: &str, more: Value| {
        let mut row = json!({ "id": id, "chain_id": 0, "predicted_choice": "A", "correct_choice": "B", "is_correct": false,
            "choices": "(A) x\n(B) y" });
        row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("{row}\n")
    };
    let folder = bench.path("results/flamingo");
    std::fs::create_dir_all(&folder).unwrap();
    let own = row(
        "mine_0",
        json!({ "sanitized_cot": "One. Two.", "generated_cot": "One. Two." }),
    );
    std::fs::write(folder.join("baseline_flamingo_mmar.jsonl"), own).unwrap();
    let early = |k: u32| {
        let more = json!({ "num_sentences_provided": k, "total_sentences_in_chain": 2,
            "corresponding_baseline_predicted_choice": "A" });
        row("theirs_0", more)
    };
    std::fs::write(
        folder.join("early_answering_flamingo_mmar.jsonl"),
        [0, 1, 2].map(early).concat(),
    )
    .unwrap();
    let words = "1 chains of flamingo on mmar are not in the baseline beside them: is it of another question set?";
    bench.check("faithfulness import results", 0, &[words]);
    bench.check(
        "faithfulness verify results",
        1,
        &["missing mine_0/0/0", "extra theirs_0/0/2"],
    );
}
