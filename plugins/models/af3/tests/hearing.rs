//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `AF3_GOLDEN=DIR:DIR cargo test -p af3 --test hearing` compares others too.

extern crate af3 as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Clip, Code, Lesson, LoraUse, Message, NoCallbacks, Prompt, Result, Turn};
use std::path::{Path, PathBuf};
use testkit::hearing::{self, about, scores, tone};
use testkit::tensors::{self, Stored};
use testkit::{copy, parity};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hears")
}

fn try_open(folder: &Path, settings: Value) -> Result<ModelClient> {
    testkit::open("af3", folder, settings)
}

fn open() -> ModelClient {
    try_open(&golden(), json!({})).unwrap()
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    for folder in [golden()].into_iter().chain(parity::given("AF3_GOLDEN")) {
        hearing::check("af3", &folder, &["features"]);
    }
}

/// `plugins/kit/train/golden/listening.py` records the runs; `AF3_TRAINING=DIR:DIR` compares others too.
#[test]
fn what_the_reference_learnt_is_learnt() {
    testkit::training::check("af3", &golden());
    testkit::training::check_given("af3", "AF3_TRAINING");
}

/// The path for GPUs, computed on a processor: equal in fp32, and consistent in bf16.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    hearing::check("af3", &golden(), &["features"]);
    parity::check_narrow("af3", &golden());
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open();
    let reply = |clips| model.reply(&about(clips), &NoCallbacks).unwrap();
    // Every two steps of 20 ms are one token, in each window of a second here; 0.33 s of the third are 17 steps.
    let long = reply(vec![tone(2.33, 0.1)]);
    assert_eq!((long.usage.clip_tokens, long.usage.clip_seconds), (25 + 25 + 8, 2.33));
    assert!(long.flags.is_empty(), "{:?}", long.flags);
    assert_eq!(reply(vec![]).usage.clip_tokens, 0);
}

#[test]
fn windows_are_heard_one_by_one() {
    let model = open();
    let with = |last: f32| {
        let mut samples = tone(1.5, 0.1).samples().to_vec();
        samples.iter_mut().skip(23_000).for_each(|sample| *sample = last);
        scores(&model, about(vec![Clip::new(16_000, samples)]))[0]
    };
    let (one, other) = (with(0.0), with(0.9));
    assert!((one - other).abs() > 1e-4, "{one} {other}");
}

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let prompts = [0.05, 1.3, 0.4].map(|length| about(vec![tone(length, 0.07)]));
    hearing::check_batch(&open(), [&prompts[..], &[about(vec![])]].concat());
}

#[test]
fn a_clip_is_cut_at_the_published_limit() {
    let folder = copy(&golden());
    std::fs::write(folder.path().join("processor_config.json"), r#"{"max_audio_len": 2}"#).unwrap();
    let model = try_open(folder.path(), json!({})).unwrap();
    let reply = model.reply(&about(vec![tone(2.5, 0.1)]), &NoCallbacks).unwrap();
    assert_eq!((reply.usage.clip_tokens, reply.usage.clip_seconds), (50, 2.0));
    assert_eq!(reply.flags, ["cut-clip"]);
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    let two = about(vec![tone(0.5, 0.1), tone(0.5, 0.2)]);
    let one_place = "the prompt has 2 clips, its text as the chat template renders it has 1 places for one";
    hearing::check_bad_clips(&open(), "<sound>", vec![(two, Code::DATA, one_place)]);
}

/// The LoRA and the replaced weights, as peft and the reference apply them to the checkpoint.
#[test]
fn the_variant_that_thinks_is_reproduced() {
    let model = try_open(&golden(), json!({ "thinking": true })).unwrap();
    let recorded = golden().join("think/golden");
    let what = ["prompt", "audio_embeddings", "logits", "greedy"];
    parity::check(&model, &recorded, Some("think"), &what, 1e-3);
    // The checkpoint without the variant is another model, and so is the variant without its LoRA.
    let all_right = |model: &ModelClient, lora: Option<&str>| {
        let report = model.replay(&json!({ "golden": recorded, "lora": lora })).unwrap();
        report["ok"] == true
    };
    assert!(!all_right(&model, None));
    assert!(!all_right(&open(), None));
}

#[test]
fn what_is_to_be_thought_about_is_asked_so() {
    let text = |settings: Value, prompt: &Prompt| {
        let model = try_open(&golden(), settings).unwrap();
        model.tokens(prompt).unwrap().text
    };
    let asks = |text: &str, end: &str| {
        assert!(
            text.contains(&format!("{end}<|im_end|>\n<|im_start|>assistant")),
            "{text}"
        )
    };
    let words = "Please think and reason about the input audio before you respond.";
    let thinks = json!({ "thinking": true });
    let mut prompt = about(vec![tone(0.04, 0.1)]);
    asks(&text(thinks.clone(), &prompt), &format!("<sound>What is it?\n{words}"));
    asks(&text(json!({}), &prompt), "<sound>What is it?");
    prompt.messages.push(Message::assistant("A dog."));
    prompt.messages.push(Message::user("Sure?"));
    asks(
        &text(thinks.clone(), &prompt),
        &format!("A dog.<|im_end|>\n<|im_start|>user\nSure?\n{words}"),
    );
    prompt.thinking = Some(false);
    asks(&text(thinks.clone(), &prompt), "Sure?");
    prompt.messages.truncate(1);
    prompt.messages[0].parts.pop();
    prompt.thinking = None;
    asks(&text(thinks, &prompt), &format!("user\n<sound>{words}"));
}

/// A lesson is asked as its answer was found: in words that ask for reasoning if it has some.
#[test]
fn a_lesson_asks_for_reasoning_if_its_answer_has_some() {
    let model = try_open(&golden(), json!({ "thinking": true })).unwrap();
    let question = about(vec![tone(0.5, 0.1)]).messages.remove(0);
    let taught = |answer: Message| {
        let turn = |message: Message, learn: bool| Turn { message, learn };
        let lesson = Lesson {
            clips: vec![tone(0.5, 0.1)],
            turns: vec![turn(question.clone(), false), turn(answer, true)],
            with_texts: true,
            ..Lesson::default()
        };
        let texts = model.lesson_tokens(&lesson).unwrap().texts;
        texts.into_iter().map(|piece| piece.text).collect::<String>()
    };
    let answer = Message::assistant("A dog.");
    let reasoned = Message {
        thinking: Some("It barks.".to_owned()),
        ..answer.clone()
    };
    let asks = |text: &str| text.contains("Please think and reason");
    assert!(asks(&taught(reasoned)));
    assert!(!asks(&taught(answer)));
}

#[test]
fn prompts_use_the_variants_lora_unless_they_want_none() {
    let model = try_open(&golden(), json!({ "thinking": true })).unwrap();
    assert_eq!(model.card().unwrap().loras, ["think"]);
    let with = |lora: LoraUse| {
        let prompt = Prompt {
            lora,
            ..about(vec![tone(0.5, 0.1)])
        };
        scores(&model, prompt)
    };
    assert_eq!(with(LoraUse::AsLoaded), with(LoraUse::Only(vec!["think".to_owned()])));
    assert_ne!(with(LoraUse::AsLoaded), with(LoraUse::Off));
}

/// A copy of the checkpoint with the variant's folder.
fn copy_with_think() -> tempfile::TempDir {
    let folder = copy(&golden());
    let think = folder.path().join("think");
    std::fs::create_dir(&think).unwrap();
    for entry in std::fs::read_dir(golden().join("think")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, think.join(path.file_name().unwrap())).unwrap();
        }
    }
    folder
}

/// What the variant changes takes the place of four-bit codes, scales and all.
#[test]
fn the_variant_that_thinks_is_reproduced_over_four_bits() {
    let folder = copy_with_think();
    tensors::change(folder.path(), |all| {
        let name = "multi_modal_projector.linear_1.weight";
        let plain = &all[name];
        let (shape, count) = (plain.shape.clone(), plain.bytes.len() / 2);
        let state = json!({ "quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": shape });
        let scales = Stored {
            dtype: "F32".to_owned(),
            shape: vec![count.div_ceil(64)],
            bytes: vec![0; 4 * count.div_ceil(64)],
        };
        for (name, tensor) in [
            (name.to_owned(), Stored::bytes(vec![0; count / 2])),
            (format!("{name}.absmax"), scales),
            (
                format!("{name}.quant_state.bitsandbytes__nf4"),
                Stored::bytes(state.to_string().into_bytes()),
            ),
        ] {
            all.insert(name, tensor);
        }
    });
    let model = try_open(folder.path(), json!({ "thinking": true })).unwrap();
    let what = ["audio_embeddings", "logits", "greedy"];
    parity::check(&model, &golden().join("think/golden"), Some("think"), &what, 1e-3);
}

#[test]
fn a_variant_that_is_not_there_is_named() {
    let check = |file: &str| {
        let folder = copy_with_think();
        std::fs::remove_file(folder.path().join("think").join(file)).unwrap();
        let error = try_open(folder.path(), json!({ "thinking": true })).err().unwrap();
        let message = error.message.replace(folder.path().to_str().unwrap(), "DIR");
        assert_eq!(
            message,
            format!("setting `thinking` is on, but there is no `DIR/think/{file}`")
        );
        assert!(error.help.unwrap().contains("folder `think`"));
        assert_eq!(error.code, Code::MISSING);
    };
    check("adapter_config.json");
    check("non_lora_trainables.bin");
}
