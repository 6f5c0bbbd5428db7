//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `AF3_GOLDEN=DIR:DIR cargo test -p af3 --test hearing` compares others too.

extern crate af3 as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Clip, Code, Kind, Message, Part, Prompt, Sampling, Settings, Silent, make};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hears")
}

fn open(folder: &Path) -> ModelClient {
    open_in(folder, "auto")
}

fn open_in(folder: &Path, dtype: &str) -> ModelClient {
    let mut settings = Settings::default();
    settings.0.insert("weights".into(), json!(folder));
    settings.0.insert("dtype".into(), json!(dtype));
    ModelClient(make(Kind::Model, "af3", &settings).unwrap().into())
}

#[track_caller]
fn check(folder: &Path) {
    let report = open(folder).trace(&json!({ "golden": folder.join("golden") })).unwrap();
    let cases = report["cases"].as_array().unwrap();
    for what in ["prompt", "features", "audio_embeddings", "logits", "greedy"] {
        assert!(cases.iter().any(|case| case["what"] == what), "no {what}");
    }
    for case in cases {
        assert_eq!(case["ok"], true, "{}: {case}", folder.display());
        assert_ne!(case["tokens_equal"], false, "{}: {case}", folder.display());
    }
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    check(&golden());
    let given = std::env::var("AF3_GOLDEN").unwrap_or_default();
    given
        .split(':')
        .filter(|folder| !folder.is_empty())
        .for_each(|folder| check(Path::new(folder)));
}

/// What goes another way on a GPU, gone on a processor: equal in fp32; and in bf16 all that is computed fits together.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    check(&golden());
    let narrow = open_in(&golden(), "bf16").trace(&json!({ "golden": golden().join("golden") }));
    let report = narrow.unwrap();
    let mut cases = report["cases"].as_array().unwrap().iter();
    // Of logits that reach 12.
    let near = |case: &Value| case["what"] != "logits" || case["max_abs_diff"].as_f64().unwrap() < 1.0;
    assert!(cases.all(near), "{report}");
}

fn tone(seconds: f64, pitch: f32) -> Clip {
    let count = (seconds * 16_000.0) as usize;
    Clip::new(16_000, (0..count).map(|n| 0.5 * (n as f32 * pitch).sin()).collect())
}

/// A question with these clips in front.
fn about(clips: Vec<Clip>) -> Prompt {
    let mut parts: Vec<Part> = (0..clips.len()).map(Part::clip).collect();
    parts.push(Part::text("What is it?"));
    let message = Message {
        parts,
        ..Message::user("")
    };
    Prompt {
        clips,
        ..Prompt::new([message]).sample(Sampling::greedy(6))
    }
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open(&golden());
    let reply = |clips| model.reply(&about(clips), &Silent).unwrap();
    // Every two steps of 20 ms are one token, in each window of a second here; 0.33 s of the third are 17 steps.
    let long = reply(vec![tone(2.33, 0.1)]);
    assert_eq!((long.usage.clip_tokens, long.usage.clip_seconds), (25 + 25 + 8, 2.33));
    assert!(long.flags.is_empty(), "{:?}", long.flags);
    assert_eq!(reply(vec![]).usage.clip_tokens, 0);
}

#[test]
fn windows_are_heard_one_by_one() {
    let model = open(&golden());
    let scores = |clip| {
        let reply = model.reply(&about(vec![clip]).choose(["A", "B"]), &Silent).unwrap();
        reply.options[0].loglik
    };
    let with = |last: f32| {
        let mut samples = tone(1.5, 0.1).samples().to_vec();
        samples.iter_mut().skip(23_000).for_each(|sample| *sample = last);
        Clip::new(16_000, samples)
    };
    let (one, other) = (scores(with(0.0)), scores(with(0.9)));
    assert!((one - other).abs() > 1e-4, "{one} {other}");
}

#[test]
fn a_clip_is_cut_at_the_published_limit() {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, folder.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    std::fs::write(folder.path().join("processor_config.json"), r#"{"max_audio_len": 2}"#).unwrap();
    let model = open(folder.path());
    let reply = model.reply(&about(vec![tone(2.5, 0.1)]), &Silent).unwrap();
    assert_eq!((reply.usage.clip_tokens, reply.usage.clip_seconds), (50, 2.0));
    assert_eq!(reply.flags, ["cut-clip"]);
}

#[test]
fn a_message_takes_one_clip() {
    let error = open(&golden())
        .reply(&about(vec![tone(0.5, 0.1), tone(0.5, 0.2)]), &Silent)
        .unwrap_err();
    let expected = "the prompt has 2 clips, its text as the chat template renders it has 1 places for one";
    assert_eq!((error.code, error.message.as_str()), (Code::DATA, expected));
}
