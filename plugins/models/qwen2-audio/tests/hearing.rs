//! Equal to what the reference recorded, and what a host sees of it. `golden/make.py` makes the folder;
//! `QWEN2_AUDIO_GOLDEN=DIR:DIR cargo test -p qwen2-audio --test hearing` compares others too.

extern crate qwen2_audio as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use plugin_api::{Clip, Code, LoraUse, NoCallbacks, Prompt};
use std::path::{Path, PathBuf};
use testkit::hearing::{self, about, scores, tone};
use testkit::{copy, edit, parity};

mod together;

/// The smallest shape has rows long enough for blocks: the language model's layers, table and head are quantised, the
/// encoder and the projection are not.
#[test]
fn the_language_model_alone_is_quantised() {
    let settings = json!({ "shape": "qwen2-audio-nano", "quant": "q8_0" });
    let model = testkit::make_model("qwen2-audio-random", &settings).unwrap();
    let precision = model.card().unwrap().precision;
    assert_eq!(precision.as_deref(), Some("q8_0 (of 29 matrices 13 fp32)"));
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/hears")
}

fn open() -> ModelClient {
    testkit::open("qwen2-audio", &golden(), json!({})).unwrap()
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    for folder in [golden()].into_iter().chain(parity::given("QWEN2_AUDIO_GOLDEN")) {
        hearing::check("qwen2-audio", &folder, &["features"]);
    }
}

/// The path for GPUs, computed on a processor: equal in fp32, and consistent in bf16.
#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    hearing::check("qwen2-audio", &golden(), &["features"]);
    parity::check_narrow("qwen2-audio", &golden());
}

#[test]
fn sound_reaches_the_answer() {
    hearing::check_sound_counts(&open());
}

#[test]
fn a_reply_says_what_was_heard() {
    let model = open();
    let reply = |clips| model.reply(&about(clips), &NoCallbacks).unwrap();
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
    let model = open();
    let prompt = Prompt {
        plain: true,
        ..about(vec![tone(0.5, 0.1)])
    };
    let tokens = model.tokens(&prompt).unwrap();
    assert_eq!(tokens.text, "<|audio_bos|><|AUDIO|><|audio_eos|>What is it?");
    let audio = tokens.ids.iter().filter(|&&id| id == tokens.ids[1]).count();
    assert_eq!(audio, 12);
}

#[test]
fn a_batch_of_clips_of_any_length_equals_its_single_answers() {
    let lengths = [vec![0.05], vec![0.9, 0.3], vec![], vec![0.4], vec![1.3]];
    let clips = lengths.map(|lengths| lengths.into_iter().map(|length| tone(length, 0.07)).collect());
    hearing::check_batch(&open(), clips.map(about).to_vec());
}

#[test]
fn a_bad_clip_spoils_its_own_sample_alone() {
    let short = "clip 1 is too short for this model: 160 samples, expected 321";
    let second = vec![tone(0.5, 0.1), Clip::new(16_000, vec![f32::INFINITY])];
    let bad = vec![
        (about(vec![tone(0.01, 0.1)]), Code::CLIP, short),
        (about(second), Code::CLIP, "clip 2 is damaged: sample 0 is inf"),
    ];
    hearing::check_bad_clips(&open(), "<|AUDIO|>", bad);
}

#[test]
fn a_lora_is_found_under_the_names_of_every_version() {
    use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
    let model = open();
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

/// The model's names in newer classes of the reference.
#[test]
fn a_checkpoint_by_newer_names_is_the_same_one() {
    use safetensors::{SafeTensors, serialize_to_file};
    let folder = copy(&golden());
    let path = folder.path().join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let newer = |name: &str| match name.strip_prefix("language_model.") {
        Some(name) if name.starts_with("lm_head") => name.to_owned(),
        Some(name) => name.replacen("model.", "model.language_model.", 1),
        None => format!("model.{name}"),
    };
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.iter().map(|(name, tensor)| (newer(name), tensor));
    serialize_to_file(tensors, None, &path).unwrap();
    let renamed = testkit::open("qwen2-audio", folder.path(), json!({})).unwrap();
    let question = || about(vec![tone(0.5, 0.1)]);
    assert_eq!(scores(&renamed, question()), scores(&open(), question()));
}

#[test]
fn a_feature_extractor_for_another_model_is_refused() {
    let check = |field: &str, value: u32, message: &str| {
        let folder = copy(&golden());
        edit(folder.path(), "preprocessor_config.json", |config| {
            config[field] = json!(value)
        });
        let refused = testkit::open("qwen2-audio", folder.path(), json!({})).err().unwrap();
        assert_eq!(refused.message, message);
    };
    check(
        "feature_size",
        80,
        "`feature_size` in preprocessor_config.json is 80, expected 128, as `num_mel_bins` in config.json",
    );
    check(
        "chunk_length",
        30,
        "`chunk_length` in preprocessor_config.json is 30, expected 1, as the 50 `max_source_positions` in config.json",
    );
}
