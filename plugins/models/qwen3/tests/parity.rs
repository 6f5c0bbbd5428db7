//! Equal to what the reference recorded. `golden/make.py` makes the folders, and any number of others:
//! `QWEN3_GOLDEN=DIR:DIR cargo test -p qwen3 --test parity` tries those too.

extern crate qwen3 as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use plugin_api::{Kind, Settings, make};
use std::path::{Path, PathBuf};

fn open(weights: &Path, dtype: &str) -> ModelClient {
    let mut settings = Settings::default();
    settings.0.insert("weights".into(), json!(weights));
    settings.0.insert("dtype".into(), json!(dtype));
    ModelClient(make(Kind::Model, "qwen3", &settings).unwrap().into())
}

/// fp32 is held to the tolerance that counts; rounding differs between machines far below it.
const CLOSE: f64 = 1e-4;

#[track_caller]
fn check(folder: &Path) {
    check_weights(folder, &folder.join("golden"));
}

#[track_caller]
fn check_weights(folder: &Path, golden: &Path) {
    let model = open(folder, "fp32");
    let trace = |request| model.trace(&request).unwrap()["cases"].as_array().unwrap().clone();
    let mut cases = trace(json!({ "golden": golden }));
    assert!(!cases.is_empty());
    let lora = folder.join("lora");
    if lora.is_dir() {
        model.add_lora("recorded", &lora).unwrap();
        let more = trace(json!({ "golden": lora, "lora": "recorded" }));
        assert!(more.iter().any(|case| case["what"] == "logits"));
        cases.extend(more);
    }
    for case in cases {
        assert_eq!(case["ok"], true, "{}: {case}", folder.display());
        assert!(
            case["max_abs_diff"].as_f64().unwrap_or(0.0) <= CLOSE,
            "{}: {case}",
            folder.display()
        );
        assert_ne!(case["tokens_equal"], false, "{}: {case}", folder.display());
    }
}

fn recorded() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let folders: Vec<PathBuf> = std::fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let checkpoints = folders
        .into_iter()
        .filter(|folder| folder.join("config.json").is_file());
    checkpoints.collect()
}

#[test]
fn recorded_checkpoints_are_reproduced() {
    assert_eq!(recorded().len(), 4);
    recorded().iter().for_each(|folder| check(folder));
}

/// Not that the numbers are near, which rounding decides: that all which is computed in bf16 fits together.
#[track_caller]
fn check_narrow(folder: &Path) {
    let report = open(folder, "bf16")
        .trace(&json!({ "golden": folder.join("golden") }))
        .unwrap();
    let cases = report["cases"].as_array().unwrap();
    let apart = |case: &Value| case["max_abs_diff"].as_f64();
    let logits: Vec<f64> = cases
        .iter()
        .filter(|case| case["what"] == "logits")
        .filter_map(apart)
        .collect();
    assert!(!logits.is_empty());
    // Of logits that reach 12.
    assert!(
        logits.iter().all(|apart| *apart < 1.0),
        "{}: {logits:?}",
        folder.display()
    );
}

#[test]
fn the_way_of_a_gpu_leads_to_the_same() {
    let _elsewhere = nn::device::elsewhere();
    for folder in recorded() {
        check(&folder);
        check_narrow(&folder);
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    check_weights(&golden.join("gguf/qwen2.gguf"), &golden.join("qwen2/golden"));
}

/// Made of those folders by nn's `golden/make_gguf.py`: config, names, tokenizer and template are all the file's own.
#[test]
fn a_gguf_file_is_the_checkpoint_that_it_was_made_of() {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    for name in ["tied", "qwen2", "llama"] {
        check_weights(
            &golden.join("gguf").join(name).with_extension("gguf"),
            &golden.join(name).join("golden"),
        );
    }
}

#[test]
fn given_checkpoints_are_reproduced() {
    let given = std::env::var("QWEN3_GOLDEN").unwrap_or_default();
    given
        .split(':')
        .filter(|folder| !folder.is_empty())
        .for_each(|folder| check(Path::new(folder)));
}
