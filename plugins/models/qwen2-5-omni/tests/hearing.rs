//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `QWEN2_5_OMNI_GOLDEN=DIR:DIR cargo test -p qwen2-5-omni --test hearing` compares others too.

extern crate qwen2_5_omni as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Code, Lesson, Message, NoCallbacks, Prompt, Turn};
use std::path::{Path, PathBuf};
use testkit::hearing::{self, about, tone};
use testkit::{copy, edit, parity, tensors};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hears")
}

fn open(settings: Value) -> ModelClient {
    testkit::open("qwen2.5-omni", &golden(), settings).unwrap()
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    for folder in [golden()].into_iter().chain(parity::given("QWEN2_5_OMNI_GOLDEN")) {
        hearing::check("qwen2.5-omni", &folder, &["features"]);
    }
}

/// `plugins/kit/train/golden/listening.py` records the runs; `QWEN2_5_OMNI_TRAINING=DIR:DIR` compares others too.
#[test]
fn what_the_reference_learnt_is_learnt() {
    testkit::training::check("qwen2.5-omni", &golden());
    testkit::training::check_given("qwen2.5-omni", "QWEN2_5_OMNI_TRAINING");
}

/// transformers 5 writes such names when it is asked to keep its classes' own (`save_original_format=False`).
#[test]
fn checkpoints_with_the_names_of_the_newer_classes_answer_alike() {
    // The whole checkpoint's, and those of the thinker alone.
    for thinker in ["thinker.", ""] {
        let folder = copy(&golden());
        tensors::change(folder.path(), |all| {
            let renamed = std::mem::take(all).into_iter().map(|(name, tensor)| {
                let name = name.strip_prefix("thinker.").expect("the thinker's");
                let name = match name.split_once('.').expect("a part") {
                    ("model", layers) => format!("{thinker}model.language_model.{layers}"),
                    ("audio_tower" | "visual", _) => format!("{thinker}model.{name}"),
                    _ => format!("{thinker}{name}"),
                };
                (name, tensor)
            });
            *all = renamed.collect();
        });
        let model = testkit::open("qwen2.5-omni", folder.path(), json!({ "quant": "none" })).unwrap();
        let what = ["prompt", "lesson", "audio_embeddings", "logits", "greedy"];
        parity::check(&model, &golden().join("golden"), None, &what, 1e-3);
        // The tower stays plain, and what is seen with is not counted.
        let precision = |folder: &Path| {
            let model = testkit::open("qwen2.5-omni", folder, json!({ "quant": "q8_0" })).unwrap();
            (model.card().unwrap().precision, model.memory().unwrap().host_bytes)
        };
        assert_eq!(precision(folder.path()), precision(&golden()));
    }
}

/// The path for GPUs, computed on a processor: equal in fp32, and consistent in bf16.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    hearing::check("qwen2.5-omni", &golden(), &["features"]);
    parity::check_narrow("qwen2.5-omni", &golden());
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open(json!({}));
    // Every two steps of 20 ms are one token, over the whole clip: 1.01 s are 51 steps in two blocks.
    let reply = model
        .reply(&about(vec![tone(1.01, 0.1), tone(0.05, 0.1)]), &NoCallbacks)
        .unwrap();
    assert_eq!(reply.usage.clip_tokens, 25 + 1);
    assert!((reply.usage.clip_seconds - 1.06).abs() < 1e-9);
}

#[test]
fn a_place_for_what_it_cannot_see_is_refused() {
    let model = open(json!({}));
    for (words, what) in [("<|IMAGE|>", "images"), ("<|VIDEO|>", "videos")] {
        let prompt = Prompt::new([Message::user(format!("Look: {words}"))]);
        let error = model.reply(&prompt, &NoCallbacks).unwrap_err();
        let expected = format!("the prompt has a place for {what}, which are not supported yet");
        assert_eq!((error.code, error.message), (Code::UNSUPPORTED, expected));
    }
}

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let lengths = [vec![0.05], vec![0.9, 0.3], vec![], vec![2.3]];
    let clips = lengths.map(|lengths| lengths.into_iter().map(|length| tone(length, 0.07)).collect());
    hearing::check_batch(&open(json!({})), clips.map(about).to_vec());
}

#[test]
fn a_clip_is_cut_where_the_feature_extractor_says() {
    let folder = copy(&golden());
    edit(folder.path(), "preprocessor_config.json", |config| {
        config["chunk_length"] = json!(2)
    });
    let model = testkit::open("qwen2.5-omni", folder.path(), json!({})).unwrap();
    assert_eq!(model.card().unwrap().longest_clip, Some(2.0));
    let reply = model.reply(&about(vec![tone(2.5, 0.1)]), &NoCallbacks).unwrap();
    assert_eq!((reply.usage.clip_tokens, reply.usage.clip_seconds), (50, 2.0));
    assert_eq!(reply.flags, ["cut-clip"]);
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    hearing::check_bad_clips(&open(json!({})), "<|AUDIO|>", vec![]);
}

#[test]
fn a_conversation_without_a_system_text_has_the_publishers() {
    let text = |settings: Value, messages: Vec<Message>| open(settings).tokens(&Prompt::new(messages)).unwrap().text;
    let check = |settings: Value, system: &str| {
        let begins = format!("<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nHi<|im_end|>");
        let text = text(settings, vec![Message::user("Hi")]);
        assert!(text.starts_with(&begins), "{text}");
    };
    let published = "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving \
                     auditory and visual inputs, as well as generating text and speech.";
    check(json!({}), published);
    check(
        json!({ "system": "You are a speech recognition model." }),
        "You are a speech recognition model.",
    );
    check(json!({ "system": "" }), "You are a helpful assistant."); // as the template says
    let own = text(json!({}), vec![Message::system("Be brief."), Message::user("Hi")]);
    assert!(own.starts_with("<|im_start|>system\nBe brief.<|im_end|>"), "{own}");
}

#[test]
fn a_lesson_is_taught_as_it_will_be_asked() {
    let model = open(json!({}));
    let turn = |message: Message, learn: bool| Turn { message, learn };
    let lesson = Lesson {
        turns: vec![turn(Message::user("Hi"), false), turn(Message::assistant("Yes"), true)],
        ..Lesson::default()
    };
    let (taught, asked) = (
        model.lesson_tokens(&lesson).unwrap(),
        model.tokens(&Prompt::new([Message::user("Hi")])).unwrap(),
    );
    assert_eq!(taught.ids[..asked.ids.len()], asked.ids);
    let learnt = taught.learn.iter().position(|&learn| learn);
    assert_eq!(learnt, Some(asked.ids.len()));
}
