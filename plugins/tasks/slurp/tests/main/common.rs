//! The task over the demo's rows or over rows of a test.

use plugin_api::Result;
use plugin_api::client::TaskClient;
use serde_json::{Value, json};
use slurp as _; // its registration comes along only when the crate is named
use std::fs;
use tempfile::TempDir;
use testkit::task::{folder, make_task};

pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
pub const ROW: &str = r#"{"slurp_id": 7, "sentence": "wake me at Ten am", "scenario": "alarm", "action": "set", "intent": "alarm_set",
    "tokens": [{"surface": "wake"}, {"surface": "me"}, {"surface": "at"}, {"surface": "Ten"}, {"surface": "am"}],
    "entities": [{"span": [3, 4], "type": "time"}], "recordings": [{"file": "audio-1.flac"}, {"file": "audio-2-headset.flac"}]}"#;
pub const RIGHT: &str = r#"{"scenario": "alarm", "action": "set", "entities": [{"type": "time", "filler": "ten am"}]}"#;

pub fn task(settings: Value) -> Result<TaskClient> {
    make_task("slurp", settings)
}

pub fn demo(mut settings: Value) -> TaskClient {
    settings["data"] = json!(DEMO);
    task(settings).unwrap()
}

/// The task over these rows, in a folder that also holds these recordings.
pub fn over(rows: &[&str], recordings: &[&str], mut settings: Value) -> (TempDir, Result<TaskClient>) {
    let lines: Vec<String> = rows.iter().map(|row| row.replace('\n', " ")).collect();
    let lines = lines.join("\n");
    let files = [("test.jsonl", lines.as_str())].into_iter();
    let files: Vec<_> = files.chain(recordings.iter().map(|name| (*name, ""))).collect();
    let folder = folder(&files);
    settings["data"] = json!(folder.path());
    for name in ["hypotheses", "template"] {
        if let Some(text) = settings[name].as_str() {
            let path = folder.path().join(format!("{name}.jsonl"));
            fs::write(&path, text).unwrap();
            settings[name] = json!(path);
        }
    }
    let task = task(settings);
    (folder, task)
}

pub fn one(recordings: &[&str], settings: Value) -> (TempDir, TaskClient) {
    let (folder, task) = over(&[ROW], recordings, settings);
    (folder, task.unwrap())
}
