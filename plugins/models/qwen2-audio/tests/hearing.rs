//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `QWEN2_AUDIO_GOLDEN=DIR:DIR cargo test -p qwen2-audio --test hearing` compares others too.

extern crate qwen2_audio as _; // or its registration would not be linked in

use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::serde_json::{Value, json};
use plugin_api::{
    Clip, Code, Error, Kind, LoraUse, Message, Part, Prompt, Reply, Result, Sampling, Settings, Silent, make,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

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
    ModelClient(make(Kind::Model, "qwen2-audio", &settings).unwrap().into())
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
    let given = std::env::var("QWEN2_AUDIO_GOLDEN").unwrap_or_default();
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

fn scores(model: &ModelClient, prompt: Prompt) -> Vec<f64> {
    let reply = model.reply(&prompt.choose(["A", "B"]), &Silent).unwrap();
    reply.options.iter().map(|option| option.loglik).collect()
}

#[test]
fn sound_reaches_the_answer() {
    let model = open(&golden());
    let heard = scores(&model, about(vec![tone(0.5, 0.1)]));
    assert_eq!(heard, scores(&model, about(vec![tone(0.5, 0.1)])));
    for other in [tone(0.5, 0.2), Clip::new(16_000, vec![0.0; 8000])] {
        let apart = (heard[0] - scores(&model, about(vec![other]))[0]).abs();
        assert!(apart > 1e-3, "{apart}");
    }
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open(&golden());
    let reply = |clips| model.reply(&about(clips), &Silent).unwrap();
    // Every two steps of 20 ms are one token.
    let two = reply(vec![tone(0.5, 0.1), tone(0.25, 0.2)]);
    assert_eq!((two.usage.clip_tokens, two.usage.clip_seconds), (12 + 6, 0.75));
    assert!(two.flags.is_empty(), "{:?}", two.flags);
    let long = reply(vec![tone(1.5, 0.1)]);
    assert_eq!((long.usage.clip_tokens, long.usage.clip_seconds), (25, 1.0));
    assert_eq!(long.flags, ["cut-clip"]);
    assert_eq!(reply(vec![]).usage.clip_tokens, 0);
}

#[test]
fn a_prompt_without_a_template_spells_its_clip() {
    let model = open(&golden());
    let prompt = Prompt {
        plain: true,
        ..about(vec![tone(0.5, 0.1)])
    };
    let tokens = model.tokens(&prompt).unwrap();
    assert_eq!(tokens.text, "<|audio_bos|><|AUDIO|><|audio_eos|>What is it?");
    let audio = tokens.ids.iter().filter(|&&id| id == tokens.ids[1]).count();
    assert_eq!(audio, 12);
}

/// All of them at once.
struct Batch {
    waiting: Mutex<Vec<Prompt>>,
    replies: Mutex<BTreeMap<u64, Result<Reply>>>,
}

impl Serving for Batch {
    fn give(&self, _wait: Duration) -> Given {
        let mut waiting = self.waiting.lock().unwrap();
        match waiting.pop() {
            Some(prompt) => Given::Job {
                id: waiting.len() as u64,
                prompt: Box::new(prompt),
                deadline: None,
            },
            None => Given::End,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        self.replies.lock().unwrap().insert(job, reply).is_none()
    }

    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        true
    }
}

fn serve(model: &ModelClient, prompts: Vec<Prompt>) -> Vec<Result<Reply>> {
    let batch = Batch {
        waiting: Mutex::new(prompts),
        replies: Mutex::default(),
    };
    model.serve(&batch).unwrap();
    batch.replies.into_inner().unwrap().into_values().collect()
}

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let model = open(&golden());
    let prompts: Vec<Prompt> = [vec![0.05], vec![0.9, 0.3], vec![], vec![0.4], vec![1.3]]
        .into_iter()
        .map(|lengths: Vec<f64>| about(lengths.into_iter().map(|length| tone(length, 0.07)).collect()))
        .collect();
    let together = serve(&model, prompts.clone());
    for (prompt, reply) in prompts.iter().zip(together) {
        let (alone, reply) = (model.reply(prompt, &Silent).unwrap(), reply.unwrap());
        assert_eq!((reply.text, reply.usage), (alone.text, alone.usage));
    }
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    let model = open(&golden());
    let mut spoilt = tone(0.5, 0.1).samples().to_vec();
    spoilt[100] = f32::NAN;
    let mut two_places = about(vec![tone(0.5, 0.1)]);
    two_places.messages[0].parts.push(Part::text("<|AUDIO|>"));
    let mut unknown = about(vec![]);
    unknown.messages[0].parts.push(Part::clip(3));
    let bad = [
        (about(vec![Clip::new(16_000, vec![])]), Code::CLIP, "clip 1 is empty"),
        (
            about(vec![tone(0.5, 0.1), Clip::new(16_000, spoilt)]),
            Code::CLIP,
            "clip 2 is damaged: sample 100 is NaN",
        ),
        (
            about(vec![tone(0.01, 0.1)]),
            Code::CLIP,
            "clip 1 is too short to be heard: 160 samples, expected 321",
        ),
        (
            two_places,
            Code::DATA,
            "the prompt has 1 clips, its text as the chat template renders it has 2 places for one",
        ),
        (unknown, Code::DATA, "the prompt names clip 3, but brings 0"),
    ];
    let good = about(vec![tone(0.5, 0.1)]);
    let mut prompts: Vec<Prompt> = bad.iter().map(|(prompt, ..)| prompt.clone()).collect();
    prompts.push(good.clone());
    let mut replies = serve(&model, prompts);
    let last = replies.pop().unwrap().unwrap();
    assert_eq!(last.text, model.reply(&good, &Silent).unwrap().text);
    for ((_, code, message), reply) in bad.into_iter().zip(replies) {
        let Error {
            code: got,
            message: said,
            ..
        } = reply.unwrap_err();
        assert_eq!((got, said.as_str()), (code, message));
    }
}

#[test]
fn a_lora_is_found_under_the_names_of_every_version() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let model = open(&golden());
    let prompt = || about(vec![tone(0.5, 0.1)]);
    let base = scores(&model, prompt());
    let mut with = Vec::new();
    for (number, path) in ["model.language_model", "language_model.model"].iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let settings = json!({ "peft_type": "LORA", "r": 2, "lora_alpha": 16, "target_modules": format!("{path}.layers.0.mlp.up_proj") });
        std::fs::write(folder.path().join("adapter_config.json"), settings.to_string()).unwrap();
        let (a, b) = (vec![0.3f32; 2 * 32], vec![0.2f32; 48 * 2]);
        let bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let (a, b) = (bytes(&a), bytes(&b));
        let name = |half: &str| format!("base_model.model.{path}.layers.0.mlp.up_proj.lora_{half}.weight");
        let tensors = [
            (name("A"), TensorView::new(Dtype::F32, vec![2, 32], &a).unwrap()),
            (name("B"), TensorView::new(Dtype::F32, vec![48, 2], &b).unwrap()),
        ];
        serialize_to_file(tensors, None, &folder.path().join("adapter_model.safetensors")).unwrap();
        model.add_lora(&format!("lora{number}"), folder.path()).unwrap();
        let mut prompt = prompt();
        prompt.lora = LoraUse::Only(vec![format!("lora{number}")]);
        with.push(scores(&model, prompt));
    }
    assert_eq!(with[0], with[1]);
    assert!((with[0][0] - base[0]).abs() > 1e-3, "{with:?} {base:?}");
}
