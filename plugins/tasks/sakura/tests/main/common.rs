//! The task over files of a test, in the layouts that are published.

use plugin_api::Result;
use plugin_api::client::TaskClient;
use sakura as _; // linked in, so that its task and its judge are there
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::task::{folder, make_task};

pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");
pub const HEAD: &str =
    "file,attribute_label,gender,single_instruction,single_answer,multi_instruction,multi_answer\r\n";
pub const ROWS: &str = "x.wav,German,female,Which language? (a) German (b) Korean, (a) German,\"Which town, then? (a) Busan (b) Kassel\",(b) Kassel\r\n\
y.wav,Korean,male,Which language? (a) German (b) Korean,(b) Korean,\"Which town, then? (a) Busan (b) Kassel\",(a) Busan\r\n";

pub fn task(settings: Value) -> Result<TaskClient> {
    make_task("sakura", settings)
}

/// The task over these files, `data` being the folder unless the settings name a file in it.
pub fn over(files: &[(&str, &str)], mut settings: Value) -> (TempDir, Result<TaskClient>) {
    let folder = folder(files);
    for name in ["data", "data_root", "template"] {
        if name == "data" || settings[name].is_string() {
            settings[name] = json!(folder.path().join(settings[name].as_str().unwrap_or_default()));
        }
    }
    let task = task(settings);
    (folder, task)
}

/// Two clips of the language track, in the repository's layout.
pub fn published(settings: Value) -> (TempDir, TaskClient) {
    let table = format!("{HEAD}{ROWS}");
    let files = [
        ("data/Language/metadata.csv", table.as_str()),
        ("data/Language/audio/x.wav", ""),
        ("data/Language/audio/y.wav", ""),
    ];
    let (folder, task) = over(&files, settings);
    (folder, task.unwrap())
}
