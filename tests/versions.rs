//! Older and newer versions of plugin-api of one wire meet today's, with real libraries, in both directions and in
//! every order.
//!
//! `frozen` holds the source of one earlier version. The newer one is made here from today's source: its binary layer
//! grows by a field and by a method with a default, the only two ways in which it may grow within a wire.

use crate::building::{build, repository, target};
use crate::support::{host_program, plugin_file, settings};
use host::failure::Exit;
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::{Code, Kind, Message, NoCallbacks, Prompt, Reply};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The adapters that are tested against each other. All tests use the same build.
fn frozen() -> PathBuf {
    build(&repository().join("tests/frozen"), &target("frozen"))
}

fn old_plugin() -> PathBuf {
    frozen().join("libold_plugin.so")
}

fn todays_plugin() -> PathBuf {
    plugin_file("fixture-unruly")
}

/// A plugin and a host of another version of plugin-api, made in a folder of the target folder.
fn other(version: &str, api: &Path) -> PathBuf {
    let source = target(&format!("plugin-api-{version}"));
    static WRITTEN: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let mut written = WRITTEN.lock().unwrap_or_else(PoisonError::into_inner);
    if written.insert(source.clone()) {
        write_other(version, api, &source);
    }
    drop(written);
    build(&source, &target("frozen"))
}

/// Today's plugin-api with an extended binary layer.
fn tomorrow() -> PathBuf {
    other("0.99.0", &repository().join("plugin-api"))
}

/// The plugin of a version that [`other`] has made.
fn plugin_of(version: &str, built: PathBuf) -> PathBuf {
    built.join(format!("libplugin_{}.so", version.replace('.', "_")))
}

fn write_other(version: &str, of: &Path, source: &Path) {
    let frozen = repository().join("tests/frozen");
    let api = source.join("plugin-api");
    copy(&of.join("src"), &api.join("src"));
    copy(&frozen.join("old-plugin/src"), &source.join("plugin/src"));
    copy(&frozen.join("old-host/src"), &source.join("host/src"));
    let write = |path: PathBuf, text: String| fs::write(path, text).expect("a file in the target folder");
    let read = |path: PathBuf| fs::read_to_string(path).expect("a file of the repository");
    grow(&api.join("src"));
    fs::copy(of.join("build.rs"), api.join("build.rs")).expect("the build script");
    let manifest = read(frozen.join("plugin-api/Cargo.toml"));
    let manifest = manifest.replace("version = \"0.2.0\"", &format!("version = \"{version}\""));
    write(api.join("Cargo.toml"), manifest);
    for (from, to) in [("old-plugin", "plugin"), ("old-host", "host")] {
        let name = format!("{to}-{}", version.replace('.', "-"));
        let manifest = read(frozen.join(from).join("Cargo.toml"));
        let manifest = manifest.replace(&format!("\"{from}\""), &format!("\"{name}\""));
        write(source.join(to).join("Cargo.toml"), manifest);
    }
    // The same profile and the same versions as the frozen workspace, whose builds of them are used again.
    let members = r#"members = ["plugin-api", "plugin", "host"]"#;
    let workspace = read(frozen.join("Cargo.toml"));
    let lines = workspace
        .lines()
        .map(|line| if line.starts_with("members") { members } else { line });
    write(source.join("Cargo.toml"), lines.collect::<Vec<_>>().join("\n"));
    fs::copy(frozen.join("Cargo.lock"), source.join("Cargo.lock")).expect("the lock file");
}

/// Gives the binary layer one more field and one more method.
fn grow(source: &Path) {
    let change = |file: &str, from: &str, to: &str| {
        let path = source.join(file);
        let text = fs::read_to_string(&path).expect("a copied file");
        let count = text.matches(from).count();
        assert_eq!(count, 1, "{file} has changed, and this test with it: `{from}`");
        fs::write(path, text.replace(from, to)).expect("a file in the target folder");
    };
    let make = r#"make: extern "C" fn(RStr<'_>, RStr<'_>, RStr<'_>) -> RResult<AdapterBox, AbiError>,"#;
    let later = format!("{make}\n    pub(crate) later: extern \"C\" fn() -> u32,");
    change("wire/abi.rs", make, &later);
    change(
        "export.rs",
        "PluginMod { init, about, make }",
        "PluginMod { init, about, make, later: { extern \"C\" fn later() -> u32 { 7 } later } }",
    );
    let method = "#[sabi(last_prefix_field)]\n    fn stop_asked(&self) -> bool;";
    let later = format!("{method}\n    fn later(&self) -> u32 {{ let seven = 7; seven }}");
    change("wire/abi.rs", method, &later);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder in the target folder");
    for entry in fs::read_dir(from).expect("a folder of the repository") {
        let path = entry.expect("its entry").path();
        let beside = to.join(path.file_name().expect("a name"));
        match path.is_dir() {
            true => copy(&path, &beside),
            false => drop(fs::copy(&path, &beside).expect("a copy of a source file")),
        }
    }
}

/// The output of a host that was built with another version of plugin-api and loads these files, in this order, into
/// one process.
fn in_host(program: &str, files: &[&PathBuf]) -> Vec<Value> {
    let output = Command::new(program).args(files).output().expect("the host runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

/// The same for today's host. A loaded library is never unloaded, so each order needs its own process: this test, run
/// again.
fn in_todays_host(files: &[&PathBuf]) -> Vec<Value> {
    let folder = tempfile::tempdir().expect("a folder");
    let answers = folder.path().join("answers.json");
    let output = Command::new(std::env::current_exe().expect("a test knows its own file"))
        .args(["--exact", "versions::todays_host", "--ignored"])
        .env("VERSIONS_FILES", serde_json::to_string(files).expect("paths are text"))
        .env("VERSIONS_ANSWERS", &answers)
        .output()
        .expect("this test runs again");
    let words = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{words}");
    serde_json::from_slice(&fs::read(answers).expect("its answers")).expect("they are JSON")
}

#[test]
#[ignore = "not a test: a host in a process of its own, for the tests of this file"]
fn todays_host() {
    let Ok(files) = std::env::var("VERSIONS_FILES") else {
        return;
    };
    let files: Vec<PathBuf> = serde_json::from_str(&files).expect("a list of files");
    let answers: Vec<Value> = files.iter().map(|file| answers(file, Isolation::InProcess)).collect();
    let path = std::env::var_os("VERSIONS_ANSWERS").expect("a file for the answers");
    fs::write(path, Value::from(answers).to_string()).expect("the answers are written");
}

fn spec(file: &Path, isolation: Isolation) -> PluginSpec {
    PluginSpec {
        name: file.file_stem().expect("a name").to_string_lossy().into_owned(),
        path: file.to_owned(),
        isolation,
        ..PluginSpec::default()
    }
}

/// The first model's reply, its answers to `replay` and `run_command`, and the first task's score of a right answer.
fn answers(file: &Path, isolation: Isolation) -> Value {
    let plugin = match host::plugin::open(&spec(file, isolation)) {
        Ok(plugin) => plugin,
        Err(failure) => return json!({ "refused": failure.render() }),
    };
    let named = |kind: Kind| {
        let note = plugin.note().adapters.iter().find(|note| note.kind == kind);
        let name = note.map(|note| note.name.clone()).expect("an adapter of each kind");
        plugin
            .make(kind, &name, &settings("{}"))
            .expect("it needs no settings")
            .adapter
    };
    let model = ModelClient(named(Kind::Model));
    let reply = model.reply(&Prompt::new([Message::user("hello, today")]), &NoCallbacks);
    let replay = model.replay(&json!({})).expect_err("nothing here can replay");
    let command = model
        .run_command("merge", &json!({}), &NoCallbacks)
        .expect_err("nothing here can merge");
    let task = TaskClient(named(Kind::Task));
    let sample = task.sample(0).expect("a first sample");
    let right = Reply::text(sample.target.as_str().map_or(sample.target.to_string(), str::to_owned));
    let score = task.score(&sample, &right, &NoCallbacks).expect("a score");
    let lacks = [replay.code.word(), command.code.word()];
    json!({ "reply": reply.expect("a reply").text, "lacks": lacks, "score": score.values })
}

fn fine() -> Value {
    json!({ "reply": "hello, today", "lacks": ["not-implemented", "not-implemented"], "score": { "acc": 1.0 } })
}

#[test]
fn older_and_newer_plugins_answer_in_todays_host_in_every_order() {
    let old = old_plugin();
    let (new, today) = (plugin_of("0.99.0", tomorrow()), todays_plugin());
    let orders = [
        [&old, &today, &new],
        [&new, &today, &old],
        [&today, &new, &old],
        [&today, &old, &new],
    ];
    for order in orders {
        assert_eq!(in_todays_host(&order), vec![fine(); 3], "{order:?}");
    }
}

#[test]
fn an_older_plugin_answers_in_todays_worker() {
    host_program();
    assert_eq!(answers(&old_plugin(), Isolation::Process), fine());
}

#[test]
fn todays_plugin_answers_in_older_and_newer_hosts_in_every_order() {
    let old = old_plugin();
    let (new, today) = (plugin_of("0.99.0", tomorrow()), todays_plugin());
    let hosts = [
        ("0.2.0", frozen().join("old-host")),
        ("0.99.0", tomorrow().join("host-0-99-0")),
    ];
    for (version, program) in hosts {
        let program = program.display().to_string();
        for order in [[&old, &today, &new], [&new, &today, &old], [&today, &old, &new]] {
            for answers in in_host(&program, &order) {
                assert_eq!(
                    answers,
                    json!({ "ours": version, "reply": "hello, old host", "score": { "acc": 1.0 } })
                );
            }
        }
    }
}

#[test]
fn another_wire_is_refused_with_both_versions_and_the_way_out() {
    let theirs = frozen().join("libnext_wire.so");
    let ours = plugin_api::VERSION;
    for isolation in [Isolation::InProcess, Isolation::Process] {
        let failure = host::plugin::open(&spec(&theirs, isolation))
            .err()
            .expect("it is refused");
        assert_eq!(failure.exit, Exit::Refused);
        let text = failure.render();
        assert!(
            text.contains(&format!(
                "speaks plugin-api 0.9.0 (wire 3), this host speaks {ours} (wire 2)"
            )),
            "{text}"
        );
        assert!(text.contains("hint: rebuild it with `plugin-api = \"0.2\"`"), "{text}");
    }
}

#[test]
fn a_host_that_does_not_read_notes_refuses_another_wire_by_its_layout() {
    let program = frozen().join("old-host").display().to_string();
    let (theirs, old) = (frozen().join("libnext_wire.so"), old_plugin());
    let answers = in_host(&program, &[&theirs, &old]);
    assert_eq!(answers[0]["theirs"], "3.0.0");
    assert_eq!(
        answers[1]["score"],
        json!({ "acc": 1.0 }),
        "the one after it is none the worse"
    );
}

#[test]
fn what_an_older_plugin_lacks_is_told_apart_from_what_it_refuses() {
    let plugin = host::plugin::open(&spec(&old_plugin(), Isolation::InProcess)).expect("it opens");
    let model = plugin
        .make(Kind::Model, "old-echo", &settings("{\"times\": 2}"))
        .expect("it is made");
    let lacks = model.adapter.call("invented later", Default::default(), &NoCallbacks);
    assert_eq!(lacks.expect_err("no version has it").code, Code::NOT_IMPLEMENTED);
    let client = ModelClient(model.adapter);
    let refused = client.reply(&Prompt::plain("on").choose([" on"]), &NoCallbacks);
    assert_eq!(refused.expect_err("it scores no options").code, Code::UNSUPPORTED);
    let reply = client.reply(&Prompt::new([Message::user("on ")]), &NoCallbacks);
    assert_eq!(reply.expect("a reply").text, "on on ");
    let failure = plugin.files("old-task").err().expect("it has no files");
    let help = failure.error.help.unwrap_or_default();
    assert!(help.contains("register_files!"), "{help}");
}
