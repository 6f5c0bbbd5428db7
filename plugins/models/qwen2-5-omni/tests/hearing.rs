//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `QWEN2_5_OMNI_GOLDEN=DIR:DIR cargo test -p qwen2-5-omni --test hearing` compares others too.

extern crate qwen2_5_omni as _; // or its registration would not be linked in

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
    ModelClient(make(Kind::Model, "qwen2.5-omni", &settings).unwrap().into())
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
    let given = std::env::var("QWEN2_5_OMNI_GOLDEN").unwrap_or_default();
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
    // Every two steps of 20 ms are one token, over the whole clip: 1.01 s are 51 steps in two blocks.
    let reply = model
        .reply(&about(vec![tone(1.01, 0.1), tone(0.05, 0.1)]), &Silent)
        .unwrap();
    assert_eq!(reply.usage.clip_tokens, 25 + 1);
    assert!((reply.usage.clip_seconds - 1.06).abs() < 1e-9);
}

#[test]
fn a_place_for_what_it_cannot_see_is_refused() {
    let model = open(&golden());
    for (words, what) in [("<|IMAGE|>", "images"), ("<|VIDEO|>", "videos")] {
        let prompt = Prompt::new([Message::user(format!("Look: {words}"))]);
        let error = model.reply(&prompt, &Silent).unwrap_err();
        let expected = format!("the prompt has a place for {what}, which are not supported yet");
        assert_eq!((error.code, error.message), (Code::UNSUPPORTED, expected));
    }
}

#[test]
fn a_system_text_can_be_set() {
    let mut settings = Settings::default();
    settings.0.insert("weights".into(), json!(golden()));
    settings
        .0
        .insert("system".into(), json!("You are Qwen, a virtual human."));
    let model = ModelClient(make(Kind::Model, "qwen2.5-omni", &settings).unwrap().into());
    let text = |messages: Vec<Message>| model.tokens(&Prompt::new(messages)).unwrap().text;
    let begins = "<|im_start|>system\nYou are Qwen, a virtual human.<|im_end|>\n<|im_start|>user\nHi<|im_end|>";
    assert!(text(vec![Message::user("Hi")]).starts_with(begins));
    let own = text(vec![Message::system("Be brief."), Message::user("Hi")]);
    assert!(own.starts_with("<|im_start|>system\nBe brief.<|im_end|>"), "{own}");
}
