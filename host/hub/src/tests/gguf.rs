//! Repositories that hold one model several times as GGUF.

use std::sync::atomic::AtomicBool;

use super::super::{Hub, HubError, HubFault, Settings, Snapshot};
use super::server::{Reply, Request};
use super::{Bench, COMMIT, model, sha256};

const WEIGHTS: &[&str] = &["*.safetensors", "*.json", "*.gguf"];
const SEVERAL: &[&str] = &[
    "config.json",
    "big-00001-of-00002.gguf",
    "big-00002-of-00002.gguf",
    "m-Q4_K_M.gguf",
    "m-Q8_0.gguf",
];

/// A hub on which `org/tiny` holds these files, each its own name.
fn hub_with(names: &'static [&'static str]) -> impl Fn(&Request) -> Reply {
    move |request| {
        if request.path == "/api/models/org/tiny/revision/main?blobs=true" {
            let sibling = |name: &&str| {
                let lfs = serde_json::json!({"sha256": sha256(name.as_bytes()), "size": name.len()});
                serde_json::json!({"rfilename": name, "size": name.len(), "blobId": "0".repeat(40), "lfs": lfs})
            };
            let siblings: Vec<_> = names.iter().map(sibling).collect();
            return Reply::ok(serde_json::json!({"sha": COMMIT, "siblings": siblings}).to_string());
        }
        let file = request.path.strip_prefix(&format!("/org/tiny/resolve/{COMMIT}/"));
        match file.filter(|file| names.contains(file)) {
            Some(file) => Reply::part_of(file.as_bytes(), request),
            None => Reply::status(404),
        }
    }
}

fn offline(bench: &Bench, id: &str) -> Result<Snapshot, HubError> {
    let settings = Settings {
        endpoint: "http://127.0.0.1:1".to_owned(),
        cache: bench.folder.path().to_owned(),
        token: None,
        offline: true,
    };
    let hub = Hub::new(settings).unwrap();
    hub.snapshot(&model(id), WEIGHTS, &mut |_| {}, &AtomicBool::new(false))
}

#[test]
fn only_the_file_that_is_named_is_fetched_and_is_there_offline() {
    let bench = Bench::new(hub_with(SEVERAL));
    let snapshot = bench.pull("org/tiny:q8_0", WEIGHTS).unwrap();
    assert_eq!(snapshot.files, ["m-Q8_0.gguf"]);
    assert_eq!(snapshot.place(), snapshot.folder.join("m-Q8_0.gguf"));
    assert_eq!(bench.server.requests().len(), 2, "the listing and the file");
    for id in [
        "org/tiny:Q8_0",
        "org/tiny/m-Q8_0.gguf",
        &format!("org/tiny@{COMMIT}:Q8_0"),
    ] {
        assert_eq!(offline(&bench, id).unwrap(), snapshot, "{id}");
    }
    let missing = offline(&bench, "org/tiny:Q4_K_M").unwrap_err();
    assert!(matches!(missing.fault, HubFault::Offline { .. }), "{missing}");
    assert!(missing.hint().unwrap().contains("`host pull org/tiny:Q4_K_M`"));
}

#[test]
fn parts_are_fetched_together_and_the_first_stands_for_all() {
    let bench = Bench::new(hub_with(SEVERAL));
    let snapshot = bench.pull("org/tiny:big", WEIGHTS).unwrap();
    assert_eq!(snapshot.files, ["big-00001-of-00002.gguf", "big-00002-of-00002.gguf"]);
    assert_eq!(snapshot.place(), snapshot.folder.join("big-00001-of-00002.gguf"));
}

#[test]
fn nothing_is_chosen_for_whom_says_nothing() {
    let bench = Bench::new(hub_with(SEVERAL));
    let error = bench.pull("org/tiny", WEIGHTS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot get `org/tiny` from the hub: it holds several GGUF files: `big-00001-of-00002.gguf`, \
         `m-Q4_K_M.gguf`, `m-Q8_0.gguf`"
    );
    assert!(error.hint().unwrap().contains("`org/tiny:"));
    assert_eq!(bench.server.requests().len(), 1, "nothing but the listing");
    // The same without a network, once the listing is known.
    bench.pull("org/tiny:Q8_0", WEIGHTS).unwrap();
    assert_eq!(offline(&bench, "org/tiny").unwrap_err().fault, error.fault);
}

#[test]
fn one_format_is_fetched() {
    let bench = Bench::new(hub_with(&["config.json", "m.gguf", "mmproj-m.gguf"]));
    assert_eq!(bench.pull("org/tiny", WEIGHTS).unwrap().files, ["m.gguf"]);
    let bench = Bench::new(hub_with(&["a.gguf", "b.gguf", "config.json", "model.safetensors"]));
    let snapshot = bench.pull("org/tiny", WEIGHTS).unwrap();
    assert_eq!(snapshot.files, ["config.json", "model.safetensors"]);
    assert_eq!(snapshot.place(), snapshot.folder);
}
