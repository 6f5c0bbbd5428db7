//! `host train --eval-generations`: what a model answers while it learns.

use crate::building::repository;
use crate::recipes::{Workshop, command, flags};
use crate::train::{RUN, SHARED, School};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const FILE: &str = "eval_generations.jsonl";

fn lines(text: &[u8]) -> Vec<Value> {
    let text = String::from_utf8_lossy(text);
    let lines = text.lines().map(serde_json::from_str);
    lines.map(|line| line.expect("every line is whole")).collect()
}

#[test]
fn evaluation_lessons_are_answered_and_logged() {
    let school = School::new();
    let asked = format!("{RUN} --eval-generations 2 --eval_generation_tokens 5");
    school.check(
        &format!("{asked} --out out"),
        0,
        &["step 4/16, answer to `row 0`: \"", "expected \""],
    );
    let logged = lines(&school.bytes(&format!("out/{FILE}")));
    let places: Vec<(u64, &str)> = logged
        .iter()
        .map(|line| {
            (
                line["step"].as_u64().expect("a step"),
                line["lesson"].as_str().expect("a name"),
            )
        })
        .collect();
    let both = |step| [(step, "row 0"), (step, "row 1")];
    assert_eq!(places, [4, 8, 12, 16].map(both).concat());
    let keys: Vec<&String> = logged[0].as_object().expect("an object").keys().collect();
    let expected = "step epoch lesson prompt target generated equal generated_tokens finish";
    assert_eq!(keys, expected.split(' ').collect::<Vec<_>>());
    // The first held-out row is 9, 2, 7, 9, 2 (three times the last, and one), of which three tokens are learnt.
    let (first, last) = (&logged[0], &logged[6]);
    assert_eq!(
        (&first["prompt"], &first["target"]),
        (&json!("9 2"), &json!("7 9 2 7 9 2")),
        "{first}"
    );
    assert_eq!(
        (&last["generated"], &last["finish"]),
        (&json!("7 9 2 7 9"), &json!("length")),
        "{last}"
    );
    assert_eq!(last["equal"], false, "the target is longer than answers may be: {last}");
    assert!(String::from_utf8_lossy(&school.bytes("out/logs.log")).contains("answer to `row 1`"));
    // They are shown and change nothing: the same run without them has the same numbers, and goes on with them.
    school.check(&format!("{RUN} --out plain"), 0, &[]);
    assert!(!school.path(&format!("plain/{FILE}")).exists());
    assert_eq!(school.metrics("out"), school.metrics("plain"));
    for file in ["checkpoint-16/optimizer.safetensors", "final_model/model.safetensors"] {
        assert_eq!(
            school.bytes(&format!("out/{file}")),
            school.bytes(&format!("plain/{file}")),
            "{file}"
        );
    }
    school.check(&format!("{asked} --out plain"), 0, &["training is complete"]);
}

#[test]
fn generations_without_evaluations_are_told_of() {
    let school = School::new();
    let line = "train --model pupil --rows rows.jsonl --max_steps 2 --eval-generations 3";
    school.check(
        &format!("{line} --out out"),
        0,
        &["`eval_generations` has no effect: nothing is evaluated"],
    );
    let line = format!("{RUN} --eval-generations 3 --eval_generation_tokens 0 --out zero");
    school.check(&line, 2, &["`eval_generation_tokens` is 0"]);
}

fn started(school: &School, line: &str) -> Child {
    let mut command = school.command(line);
    let quiet = command.stdout(Stdio::null()).stderr(Stdio::null());
    quiet.spawn().expect("it starts")
}

#[test]
fn a_killed_run_ends_with_the_same_generations() {
    let school = School::new();
    let asked = format!("{RUN} --eval-generations 3 --eval_generation_tokens 6");
    school.check(&format!("{asked} --out whole"), 0, &[]);
    for number in 0..6_u64 {
        let out = format!("out{number}");
        let slow = format!("{asked} -M pause_ms=4 --out {out}");
        let mut child = started(&school, &slow);
        let began = Instant::now();
        // Behind the first checkpoint, so that later generations are thrown away and made again.
        let steps = 4 * (1 + number / 3);
        while !school.path(&format!("{out}/checkpoint-{steps}")).exists() {
            assert!(began.elapsed() < Duration::from_secs(60), "no checkpoint came");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(number * 23));
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        school.check(&slow, 0, &["going on at step"]);
        let [whole, gone_on] = ["whole", &out].map(|out| school.bytes(&format!("{out}/{FILE}")));
        assert_eq!(
            String::from_utf8_lossy(&whole),
            String::from_utf8_lossy(&gone_on),
            "{number}"
        );
        assert_eq!(school.metrics(&out), school.metrics("whole"), "{number}");
    }
}

#[test]
fn an_interrupt_during_a_generation_ends_with_130_and_nothing_is_lost() {
    let school = School::new();
    // Answers take seconds, so that the interrupt falls into one.
    let asked = format!("{RUN} --eval-generations 3 --eval_generation_tokens 100 --save_strategy no");
    let slow = format!("{asked} -M pause_ms=15 --out out");
    let mut child = started(&school, &slow);
    let began = Instant::now();
    let evaluated = || {
        let metrics = std::fs::read_to_string(school.path("out/metrics.jsonl")).unwrap_or_default();
        metrics.contains("\"eval_loss\"")
    };
    while !evaluated() {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing was evaluated");
        std::thread::sleep(Duration::from_millis(2));
    }
    let pid = rustix::process::Pid::from_raw(child.id() as i32).expect("a process");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it is there");
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert!(
        school.path("out/checkpoint-4").is_dir(),
        "it ended behind the step that it answered for"
    );
    assert!(!school.path(&format!("out/{FILE}")).exists(), "no answer was finished");
    school.check(&slow, 0, &["going on at step 4 of 16"]);
    school.check(&format!("{asked} --out whole"), 0, &[]);
    assert_eq!(
        school.bytes(&format!("out/{FILE}")),
        school.bytes(&format!("whole/{FILE}"))
    );
    assert_eq!(school.metrics("out"), school.metrics("whole"));
}

#[test]
fn two_processes_share_the_answers_and_one_writes_them() {
    let school = School::new();
    let asked = "--eval-generations 3 --eval-generation-tokens 6";
    school.check(&format!("{SHARED} 2 {asked} --out one"), 0, &[]);
    school.check(
        &format!("{SHARED} 1 {asked} --processes 2 --out two"),
        0,
        &["answer to `row 2`"],
    );
    let [one, two] = ["one", "two"].map(|out| school.bytes(&format!("{out}/{FILE}")));
    assert_eq!(lines(&one).len(), 6);
    assert_eq!(String::from_utf8_lossy(&one), String::from_utf8_lossy(&two));
}

/// Trains with generations and tests what was saved on the same samples: the last of the former are what the latter
/// answers. `said` is the file of the test's answers and its keys of name and answer.
#[track_caller]
fn check_last(workshop: &Workshop, out: &str, arguments: &[String], said: (&str, &str, &str), samples: usize) {
    let fixed = "--eval-generations 3 --eval_generation_tokens 7 --max_new_tokens 7 --logging_steps 1 --eval_strategy steps \
        --eval_steps 1 --max_steps 3 --save_strategy no --load_best_model_at_end false -M dtype=fp32 --then-run";
    let fixed = fixed.split_whitespace().map(str::to_owned);
    let path = workshop.path(out);
    let all: Vec<String> = ["train", "--learning_rate", "0.05"]
        .map(str::to_owned)
        .into_iter()
        .chain(arguments.iter().cloned())
        .chain(fixed)
        .chain(["--out".to_owned(), path.display().to_string()])
        .collect();
    let (exit, table, words) = workshop.host(&all);
    assert_eq!(exit, Some(0), "{out}\n{table}\n{words}");
    let read =
        |file: &str| lines(&std::fs::read(path.join(file)).unwrap_or_else(|why| panic!("`{file}`: {why}\n{words}")));
    let (file, name, answer) = said;
    let text = |value: &Value| value.as_str().expect("a text").trim().to_owned();
    let tested: BTreeMap<String, String> = read(file)
        .iter()
        .map(|line| (text(&line[name]), text(&line[answer])))
        .collect();
    let generations = read(FILE);
    assert_eq!(generations.len(), 3 * samples, "{out}: {generations:?}");
    let mut answers = Vec::new();
    for line in generations.iter().filter(|line| line["step"] == 3) {
        let (lesson, generated) = (text(&line["lesson"]), text(&line["generated"]));
        assert_eq!(tested.get(&lesson), Some(&generated), "{out}: {line}");
        answers.push(generated);
    }
    assert_eq!(answers.len(), samples);
    assert!(
        answers.iter().any(|answer| !answer.is_empty()),
        "{out}: the answers say nothing"
    );
    let before: Vec<String> = generations[..samples]
        .iter()
        .map(|line| text(&line["generated"]))
        .collect();
    assert_ne!(before, answers, "{out}: what was learnt shows in the answers");
}

fn weights(of: &str) -> [String; 2] {
    let weights = repository().join("plugins/models").join(of);
    ["-M".to_owned(), format!("weights={}", weights.display())]
}

#[test]
fn a_text_model_answers_as_what_it_saves_will() {
    let workshop = Workshop::new();
    let data = |file: &str| {
        repository()
            .join("plugins/tasks/finqa/demo")
            .join(file)
            .display()
            .to_string()
    };
    // Script lessons for Gemma have no `<bos>`, and the test's prompts have. At this rate it answers with bytes that are
    // no characters.
    let template = "-T style=template --max_length 2500 --learning_rate 0.005";
    let template: Vec<String> = template.split(' ').map(str::to_owned).collect();
    // Two of these runs train beside the LoRA that the first run saves.
    let first = workshop.path("qwen2.5-lora/final_model");
    let beside = ["-M".to_owned(), format!("lora=first={}", first.display())];
    for (out, model, of, method, more) in [
        ("qwen2.5-lora", "qwen2.5", "qwen3/demo-qwen2.5", "lora", &[][..]),
        ("qwen2.5-full", "qwen2.5", "qwen3/demo-qwen2.5", "full", &[]),
        ("beside-lora", "qwen2.5", "qwen3/demo-qwen2.5", "lora", &beside),
        ("beside-full", "qwen2.5", "qwen3/demo-qwen2.5", "full", &beside),
        ("gemma-full", "gemma", "gemma/golden/text", "full", &template),
    ] {
        let arguments = flags(&[
            ("model", model),
            ("task", "finqa"),
            ("method", method),
            ("train_file", &data("train.json")),
            ("eval_file", &data("test.json")),
            ("test_file", &data("test.json")),
            ("max_samples", "6"),
        ]);
        let arguments = [arguments, weights(of).to_vec(), more.to_vec()].concat();
        let said = ("test_predictions.jsonl", "id", "prediction");
        check_last(&workshop, out, &arguments, said, 3);
    }
}

/// With a frozen tower, whose vectors are kept, with one that learns and hears each clip again, and beside a LoRA that is part
/// of the model.
#[test]
fn an_audio_model_answers_as_what_it_saves_will() {
    let workshop = Workshop::new();
    let label = json!({ "scenario": "alarm", "action": "set", "entities": [{ "type": "time", "filler": "six" }] });
    let clip = |number: u32| ["audio-demo-900001.wav", "audio-demo-900001-headset.wav"][number as usize % 2];
    let rows: Vec<Value> = (1..=4).map(|number| command(number, clip(number), &label)).collect();
    let train = workshop.rows("learnt.jsonl", &rows);
    let test = workshop.rows("asked.jsonl", &rows[..2]);
    let clips = repository().join("plugins/tasks/slurp/demo").display().to_string();
    for (model, of, method, more) in [
        ("qwen2-audio", "qwen2-audio/demo", "lora", ""),
        (
            "qwen2-audio",
            "qwen2-audio/demo",
            "full",
            "--unfreeze audio_tower,multi_modal_projector",
        ),
        ("qwen2.5-omni", "qwen2-5-omni/demo", "full", ""),
        ("af3", "af3/demo", "lora", ""),
        ("af3", "af3/golden/hears", "lora", "-M thinking=true"),
        ("salmonn", "salmonn/golden/tiny", "lora", "-M beams=1"),
        ("salmonn", "salmonn/golden/tiny", "full", "-M beams=1"),
    ] {
        let of_all = [
            ("model", model),
            ("task", "slurp"),
            ("method", method),
            ("train_file", &train),
            ("eval_file", &test),
            ("test_file", &test),
            ("audio_dir", &clips),
        ];
        let more: Vec<String> = more.split_whitespace().map(str::to_owned).collect();
        let arguments = [flags(&of_all), weights(of).to_vec(), more].concat();
        check_last(
            &workshop,
            &format!("{model}-{method}-{}", of.replace('/', "-")),
            &arguments,
            ("prediction.jsonl", "id", "raw_output"),
            2,
        );
    }
}
