//! Pulls from a server in this process that speaks the hub's endpoints and can misbehave in every way
//! that networks and servers do.

mod access;
mod cache;
mod gguf;
mod pull;
// The end-to-end tests pull from it too.
#[path = "../../../tests/hub_server.rs"]
mod server;
mod words;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{Hub, HubError, HubId, Kind, Settings, Snapshot, Token};
use server::{Reply, Request, Server};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sha256(content: &[u8]) -> String {
    hex(&Sha256::digest(content))
}

fn git_sha1(content: &[u8]) -> String {
    let mut hasher = Sha1::new();
    hasher.update(format!("blob {}\0", content.len()));
    hasher.update(content);
    hex(&hasher.finalize())
}

/// 300,000 bytes that do not repeat: more than one block, and a shift would be seen.
fn weights() -> Vec<u8> {
    (0_u32..75_000)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// The files of the repository that the tests pull.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("config.json", b"{\"model_type\": \"tiny\"}".to_vec()),
        ("model.safetensors", weights()),
        ("onnx/model.onnx", b"not wanted".to_vec()),
        ("tokenizer/merges and more.txt", b"a b\n".to_vec()),
    ]
}

/// The hub's answer for the repository as it should be.
fn listing() -> String {
    let siblings: Vec<_> = files()
        .iter()
        .map(|(name, content)| match name.ends_with(".safetensors") {
            true => serde_json::json!({
                "rfilename": name, "size": content.len(), "blobId": "0".repeat(40),
                "lfs": {"sha256": sha256(content), "size": content.len(), "pointerSize": 134},
            }),
            false => serde_json::json!({"rfilename": name, "size": content.len(), "blobId": git_sha1(content)}),
        })
        .collect();
    serde_json::json!({"sha": COMMIT, "private": false, "siblings": siblings}).to_string()
}

/// A well-behaved hub for `org/tiny`.
fn behave(request: &Request) -> Reply {
    if request.path == "/api/models/org/tiny/revision/main?blobs=true" {
        return Reply::ok(listing());
    }
    for (name, content) in files() {
        if request.path == format!("/org/tiny/resolve/{COMMIT}/{}", name.replace(' ', "%20")) {
            return Reply::part_of(&content, request);
        }
    }
    Reply::status(404)
}

/// A server, a cache of its own, and the pauses that the client wanted to make.
struct Bench {
    server: Server,
    folder: TempDir,
    hub: Hub,
    pauses: &'static Mutex<Vec<f64>>,
}

impl Bench {
    fn new(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::with_token(answer, None)
    }

    fn with_token(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static, token: Option<&str>) -> Self {
        let server = Server::start(answer);
        let folder = tempfile::tempdir().unwrap();
        let pauses: &'static Mutex<Vec<f64>> = Box::leak(Box::default());
        let hub = hub(&server, &folder, token, pauses);
        Bench {
            server,
            folder,
            hub,
            pauses,
        }
    }

    fn repo(&self) -> PathBuf {
        self.folder.path().join("models--org--tiny")
    }

    fn partial_weights(&self) -> PathBuf {
        self.repo()
            .join("blobs")
            .join(format!("{}.incomplete", sha256(&weights())))
    }

    fn pull(&self, id: &str, patterns: &[&str]) -> Result<Snapshot, HubError> {
        self.hub
            .pull(&model(id), patterns, &mut |_| {}, &AtomicBool::new(false))
    }
}

fn hub(server: &Server, folder: &TempDir, token: Option<&str>, pauses: &'static Mutex<Vec<f64>>) -> Hub {
    let mut hub = Hub::new(Settings {
        endpoint: server.address(),
        cache: folder.path().to_owned(),
        token: token.map(Token::new),
        offline: false,
    })
    .unwrap();
    hub.client.patience.wait = Box::new(|pause| pauses.lock().unwrap().push(pause.as_secs_f64()));
    hub
}

fn model(id: &str) -> HubId {
    HubId::parse(id, Kind::Model).unwrap()
}

/// Every file of the snapshot holds what the server has under that name.
#[track_caller]
fn assert_right(snapshot: &Snapshot, names: &[&str]) {
    assert_eq!(snapshot.commit, COMMIT);
    assert_eq!(snapshot.files, names);
    for (name, content) in files() {
        if names.contains(&name) {
            assert!(fs::read(snapshot.folder.join(name)).unwrap() == content, "{name}");
        }
    }
}
