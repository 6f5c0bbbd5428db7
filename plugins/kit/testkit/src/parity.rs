//! Compares a model with a reference's recordings.

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Replays the recordings in `golden`. The cases must compare `what`, among other things, with differences of at most
/// `close`.
#[track_caller]
pub fn check(model: &ModelClient, golden: &Path, lora: Option<&str>, what: &[&str], close: f64) {
    let request = match lora {
        Some(lora) => json!({ "golden": golden, "lora": lora }),
        None => json!({ "golden": golden }),
    };
    let report = model.replay(&request).expect("a replay");
    let cases = report["cases"].as_array().expect("cases");
    for what in what {
        assert!(cases.iter().any(|case| case["what"] == *what), "no {what}");
    }
    let wrong = |case: &&Value| {
        let diff = case["max_abs_diff"].as_f64().unwrap_or(0.0);
        case["ok"] != true || diff > close || case["tokens_equal"] == false
    };
    let wrong: Vec<&Value> = cases.iter().filter(wrong).collect();
    assert!(!cases.is_empty() && wrong.is_empty(), "{}: {wrong:?}", golden.display());
}

/// Runs a checkpoint in bf16. Its logits need not be near, since rounding decides them; but all computations must
/// work.
#[track_caller]
pub fn check_narrow(adapter: &str, checkpoint: &Path) {
    const NEAR: f64 = 1.0; // for logits up to 12
    let model = crate::open(adapter, checkpoint, json!({ "dtype": "bf16" })).expect("a model");
    let report = model
        .replay(&json!({ "golden": checkpoint.join("golden") }))
        .expect("a replay");
    let cases = report["cases"].as_array().expect("cases");
    let logits = cases.iter().filter(|case| case["what"] == "logits");
    let apart: Vec<f64> = logits.filter_map(|case| case["max_abs_diff"].as_f64()).collect();
    let near = !apart.is_empty() && apart.iter().all(|apart| *apart < NEAR);
    assert!(near, "{}: {apart:?}", checkpoint.display());
}

/// Replays a text model's checkpoint, and a LoRA if there is one, in fp32, where rounding differs little between
/// machines.
#[track_caller]
pub fn check_text(adapter: &str, weights: &Path, golden: &Path) {
    const CLOSE: f64 = 1e-4;
    let model = crate::open(adapter, weights, json!({ "dtype": "fp32" })).expect("a model");
    check(&model, golden, None, &["logits"], CLOSE);
    let lora = weights.join("lora");
    if lora.is_dir() {
        model.add_lora("recorded", &lora).expect("a LoRA");
        check(&model, &lora, Some("recorded"), &["logits"], CLOSE);
    }
}

/// The checkpoints in a folder.
pub fn checkpoints(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths.filter(|path| path.join("config.json").is_file()).collect()
}

/// The checkpoints that this environment variable names, `DIR:DIR`.
pub fn given(variable: &str) -> Vec<PathBuf> {
    let given = std::env::var(variable).unwrap_or_default();
    let named = given.split(':').filter(|folder| !folder.is_empty());
    named.map(PathBuf::from).collect()
}
