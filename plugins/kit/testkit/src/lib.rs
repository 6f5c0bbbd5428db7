//! Calls models and tasks as a host does. Only the tests of plugins depend on it.
//!
//! The decision a newcomer would question: these functions panic instead of returning errors. Each is part of a test,
//! and its panic says what was expected.

pub mod columns;
pub mod hearing;
mod host;
pub mod parity;
pub mod task;
pub mod tensors;
pub mod training;

pub use host::Host;

use plugin_api::client::ModelClient;
use plugin_api::serde_json::{Value, from_slice, json};
use plugin_api::{Kind, Message, Prompt, Result, Sampling, Settings, make};
use std::path::Path;
use tempfile::TempDir;

/// The model with this name in the plugin that is linked into the test.
pub fn make_model(adapter: &str, settings: &Value) -> Result<ModelClient> {
    let settings = settings.as_object().cloned().unwrap_or_default();
    Ok(ModelClient(make(Kind::Model, adapter, &Settings(settings))?.into()))
}

/// The model of a checkpoint, with these settings besides `weights`.
pub fn open(adapter: &str, weights: &Path, mut settings: Value) -> Result<ModelClient> {
    settings["weights"] = json!(weights);
    make_model(adapter, &settings)
}

pub fn ask(text: &str, sampling: Sampling) -> Prompt {
    Prompt::new([Message::user(text)]).sample(sampling)
}

/// A copy of a checkpoint's files, to be changed.
pub fn copy(checkpoint: &Path) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(checkpoint).expect("a checkpoint") {
        let path = entry.expect("an entry").path();
        if let (true, Some(name)) = (path.is_file(), path.file_name()) {
            std::fs::copy(&path, folder.path().join(name)).expect("a copy");
        }
    }
    folder
}

/// Changes a JSON file in place.
pub fn edit(folder: &Path, file: &str, change: impl FnOnce(&mut Value)) {
    let path = folder.join(file);
    let mut value = from_slice(&std::fs::read(&path).expect("the file")).expect("JSON");
    change(&mut value);
    std::fs::write(path, value.to_string()).expect("the file again");
}
