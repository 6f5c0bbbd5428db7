//! The four downloads, the folder they are converted to, and damaged files.

extern crate salmonn as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Clip, Message, NoCallbacks, Part, Prompt, Result};
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/tiny")
}

fn open(settings: Value) -> Result<ModelClient> {
    testkit::make_model("salmonn", &settings)
}

fn scores(model: &ModelClient) -> Vec<f64> {
    let clip = Clip::new(16_000, (0..4000).map(|n| (n as f32 * 0.1).sin()).collect());
    let message = Message {
        parts: vec![Part::clip(0), Part::text("What is it?")],
        ..Message::user("")
    };
    let mut prompt = Prompt::new([message]).choose(["A dog", "B", "</s>"]);
    prompt.clips = vec![clip];
    let reply = model.reply(&prompt, &NoCallbacks).unwrap();
    reply.options.iter().map(|option| option.loglik).collect()
}

fn downloads(folder: &Path) -> Value {
    json!({ "whisper": folder.join("whisper"), "beats": folder.join("beats.pt"), "vicuna": folder.join("vicuna"),
        "salmonn": folder.join("salmonn_v1.pth") })
}

/// A copy, to be damaged.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for part in ["", "whisper", "vicuna"] {
        std::fs::create_dir_all(folder.path().join(part)).unwrap();
        for entry in std::fs::read_dir(golden().join(part)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                std::fs::copy(&path, folder.path().join(part).join(path.file_name().unwrap())).unwrap();
            }
        }
    }
    folder
}

#[test]
fn what_was_converted_answers_alike() {
    let parts = open(json!({ "weights": golden() })).unwrap();
    let expected = scores(&parts);

    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let unread = open(json!({ "weights": golden(), "load": false })).unwrap();
    let written = unread
        .run_command("convert", &json!({ "out": out }), &NoCallbacks)
        .unwrap();
    assert_eq!(written["files"].as_array().unwrap().len(), 4, "{written}");
    assert_eq!(unread.memory().unwrap().host_bytes, 0, "nothing of it was needed");
    assert_eq!(scores(&open(json!({ "weights": out })).unwrap()), expected);

    let error = unread
        .run_command("convert", &json!({ "out": out }), &NoCallbacks)
        .unwrap_err();
    assert_eq!(error.message, format!("`{}` is not empty", out.display()));
    // What was converted can be converted again, to the same bytes.
    let again = folder.path().join("again");
    let converted = open(json!({ "weights": out, "load": false })).unwrap();
    converted
        .run_command("convert", &json!({ "out": again }), &NoCallbacks)
        .unwrap();
    let bytes = |folder: &Path, file| std::fs::read(folder.join(file)).unwrap();
    for file in ["config.json", "tokenizer.model"] {
        assert_eq!(bytes(&again, file), bytes(&out, file), "{file}");
    }
    assert_eq!(scores(&open(json!({ "weights": again })).unwrap()), expected);
}

#[test]
fn what_was_converted_to_blocks_is_what_would_be_quantised_when_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("new");
    let parts = open(json!({ "weights": golden(), "quant": "q8_0" })).unwrap();
    let unread = open(json!({ "weights": golden(), "quant": "q8_0", "load": false })).unwrap();
    unread
        .run_command("convert", &json!({ "out": out }), &NoCallbacks)
        .unwrap();
    let (expected, precision) = (scores(&parts), parts.card().unwrap().precision);
    assert!(precision.as_ref().unwrap().starts_with("q8_0"), "{precision:?}");
    assert_ne!(expected, scores(&open(json!({ "weights": golden() })).unwrap()));
    // Rows of this length are stored in these blocks even if larger blocks are requested.
    for settings in [json!({}), json!({ "quant": "q8_0" }), json!({ "quant": "q4_k" })] {
        let model = testkit::open("salmonn", &out, settings).unwrap();
        assert_eq!(scores(&model), expected);
        assert_eq!(model.card().unwrap().precision, precision);
    }
    // What the file says about its blocks must be true.
    let file = out.join("model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let name = bytes.windows(6).position(|end| end == b".q8_0\"").unwrap();
    bytes[name..name + 6].copy_from_slice(b".q6_k\"");
    std::fs::write(&file, bytes).unwrap();
    let error = open(json!({ "weights": out })).err().unwrap().message;
    assert!(
        error.contains("model.safetensors` is malformed: tensor `vicuna."),
        "{error}"
    );
}

#[test]
fn settings_of_nothing_and_of_too_much() {
    let error = |settings: Value| open(settings).err().map(|error| error.message);
    for name in ["max_batch", "step_tokens", "max_tokens", "beams"] {
        let told = Some(format!("setting `{name}` is 0, expected 1 or more"));
        assert_eq!(error(json!({ "weights": golden(), name: 0 })), told);
    }
    let told = Some("setting `beams` is 257, expected at most 256".to_owned());
    assert_eq!(error(json!({ "weights": golden(), "beams": 257 })), told);
    assert_eq!(error(json!({ "weights": golden(), "beams": 256, "load": false })), None);
}

#[test]
fn the_parts_may_lie_anywhere() {
    let model = open(downloads(&golden())).err().map(|error| error.message);
    // Its Q-Former is smaller than the published one, and the four files alone do not say so.
    let published = "tensor `speech_query_tokens` in `DIR/salmonn_v1.pth` has shape [1, 1, 24], expected [1, 1, 768]";
    assert_eq!(
        model.map(|message| message.replace(golden().to_str().unwrap(), "DIR")),
        Some(published.to_owned())
    );
    let elsewhere = copy();
    std::fs::remove_file(elsewhere.path().join("beats.pt")).unwrap();
    let beats = golden().join("beats.pt");
    let model = open(json!({ "weights": elsewhere.path(), "beats": beats })).unwrap();
    assert_eq!(scores(&model), scores(&open(json!({ "weights": golden() })).unwrap()));
}

#[track_caller]
fn refused(settings: Value, folder: &Path, why: &str) {
    let error = open(settings).err().expect("refused").message;
    let shown = error.replace(folder.to_str().unwrap(), "DIR");
    assert!(shown.contains(why), "{shown}\nexpected: {why}");
}

#[test]
fn what_is_missing_or_spoilt_is_named() {
    refused(
        json!({}),
        Path::new("/none"),
        "setting `whisper` is missing: the model is made of four downloads",
    );
    let bare = tempfile::tempdir().unwrap();
    refused(
        json!({ "weights": bare.path() }),
        bare.path(),
        "`DIR` has no salmonn_config.json that names the parts in it",
    );
    let spoil = |file: &str, change: &dyn Fn(Vec<u8>) -> Vec<u8>, why: &str| {
        let folder = copy();
        let path = folder.path().join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, change(bytes)).unwrap();
        refused(json!({ "weights": folder.path() }), folder.path(), why);
    };
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    let text = |from: &'static str, to: &'static str| {
        move |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(from, to).into_bytes()
    };
    for file in ["beats.pt", "salmonn_v1.pth", "vicuna/pytorch_model-00002-of-00002.bin"] {
        let why = format!("`DIR/{file}` is malformed: it is not a zip archive");
        spoil(file, &half, &why);
    }
    spoil(
        "vicuna/tokenizer.model",
        &half,
        "is malformed: it is truncated, or not a SentencePiece model",
    );
    let config = "salmonn_config.json";
    spoil(
        config,
        &text("\"beats.pt\"", "\"../beats.pt\""),
        "`DIR/salmonn_config.json` is malformed: it names `../beats.pt`, which is outside of the folder",
    );
    spoil(
        config,
        &text("\"beats.pt\"", "\"gone.pt\""),
        "cannot read `DIR/gone.pt`",
    );
    spoil(
        config,
        &text("\"lora_alpha\": 32", "\"prompt_template\": \"USER:\""),
        "`prompt_template` is `USER:`, expected a text with `{}` in it",
    );
    spoil(
        "vicuna/config.json",
        &text("\"vocab_size\": 340", "\"vocab_size\": 339"),
        "has token ids up to 339, but the model's embedding table has 339 rows",
    );
}
