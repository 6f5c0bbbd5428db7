//! Compares training with a reference's recordings, step by step.

use plugin_api::serde_json::json;
use std::path::Path;

/// Replays the runs in the folder `training` of a checkpoint, each number within its tolerance.
#[track_caller]
pub fn check(adapter: &str, checkpoint: &Path) {
    check_runs(adapter, checkpoint, "training");
}

/// The same for runs in another folder of the checkpoint.
#[track_caller]
pub fn check_runs(adapter: &str, checkpoint: &Path, folder: &str) {
    let model = crate::open(adapter, checkpoint, json!({ "dtype": "fp32" })).expect("a model");
    let request = json!({ "training": checkpoint.join(folder) });
    let report = model.replay(&request).expect("a replay");
    let cases = report["cases"].as_array().expect("cases");
    assert!(!cases.is_empty());
    for case in cases {
        let (name, differences) = (&case["case"], &case["differences"]);
        let folder = checkpoint.display();
        assert_eq!(case["ok"], true, "{folder}, {name}: {differences}, {}", case["within"]);
    }
}

/// The same for the checkpoints that an environment variable names, `DIR:DIR`.
#[track_caller]
pub fn check_given(adapter: &str, variable: &str) {
    for checkpoint in crate::parity::given(variable) {
        check(adapter, &checkpoint);
    }
}
