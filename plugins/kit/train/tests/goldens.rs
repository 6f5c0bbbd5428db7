//! Equal to the reference, step by step. `golden/make.sh` says how the recordings were made; those that the variable
//! `TRAINING_GOLDENS` names, `NAME=DIR:NAME=DIR`, are replayed as well.

// Linked for the models that they register.
use gemma as _;
use qwen2_audio as _;
use qwen3 as _;

use plugin_api::serde_json::json;
use std::path::Path;

#[track_caller]
fn check(adapter: &str, folder: &Path) {
    let model = testkit::open(adapter, folder, json!({ "dtype": "fp32" })).expect("a model");
    let report = model
        .trace(&json!({ "training": folder.join("training") }))
        .expect("a replay");
    let cases = report["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        if std::env::var_os("SHOW_DIFFERENCES").is_some() {
            eprintln!("{} {}: {}", folder.display(), case["case"], case["differences"]);
        }
        assert_eq!(case["ok"], true, "{}: {case:#}", folder.display());
    }
}

#[test]
fn runs_are_those_that_were_recorded() {
    let given = std::env::var("TRAINING_GOLDENS").unwrap_or_default();
    for one in given.split(':').filter(|one| !one.is_empty()) {
        let (adapter, folder) = one.split_once('=').expect("NAME=DIR");
        check(adapter, Path::new(folder));
    }
}
