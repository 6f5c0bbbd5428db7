//! What is taken from the cache without a network, and what is not taken for whole.

use std::fs;
use std::sync::atomic::AtomicBool;

use super::super::{Hub, HubFault, Settings};
use super::server::Reply;
use super::{Bench, COMMIT, assert_right, behave, files, git_sha1, model, sha256, weights};

fn offline(bench: &Bench) -> Hub {
    Hub::new(Settings {
        endpoint: "http://127.0.0.1:1".to_owned(),
        cache: bench.folder.path().to_owned(),
        token: None,
        offline: true,
    })
    .unwrap()
}

fn pull_offline(bench: &Bench, id: &str, patterns: &[&str]) -> Result<super::Snapshot, super::HubError> {
    offline(bench).snapshot(&model(id), patterns, &mut |_| {}, &AtomicBool::new(false))
}

#[test]
fn what_was_pulled_is_there_offline_by_branch_and_by_commit() {
    let bench = Bench::new(behave);
    bench.pull("org/tiny", &["*.json", "*.safetensors"]).unwrap();
    let names = ["config.json", "model.safetensors"];
    assert_right(
        &pull_offline(&bench, "org/tiny", &["*.json", "*.safetensors"]).unwrap(),
        &names,
    );
    assert_right(
        &pull_offline(&bench, &format!("org/tiny@{COMMIT}"), &["*.safetensors"]).unwrap(),
        &names[1..],
    );
}

#[test]
fn what_is_missing_offline_is_an_error_that_says_what_to_run_elsewhere() {
    let bench = Bench::new(behave);
    let error = pull_offline(&bench, "org/tiny@v1", &[]).unwrap_err();
    assert_eq!(
        error.fault,
        HubFault::Offline {
            cache: bench.folder.path().to_owned()
        }
    );
    let hint = error.hint().unwrap();
    assert!(
        hint.starts_with("run `host pull org/tiny@v1` where there is a network"),
        "{hint}"
    );
    assert_eq!(bench.server.requests().len(), 0);
    // Only a part of it was ever pulled.
    bench.pull("org/tiny", &["config.json"]).unwrap();
    assert!(pull_offline(&bench, "org/tiny", &["config.json"]).is_ok());
    assert!(pull_offline(&bench, "org/tiny", &["*.json", "*.safetensors"]).is_err());
}

#[test]
fn a_snapshot_that_is_whole_asks_nothing() {
    let bench = Bench::new(behave);
    bench.pull("org/tiny", &["*.json"]).unwrap();
    let before = bench.server.requests().len();
    let stop = AtomicBool::new(false);
    bench
        .hub
        .snapshot(&model("org/tiny"), &["*.json"], &mut |_| {}, &stop)
        .unwrap();
    bench.pull(&format!("org/tiny@{COMMIT}"), &["*.json"]).unwrap();
    assert_eq!(bench.server.requests().len(), before);
    // A pull of a branch asks which commit it is now, and fetches nothing.
    bench.pull("org/tiny", &["*.json"]).unwrap();
    assert_eq!(bench.server.requests().len(), before + 1);
}

#[test]
fn a_file_that_was_deleted_or_cut_is_not_taken_for_whole() {
    let bench = Bench::new(behave);
    let snapshot = bench.pull("org/tiny", &["*.safetensors"]).unwrap();
    let cached = || bench.hub.cached(&model("org/tiny"), &["*.safetensors"]);
    assert_eq!(cached(), Some(snapshot.clone()));
    let weights_file = snapshot.folder.join("model.safetensors");
    fs::write(&weights_file, b"cut").unwrap();
    assert_eq!(cached(), None);
    assert_right(
        &bench.pull("org/tiny", &["*.safetensors"]).unwrap(),
        &["model.safetensors"],
    );
    fs::remove_file(&weights_file).unwrap();
    assert_eq!(cached(), None);
}

#[test]
fn a_branch_that_moves_on_is_followed_by_a_pull_and_not_by_a_run() {
    let newer = "f".repeat(40);
    let moved = newer.clone();
    let bench = Bench::new(
        move |request| match request.path.starts_with("/api") && request.earlier > 0 {
            true => Reply::ok(super::listing().replace(COMMIT, &moved)),
            false => behave(&super::Request {
                path: request.path.replace(&moved, COMMIT),
                ..request.clone()
            }),
        },
    );
    bench.pull("org/tiny", &["*.json"]).unwrap();
    let stop = AtomicBool::new(false);
    let run = bench
        .hub
        .snapshot(&model("org/tiny"), &["*.json"], &mut |_| {}, &stop)
        .unwrap();
    assert_eq!(run.commit, COMMIT);
    assert_eq!(bench.pull("org/tiny", &["*.json"]).unwrap().commit, newer);
    assert_eq!(
        bench.server.requests_for("config.json").len(),
        1,
        "its content is the same"
    );
}

/// A cache as an older Python leaves it: no list of what the commit has.
fn python_cache(bench: &Bench, files: &[(&str, &str)]) {
    let snapshot = bench.repo().join("snapshots").join(COMMIT);
    fs::create_dir_all(bench.repo().join("refs")).unwrap();
    fs::create_dir_all(bench.repo().join("blobs")).unwrap();
    fs::write(bench.repo().join("refs/main"), COMMIT).unwrap();
    for (name, content) in files {
        let path = snapshot.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn what_python_downloaded_is_found() {
    let bench = Bench::new(behave);
    python_cache(
        &bench,
        &[("config.json", "{}"), ("sub/a.txt", "a"), ("pytorch_model.bin", "x")],
    );
    let found = bench.hub.cached(&model("org/tiny"), &["*.json", "*.txt"]).unwrap();
    assert_eq!(
        (found.commit.as_str(), found.files),
        (COMMIT, vec!["config.json".to_owned(), "sub/a.txt".to_owned()])
    );
    assert_eq!(bench.hub.cached(&model("org/tiny"), &["model.safetensors"]), None);
    assert_eq!(bench.hub.cached(&model("org/tiny"), &["*.safetensors"]), None);
}

#[test]
fn what_python_left_unfinished_is_whole_only_when_there_is_no_one_to_ask() {
    let bench = Bench::new(behave);
    python_cache(&bench, &[("config.json", "{}")]);
    fs::write(bench.partial_weights(), &weights()[..1_000]).unwrap();
    assert_eq!(bench.hub.cached(&model("org/tiny"), &["*.json", "*.safetensors"]), None);
    assert!(pull_offline(&bench, "org/tiny", &["*.json", "*.safetensors"]).is_ok());
    let pulled = bench.pull("org/tiny", &["*.json", "*.safetensors"]).unwrap();
    assert_right(&pulled, &["config.json", "model.safetensors"]);
    assert_eq!(
        bench.server.requests_for("model.safetensors")[0].0.header("range"),
        Some("bytes=1000-")
    );
}

#[test]
fn shards_that_an_index_names_must_all_be_there() {
    let index = r#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    let bench = Bench::new(behave);
    let some = [("model.safetensors.index.json", index), ("model-1.safetensors", "1")];
    python_cache(&bench, &some);
    assert!(pull_offline(&bench, "org/tiny", &["*.safetensors"]).is_err());
    python_cache(&bench, &[("model-2.safetensors", "2")]);
    assert_eq!(
        pull_offline(&bench, "org/tiny", &["*.safetensors"])
            .unwrap()
            .files
            .len(),
        2
    );
}

/// The format is Python's, so that either finds the other's note.
#[test]
fn the_files_of_a_commit_are_noted_as_newer_pythons_do() {
    let bench = Bench::new(behave);
    bench.pull("org/tiny", &["*.json"]).unwrap();
    let tree = bench.repo().join("trees").join(format!("{COMMIT}.json"));
    let noted: serde_json::Value = serde_json::from_str(&fs::read_to_string(&tree).unwrap()).unwrap();
    assert_eq!(noted["format_version"], 1);
    assert_eq!(
        noted["files"]["config.json"],
        serde_json::json!({"size": 22, "blob_id": git_sha1(&files()[0].1)})
    );
    let large = serde_json::json!({
        "size": 300_000, "blob_id": "0".repeat(40), "lfs_sha256": sha256(&weights()), "lfs_size": 300_000,
    });
    assert_eq!(noted["files"]["model.safetensors"], large);

    let newer = serde_json::json!({"format_version": 1, "files": {
        "config.json": {"size": 2, "blob_id": "0".repeat(40)},
        "model.safetensors": {"size": 134, "blob_id": "0".repeat(40), "lfs_sha256": "1", "lfs_size": 3, "xet_hash": "2"},
    }});
    let bench = Bench::new(behave);
    python_cache(&bench, &[("config.json", "{}")]);
    let tree = bench.repo().join("trees").join(format!("{COMMIT}.json"));
    fs::create_dir(tree.parent().unwrap()).unwrap();
    fs::write(&tree, newer.to_string()).unwrap();
    assert!(pull_offline(&bench, "org/tiny", &["*.json"]).is_ok());
    assert!(pull_offline(&bench, "org/tiny", &["*"]).is_err());
    python_cache(&bench, &[("model.safetensors", "123")]);
    assert!(pull_offline(&bench, "org/tiny", &["*"]).is_ok());
}
