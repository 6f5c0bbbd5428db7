//! This plugin's checkpoints as models.
#![allow(dead_code, unused_imports)] // each test file uses its own part of this

extern crate qwen3 as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::Value;
use plugin_api::{Result, Sampling};
use std::path::{Path, PathBuf};
pub use testkit::{Host, ask, edit};

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name)
}

/// Opens a checkpoint, with these settings besides `weights`.
pub fn open(folder: &Path, settings: Value) -> Result<ModelClient> {
    testkit::open("qwen3", folder, settings)
}

pub fn model(settings: Value) -> ModelClient {
    open(&golden("tied"), settings).unwrap()
}

/// A copy of a checkpoint, to be damaged.
pub fn copy(name: &str) -> tempfile::TempDir {
    testkit::copy(&golden(name))
}

/// Greedy on the checkpoint without stop tokens, so that answers have the requested length.
pub fn quiet() -> Sampling {
    Sampling::greedy(12)
}

/// The best answers, by a search.
pub fn searched(beams: u32, n_best: u32) -> Sampling {
    Sampling {
        beams: Some(beams),
        n_best: Some(n_best),
        length_penalty: Some(0.6),
        ..Sampling::greedy(10)
    }
}
