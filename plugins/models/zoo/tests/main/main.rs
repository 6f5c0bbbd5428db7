//! `zoo` from outside, as one binary, so that it is linked once.

mod answers;
mod parity;
mod refusals;

extern crate zoo as _; // or its registration would not be linked in

use plugin_api::client::ModelClient;
use plugin_api::serde_json::json;
use std::path::{Path, PathBuf};

/// The recorded checkpoint of a family.
fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(family)
}

fn model(family: &str) -> ModelClient {
    testkit::open("zoo", &golden(family), json!({})).unwrap()
}
