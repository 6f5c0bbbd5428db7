//! `host pull`, and runs that need what it fetches, against a server that speaks the hub's endpoints.

use crate::hub_server::{Reply, Request, Server};
use crate::support::{host_program, plugin_file};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use sha2::Sha256;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const TOKEN: &str = "hf_very_secret_token";
/// No server listens there.
const NOBODY: &str = "http://127.0.0.1:1";
const WEIGHTS: &str = "model.safetensors";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A megabyte without repetitions, so that a shift would be noticed.
fn weights() -> Vec<u8> {
    let numbers = 0_u32..1 << 18;
    numbers
        .flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// The hub's contents: `org/tiny`, a model, and `org/numbers`, a data set.
fn files(dataset: bool) -> Vec<(&'static str, Vec<u8>)> {
    match dataset {
        true => vec![("numbers.txt", b"0\n1\n2\n".to_vec())],
        false => vec![(WEIGHTS, weights()), ("voice.txt", b"so: ".to_vec())],
    }
}

fn listing(dataset: bool) -> String {
    let siblings = files(dataset).into_iter().map(|(name, content)| {
        let size = content.len();
        if name == WEIGHTS {
            let lfs = json!({ "sha256": hex(&Sha256::digest(&content)), "size": size, "pointerSize": 134 });
            return json!({ "rfilename": name, "size": size, "blobId": "0".repeat(40), "lfs": lfs });
        }
        let blob = [format!("blob {size}\0").as_bytes(), &content].concat();
        json!({ "rfilename": name, "size": size, "blobId": hex(&Sha1::digest(blob)) })
    });
    json!({ "sha": COMMIT, "private": false, "siblings": siblings.collect::<Vec<_>>() }).to_string()
}

/// A hub without faults.
fn behave(request: &Request) -> Reply {
    match request.path.as_str() {
        "/api/models/org/tiny/revision/main?blobs=true" => return Reply::ok(listing(false)),
        "/api/datasets/org/numbers/revision/main?blobs=true" => return Reply::ok(listing(true)),
        _ => {}
    }
    for (dataset, folder) in [(false, "/org/tiny"), (true, "/datasets/org/numbers")] {
        for (name, content) in files(dataset) {
            if request.path == format!("{folder}/resolve/{COMMIT}/{name}") {
                return Reply::part_of(&content, request);
            }
        }
    }
    Reply::status(404)
}

/// A hub whose `org/several` has a model in two GGUF files.
fn behave_with_gguf(request: &Request) -> Reply {
    let names = ["config.json", "m-Q4_K_M.gguf", "m-Q8_0.gguf"];
    if request.path == "/api/models/org/several/revision/v1?blobs=true" {
        let sibling = |name: &&str| {
            json!({ "rfilename": name, "size": name.len(), "blobId": null,
            "lfs": { "sha256": hex(&Sha256::digest(name)), "size": name.len() } })
        };
        let siblings: Vec<Value> = names.iter().map(sibling).collect();
        return Reply::ok(json!({ "sha": COMMIT, "siblings": siblings }).to_string());
    }
    let file = request.path.strip_prefix(&format!("/org/several/resolve/{COMMIT}/"));
    match file.filter(|file| names.contains(file)) {
        Some(file) => Reply::part_of(file.as_bytes(), request),
        None => behave(request),
    }
}

/// A folder to work in, with its own cache and registry.
struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let folder = tempfile::tempdir().expect("a folder");
        let echo = plugin_file("fixture-echo").display().to_string();
        let registry = format!(
            "[plugins.echo]\npath = {echo:?}\nisolation = \"in-process\"\n[models.echo]\nplugin = \"echo\"\n\
             [tasks.count]\nplugin = \"echo\"\n"
        );
        std::fs::write(folder.path().join("fixtures.toml"), registry).expect("a registry");
        Bench { folder }
    }

    fn command(&self, endpoint: &str, arguments: &str) -> Command {
        let mut command = Command::new(host_program());
        command
            .args(arguments.split_whitespace())
            .args(["--registry", "fixtures.toml"])
            .current_dir(self.folder.path())
            .stdin(Stdio::null());
        // Independent of the machine: neither its cache nor its keys nor its proxies are used.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().to_lowercase();
            if text.starts_with("hf_") || text.starts_with("hugging") || text.ends_with("_proxy") {
                command.env_remove(name);
            }
        }
        command
            .env("XDG_CONFIG_HOME", self.folder.path().join("config"))
            .env("HF_HOME", self.folder.path().join("hf"))
            .env("HF_ENDPOINT", endpoint);
        command
    }

    /// Runs a command, expects this exit code and this text, and checks that no token is printed.
    #[track_caller]
    fn check(&self, endpoint: &str, arguments: &str, exit: i32, words: &[&str]) -> String {
        let output = self.command(endpoint, arguments).env("HF_TOKEN", TOKEN).output();
        said(&output.expect("the program starts"), arguments, exit, words)
    }

    fn repo(&self, name: &str) -> PathBuf {
        self.folder.path().join("hf/hub").join(name)
    }

    fn snapshot(&self, name: &str) -> PathBuf {
        self.repo(name).join("snapshots").join(COMMIT)
    }

    fn blobs(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.repo("models--org--tiny").join("blobs"));
        entries
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .collect()
    }
}

#[track_caller]
fn said(output: &Output, arguments: &str, exit: i32, words: &[&str]) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let both = format!("{out}\n{err}");
    assert_eq!(output.status.code(), Some(exit), "`host {arguments}`\n{both}");
    for words in words {
        assert!(
            both.contains(words),
            "`{words}` is not in what `host {arguments}` said:\n{both}"
        );
    }
    assert!(!both.contains("panicked at") && !both.contains(TOKEN), "{both}");
    out
}

#[test]
fn models_and_data_sets_are_pulled_into_the_cache_that_python_uses() {
    let (bench, server) = (Bench::new(), Server::start(behave));
    let out = bench.check(&server.address(), "pull org/tiny --data org/numbers --json", 0, &[]);
    let got: Value = serde_json::from_str(&out).expect("JSON");
    for (id, repo, file, dataset) in [
        ("org/tiny", "models--org--tiny", "voice.txt", false),
        ("org/tiny", "models--org--tiny", WEIGHTS, false),
        ("org/numbers", "datasets--org--numbers", "numbers.txt", true),
    ] {
        let folder = bench.snapshot(repo);
        assert_eq!(got[id].as_str(), folder.to_str(), "{out}");
        let (_, content) = files(dataset)
            .into_iter()
            .find(|(name, _)| *name == file)
            .expect("a file");
        assert!(std::fs::read(folder.join(file)).expect("the file") == content, "{file}");
    }
    // What is in the cache is not requested again, and needs no server.
    let before = server.requests().len();
    bench.check(&server.address(), "pull org/tiny --data org/numbers --offline", 0, &[]);
    assert_eq!(server.requests().len(), before);
}

#[test]
fn a_model_with_nothing_to_convert_says_so_before_anything_is_fetched() {
    let words = ["model `echo` has nothing to convert"];
    Bench::new().check(NOBODY, "convert echo --out out -M weights=org/tiny", 4, &words);
}

/// Waits until a part of the weights is on disk.
#[track_caller]
fn wait_for_a_part(bench: &Bench, child: &mut Child) {
    let began = Instant::now();
    let has_part = |path: &Path| {
        let partial = path.extension().is_some_and(|end| end == "incomplete");
        partial && path.metadata().is_ok_and(|found| found.len() > 0)
    };
    while !bench.blobs().iter().any(|path| has_part(path)) {
        let ended = child.try_wait().expect("a child");
        assert!(ended.is_none(), "it ended early: {ended:?}");
        assert!(began.elapsed() < Duration::from_secs(60), "no part came");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_interrupted_pull_goes_on_where_it_stopped() {
    let bench = Bench::new();
    let server = Server::start(
        |request| match request.path.ends_with(WEIGHTS) && request.earlier == 0 {
            // The whole takes nine seconds, so that it is interrupted on any machine.
            true => behave(request).drip(4 << 10, Duration::from_millis(35)),
            false => behave(request),
        },
    );
    let mut child = bench
        .command(&server.address(), "pull org/tiny")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_for_a_part(&bench, &mut child);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::INT).expect("it lives");
    let output = child.wait_with_output().expect("it ends");
    said(&output, "pull org/tiny", 130, &["the same command goes on from here"]);
    let blobs = bench.blobs();
    let part = blobs
        .iter()
        .find(|path| path.extension().is_some_and(|end| end == "incomplete"));
    let have = part.expect("a part").metadata().expect("its size").len();
    assert!(have > 0 && have < weights().len() as u64, "{have}");

    bench.check(&server.address(), "pull org/tiny", 0, &[]);
    let requests = server.requests_for(WEIGHTS);
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].0.header("range"), Some(format!("bytes={have}-").as_str()));
    let got = std::fs::read(bench.snapshot("models--org--tiny").join(WEIGHTS)).expect("the file");
    assert!(got == weights(), "{} bytes", got.len());
    assert!(bench.blobs().iter().all(|path| path.extension().is_none()));
}

/// Starts a download of the weights, and kills it while a part of them is on disk. Returns the part's size.
fn killed_while_fetching(bench: &Bench, server: &Server, arguments: &str) -> u64 {
    let before = server.requests_for(WEIGHTS).len();
    let mut command = bench.command(&server.address(), arguments);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    while server.requests_for(WEIGHTS).len() == before {
        assert!(child.try_wait().expect("a child").is_none(), "it ended early");
        std::thread::sleep(Duration::from_millis(5));
    }
    wait_for_a_part(bench, &mut child);
    child.kill().expect("it lives");
    child.wait().expect("it ends");
    let blobs = bench.blobs();
    let part = blobs.iter().find(|path| path.extension().is_some());
    let have = part.expect("a part").metadata().expect("its size").len();
    assert!(have < weights().len() as u64, "{have}");
    have
}

#[test]
fn a_part_that_a_kill_left_is_completed_and_never_taken_for_the_whole() {
    for arguments in [
        "pull org/tiny",
        "run --model echo --task count -M weights=org/tiny -T data=org/numbers",
    ] {
        let bench = Bench::new();
        // The first two requests are so slow that they are interrupted on any machine.
        let server = Server::start(|request| match request.path.ends_with(WEIGHTS) && request.earlier < 2 {
            true => behave(request).drip(4 << 10, Duration::from_millis(35)),
            false => behave(request),
        });
        let first = killed_while_fetching(&bench, &server, arguments);
        let words = ["is incomplete and `--offline`", "hint: run `host pull org/tiny`"];
        bench.check(NOBODY, "pull org/tiny --offline", 3, &words);
        bench.check(
            NOBODY,
            "run --model echo --task count -M weights=org/tiny --offline",
            3,
            &words,
        );
        killed_while_fetching(&bench, &server, arguments);
        bench.check(&server.address(), arguments, 0, &[]);
        let requests = server.requests_for(WEIGHTS);
        assert_eq!(requests.len(), 3, "{arguments}");
        assert_eq!(
            requests[1].0.header("range"),
            Some(format!("bytes={first}-").as_str()),
            "{arguments}"
        );
        let got = std::fs::read(bench.snapshot("models--org--tiny").join(WEIGHTS)).expect("the file");
        assert!(got == weights(), "{arguments}: {} bytes", got.len());
    }
}

#[test]
fn a_part_with_wrong_bytes_is_thrown_away_and_fetched_from_its_beginning() {
    let bench = Bench::new();
    let server = Server::start(
        |request| match request.path.ends_with(WEIGHTS) && request.earlier == 0 {
            true => behave(request).drip(4 << 10, Duration::from_millis(35)),
            false => behave(request),
        },
    );
    killed_while_fetching(&bench, &server, "pull org/tiny");
    let part = bench.blobs().into_iter().find(|path| path.extension().is_some());
    let part = part.expect("a part");
    let mut bytes = std::fs::read(&part).expect("its bytes");
    bytes[0] ^= 1;
    std::fs::write(&part, bytes).expect("it is written");
    bench.check(&server.address(), "pull org/tiny", 0, &[]);
    let requests = server.requests_for(WEIGHTS);
    // The completed part turns out to be wrong, so all of it is requested once more.
    let ranges: Vec<bool> = requests
        .iter()
        .map(|(request, _)| request.header("range").is_some())
        .collect();
    assert_eq!(ranges, [false, true, false]);
    let got = std::fs::read(bench.snapshot("models--org--tiny").join(WEIGHTS)).expect("the file");
    assert!(got == weights(), "{} bytes", got.len());
}

#[test]
fn a_file_that_arrives_damaged_is_refused_and_not_kept() {
    let bench = Bench::new();
    let server = Server::start(|request| {
        let mut reply = behave(request);
        if request.path.ends_with(WEIGHTS) {
            reply.body[1000] ^= 1;
        }
        reply
    });
    let words = ["`model.safetensors` arrived with sha256", "hint: pull again"];
    bench.check(&server.address(), "pull org/tiny", 3, &words);
    assert_eq!(bench.blobs(), Vec::<PathBuf>::new());
    assert!(!bench.snapshot("models--org--tiny").join(WEIGHTS).exists());
}

#[test]
fn what_the_hub_refuses_is_told_with_the_way_out() {
    let bench = Bench::new();
    // Some servers quote the request.
    let refusing = Server::start(|request| {
        let sent = request.header("authorization").unwrap_or("nothing");
        Reply::status(401).with("X-Error-Message", format!("cannot use {sent}"))
    });
    let words = [
        "refuses access (status 401",
        "hint: the token in HF_TOKEN has no access",
    ];
    bench.check(&refusing.address(), "pull org/tiny", 3, &words);
    // Without a token, the reason may be that one is needed.
    let output = bench
        .command(&refusing.address(), "pull org/tiny")
        .output()
        .expect("it starts");
    said(
        &output,
        "pull org/tiny",
        3,
        &["set HF_TOKEN to a token that may read it"],
    );

    let empty = Server::start(|_| Reply::status(404));
    let words = [
        "cannot get `org/tiny` from the hub",
        "has no such model",
        "hint: check the spelling",
    ];
    bench.check(&empty.address(), "pull org/tiny", 3, &words);
    bench.check(&empty.address(), "pull tiny", 2, &["got `tiny`", "org/name"]);
}

#[test]
fn offline_the_command_that_would_help_is_told() {
    let bench = Bench::new();
    let words = [
        "`org/tiny`",
        "is incomplete and `--offline` or HF_HUB_OFFLINE is set",
        "hint: run `host pull org/tiny`",
    ];
    bench.check(NOBODY, "pull org/tiny --offline", 3, &words);
    bench.check(
        NOBODY,
        "run --model echo --task count -M weights=org/tiny --offline",
        3,
        &words,
    );
    let words = ["hint: run `host pull datasets/org/numbers`"];
    bench.check(
        NOBODY,
        "run --model echo --task count -T data=org/numbers --offline",
        3,
        &words,
    );
    assert!(!bench.folder.path().join("runs").exists(), "work was begun");
    // The suggested command works.
    let server = Server::start(behave);
    bench.check(&server.address(), "pull datasets/org/numbers", 0, &[]);
    bench.check(
        NOBODY,
        "run --model echo --task count -T data=org/numbers --offline",
        0,
        &["|count"],
    );
}

#[test]
fn one_gguf_file_of_several_is_fetched_and_given_to_the_model() {
    let (bench, server) = (Bench::new(), Server::start(behave_with_gguf));
    let run = "run --model echo --task count --dry-run -T data=org/numbers -M weights=org/several@v1";
    let words = [
        "`weights` of model `echo` can't be had",
        "it holds several GGUF files: `m-Q4_K_M.gguf`, `m-Q8_0.gguf`",
        "hint: name one, by its file name or by its format: `org/several:Q4_K_M`",
    ];
    bench.check(&server.address(), run, 3, &words);
    let words = ["no GGUF file of it is `Q5_0`: it holds `m-Q4_K_M.gguf`, `m-Q8_0.gguf`"];
    bench.check(&server.address(), &format!("{run}:Q5_0"), 3, &words);

    let file = bench.snapshot("models--org--several").join("m-Q8_0.gguf");
    let out = bench.check(&server.address(), "pull org/several@v1:q8_0 --json", 0, &[]);
    let got: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(got["org/several@v1:q8_0"].as_str(), file.to_str(), "{out}");
    assert!(server.requests_for("m-Q4_K_M.gguf").is_empty() && server.requests_for("config.json").is_empty());
    // All spellings name the same file of the same commit, which needs no server.
    bench.check(&server.address(), "pull --data org/numbers", 0, &[]);
    let identity = |weights: &str| {
        let run = format!("run --model echo --task count --dry-run --offline -T data=org/numbers -M weights={weights}");
        let out = bench.check(NOBODY, &run, 0, &[]);
        let plans: Value = serde_json::from_str(&out).expect("JSON");
        let plan = &plans["dry_run"][0];
        // The size is reported before anything is loaded.
        assert_eq!(plan["memory"]["weights_bytes"], "m-Q8_0.gguf".len(), "{plan}");
        assert_eq!(plan["memory"]["fits"], true, "{plan}");
        plan["model"]["sources"]["weights"].clone()
    };
    let expected = json!({ "hub": "org/several", "commit": COMMIT, "file": "m-Q8_0.gguf" });
    assert_eq!(identity("org/several@v1:Q8_0"), expected);
    assert_eq!(identity("org/several/m-Q8_0.gguf@v1"), expected);
}

#[test]
fn a_run_fetches_what_it_needs_once() {
    let (bench, server) = (Bench::new(), Server::start(behave));
    let arguments = "run --model echo --task count -M weights=org/tiny -T data=org/numbers";
    bench.check(&server.address(), arguments, 0, &["|count"]);
    assert_eq!(server.requests_for(WEIGHTS).len(), 1);
    // Again from the start, without a server.
    bench.check(NOBODY, &format!("{arguments} --fresh"), 0, &["|count"]);
    let runs = std::fs::read_dir(bench.folder.path().join("runs")).expect("runs");
    let mut kept = 0;
    for run in runs.flatten() {
        let records = std::fs::read_to_string(run.path().join("samples.jsonl")).expect("records");
        let answers: Vec<Value> = records
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let mut texts: Vec<_> = answers.iter().filter_map(|it| it["resps"][0][0].as_str()).collect();
        texts.sort_unstable();
        assert_eq!(texts, ["so: 0", "so: 1", "so: 2"]);
        kept += 1;
    }
    assert_eq!(kept, 2, "the second run is one of its own");
}
