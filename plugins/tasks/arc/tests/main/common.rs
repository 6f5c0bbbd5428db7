//! The task over rows of a test, which all ask the same questions.

use arc as _; // its registration comes along only when the crate is named
use plugin_api::Result;
use plugin_api::client::TaskClient;
use plugin_api::{OptionScore, Reply};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::task::{folder, make_task};

pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
pub const FLAT: &str = r#"{"id": "q1", "question": "What is hot?", "choices": {"text": ["ice", "the Sun", "a rock"], "label": ["A", "B", "C"]}, "answerKey": "B"}"#;
pub const NESTED: &str = r#"{"id": "q1", "question": {"stem": "What is hot?", "choices": [{"text": "ice", "label": "A"}, {"text": "the Sun", "label": "B"}, {"text": "a rock", "label": "C"}]}, "answerKey": "B"}"#;
pub const DIGITS: &str = r#"{"id": "q2", "question": "What is cold?", "choices": {"text": ["ice", "fire"], "label": ["1", "2"]}, "answerKey": "1"}"#;

pub fn task(settings: Value) -> Result<TaskClient> {
    make_task("arc", settings)
}

/// The task over one file of these rows, which is kept on disk as long as the folder.
pub fn over(lines: &[&str], mut settings: Value) -> (TempDir, TaskClient) {
    let folder = folder(&[("rows.jsonl", &lines.join("\n"))]);
    settings["data"] = json!(folder.path().join("rows.jsonl"));
    let task = task(settings).unwrap();
    (folder, task)
}

/// A reply that gives the options these log-likelihoods.
pub fn scored(likelihoods: &[f64]) -> Reply {
    let one = |loglik: &f64| OptionScore {
        loglik: *loglik,
        ..OptionScore::default()
    };
    Reply::scored(likelihoods.iter().map(one).collect())
}
