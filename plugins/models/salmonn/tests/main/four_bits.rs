//! A Vicuna that bitsandbytes quantised. `golden/make_four_bits.py` makes it, with what transformers computes of it.

extern crate salmonn as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Code, NoCallbacks, Result};
use std::fs;
use std::path::{Path, PathBuf};
use testkit::hearing::{about, scores, tone};
use testkit::parity;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

fn open(weights: &Path, mut settings: Value) -> Result<ModelClient> {
    settings["weights"] = json!(weights);
    testkit::make_model("salmonn", &settings)
}

/// The other parts, with this Vicuna.
fn with_vicuna(mut settings: Value) -> Result<ModelClient> {
    if settings.get("vicuna").is_none() {
        settings["vicuna"] = json!(golden("four_bits/vicuna"));
    }
    open(&golden("tiny"), settings)
}

fn heard(model: &ModelClient) -> Vec<f64> {
    scores(model, about(vec![tone(0.4, 0.1)]))
}

/// Converts with these settings, into a new folder.
fn converted(settings: Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let model = with_vicuna(settings).unwrap();
    let request = json!({ "out": folder.path() });
    model.run_command("convert", &request, &NoCallbacks).unwrap();
    folder
}

fn described(folder: &Path) -> Value {
    plugin_api::serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
fn what_the_reference_recorded_is_reproduced() {
    let model = with_vicuna(json!({})).unwrap();
    let what = ["logits", "greedy"];
    parity::check(&model, &golden("four_bits/golden"), None, &what, 1e-4);
}

#[test]
fn what_was_converted_answers_alike() {
    let expected = heard(&with_vicuna(json!({})).unwrap());
    let folder = converted(json!({ "load": false }));
    assert_eq!(heard(&open(folder.path(), json!({})).unwrap()), expected);
    assert!(described(folder.path())["vicuna"]["quantization_config"].is_object());
}

#[test]
fn what_was_converted_to_blocks_is_what_would_be_quantised_when_it_is_read() {
    let model = with_vicuna(json!({ "quant": "q8_0" })).unwrap();
    let (expected, precision) = (heard(&model), model.card().unwrap().precision);
    assert_ne!(expected, heard(&with_vicuna(json!({})).unwrap()));
    let folder = converted(json!({ "quant": "q8_0", "load": false }));
    let model = open(folder.path(), json!({})).unwrap();
    assert_eq!((heard(&model), model.card().unwrap().precision), (expected, precision));
    // Nothing of four bits is left, and nothing says so.
    assert!(described(folder.path())["vicuna"]["quantization_config"].is_null());
    let file = fs::read(folder.path().join("model.safetensors")).unwrap();
    for part in ["absmax", "quant_map", "bitsandbytes"] {
        assert!(
            !file.windows(part.len()).any(|bytes| bytes == part.as_bytes()),
            "{part}"
        );
    }
}

#[test]
fn other_quantisations_are_named() {
    for (method, name) in [
        (
            json!({ "quant_method": "bitsandbytes", "load_in_8bit": true }),
            "bitsandbytes' LLM.int8 (`load_in_8bit`)",
        ),
        (
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true, "bnb_4bit_quant_type": "fp4" }),
            "bitsandbytes' fp4 (`load_in_4bit`)",
        ),
    ] {
        let vicuna = testkit::copy(&golden("four_bits/vicuna"));
        testkit::edit(vicuna.path(), "config.json", |config| {
            config["quantization_config"] = method
        });
        let error = with_vicuna(json!({ "vicuna": vicuna.path() })).err().unwrap();
        assert_eq!(error.code, Code::UNSUPPORTED);
        let expected = format!("quantised with {name}, which is not supported");
        assert!(error.message.contains(&expected), "{error:?}");
    }
}
