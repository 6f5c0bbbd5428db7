//! `host plugins` in end-to-end tests: its output, the files it writes, and its exit codes.

use crate::building::{build, repository, target};
use crate::support::{host_program, plugin_file};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// A folder with a registry and plugins, which tests may damage.
struct Bench(TempDir);

impl Bench {
    fn new(registry: &str) -> Bench {
        let bench = Bench(tempfile::tempdir().expect("a folder"));
        std::fs::write(bench.path("registry.toml"), registry).expect("a registry");
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts a copy of a plugin beside the registry.
    fn copy(&self, from: &Path, name: &str) {
        std::fs::copy(from, self.path(name)).expect("a copy of a plugin");
    }

    /// What it prints on standard output, after this exit code.
    #[track_caller]
    fn says(&self, exit: i32, arguments: &[&str]) -> String {
        let (stdout, stderr) = self.run(exit, arguments);
        assert_eq!(stderr, "", "{arguments:?}");
        stdout
    }

    #[track_caller]
    fn run(&self, exit: i32, arguments: &[&str]) -> (String, String) {
        let output = Command::new(host_program())
            .arg("plugins")
            .args(arguments)
            .args(["--registry", "registry.toml"])
            .current_dir(self.0.path())
            .env("XDG_CONFIG_HOME", self.0.path())
            .output()
            .expect("the host runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("it prints text");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        assert_eq!(output.status.code(), Some(exit), "{arguments:?}\n{stdout}\n{stderr}");
        (stdout, stderr)
    }
}

const REGISTRY: &str = r#"# kept as it is
[plugins.echo] # this one too
path = "libecho.so"

[models.repeat]
plugin = "echo"
adapter = "echo"

[plugins.gone]
path = "libgone.so"

[plugins.other]
path = "libother.so"

[plugins.text]
path = "registry.toml"
"#;

fn bench() -> Bench {
    let bench = Bench::new(REGISTRY);
    bench.copy(&plugin_file("fixture-echo"), "libecho.so");
    let frozen = build(&repository().join("tests/frozen"), &target("frozen"));
    bench.copy(&frozen.join("libnext_wire.so"), "libother.so");
    bench
}

/// The entry of a plugin in `list --json`.
fn listed(bench: &Bench, name: &str) -> Value {
    let entries: Vec<Value> = serde_json::from_str(&bench.says(0, &["list", "--json"])).expect("a JSON list");
    entries
        .into_iter()
        .find(|entry| entry["name"] == name)
        .expect("it is listed")
}

#[track_caller]
fn check_status(bench: &Bench, name: &str, words: &[&str]) {
    let entry = listed(bench, name);
    let status = entry["status"].as_str().expect("a status");
    for word in words {
        assert!(status.contains(word), "`{word}` is not in: {status}");
    }
}

#[test]
fn every_plugin_is_listed_with_what_is_wrong_with_it() {
    let bench = bench();
    check_status(&bench, "echo", &["ok"]);
    check_status(&bench, "gone", &["missing", "libgone.so"]);
    check_status(&bench, "other", &["refused", "speaks plugin-api 0.9.0 (wire 3)"]);
    check_status(&bench, "text", &["refused", "not an ELF file"]);
    let text = bench.says(0, &["list"]);
    assert!(
        text.contains(&format!("plugin-api {}, process, not pinned: ok", plugin_api::VERSION)),
        "{text}"
    );
    assert!(
        text.contains("model `echo`: Repeats the last user message, and says what it heard, in the registry `repeat`"),
        "{text}"
    );
}

#[test]
fn a_pin_is_one_line_and_every_other_file_is_refused_then() {
    let bench = bench();
    let said = bench.says(0, &["pin", "echo"]);
    let entry = listed(&bench, "echo");
    assert_eq!((&entry["pinned"], &entry["status"]), (&true.into(), &"ok".into()));
    let sha256 = host::plugin::trust::sha256(&bench.path("libecho.so")).expect("its hash");
    assert!(said.contains(&sha256), "{said}");
    let line = format!("path = \"libecho.so\"\nsha256 = \"{sha256}\"\n");
    let written = std::fs::read_to_string(bench.path("registry.toml")).expect("the registry");
    assert_eq!(written, REGISTRY.replacen("path = \"libecho.so\"\n", &line, 1));

    bench.copy(&plugin_file("fixture-unruly"), "libecho.so");
    check_status(&bench, "echo", &["refused", "not the file that was pinned"]);
    let said = bench.says(0, &["pin", "echo"]);
    assert!(said.contains("was pinned to another file"), "{said}");
    check_status(&bench, "echo", &["ok"]);
    let (_, complaint) = bench.run(3, &["pin", "ecko"]);
    assert!(complaint.contains("did you mean `echo`?"), "{complaint}");
}

#[test]
fn inspect_shows_the_note_the_options_and_the_build() {
    let bench = bench();
    let text = bench.says(0, &["inspect", "libecho.so"]);
    for line in [
        concat!("fixture-echo ", env!("CARGO_PKG_VERSION"), "\n"),
        &format!("plugin-api   {0} (this host: {0})\n", plugin_api::VERSION),
        "exports      1\n",
        "glibc        GLIBC_2.",
        "loadable     yes\n",
        "task `count`: Asks for numbers\n  n (integer, default 10): how many samples it has\n",
    ] {
        assert!(text.contains(line), "`{line}` is not in:\n{text}");
    }
    let json: Value = serde_json::from_str(&bench.says(0, &["inspect", "libecho.so", "--json"])).expect("JSON");
    assert_eq!(
        (&json["name"], &json["panic"]),
        (&"fixture-echo".into(), &"unwind".into())
    );
    assert_eq!(json["refused"], Value::Null);
    // A plugin that can't be loaded can still be inspected.
    let text = bench.says(0, &["inspect", "libother.so"]);
    assert!(
        text.contains("loadable     plugin `next-wire` speaks plugin-api 0.9.0 (wire 3)"),
        "{text}"
    );
    let (_, complaint) = bench.run(4, &["inspect", "registry.toml"]);
    assert!(complaint.contains("not an ELF file"), "{complaint}");
    bench.run(3, &["inspect", "libgone.so"]);
}

#[test]
fn check_ends_with_0_or_4() {
    let bench = bench();
    let unruly = plugin_file("fixture-unruly").display().to_string();
    let text = bench.says(0, &["check", &unruly]);
    assert!(text.contains("\npassed: "), "{text}");
    let text = bench.says(4, &["check", &unruly, "--settings", "vice=talks on"]);
    assert!(
        text.contains("  FAILED   it keeps to the most tokens: 2 were allowed, and it generated "),
        "{text}"
    );
    let text = bench.says(4, &["check", &unruly, "--settings", "vice=forgets", "--json"]);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["passed"], false);
    let failed = |check: &&Value| check["verdict"] == "failed";
    let names: Vec<_> = report["checks"]
        .as_array()
        .expect("checks")
        .iter()
        .filter(failed)
        .collect();
    assert_eq!(names.len(), 1, "{text}");
    bench.run(3, &["check", "libgone.so"]);
    let (_, complaint) = bench.run(2, &["check", &unruly, "--settings", "vice"]);
    assert!(complaint.contains("--settings NAME=VALUE"), "{complaint}");
}

#[test]
fn new_says_what_comes_next_and_overwrites_nothing() {
    let bench = bench();
    let text = bench.says(0, &["new", "my-task", "--kind", "task"]);
    assert!(text.contains("host plugins check target/debug/libmy_task.so"), "{text}");
    let source = std::fs::read_to_string(bench.path("my-task/src/lib.rs")).expect("its source");
    assert!(source.contains("register_task!(\"my-task\""), "{source}");
    let (_, complaint) = bench.run(2, &["new", "my-task", "--kind", "model"]);
    assert!(complaint.contains("exists"), "{complaint}");
    bench.run(2, &["new", "other", "--kind", "toy"]);
    bench.run(2, &["new", "No Name", "--kind", "model"]);
}
