//! Plugins built outside this repository: with other dependencies, and in another profile than the host.

use crate::building::{build, cargo, repository, target};
use crate::support::{host_program, plugin_file};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's own plugin, the newest build: `cargo build` and `cargo test` use different folders.
fn own_plugin(krate: &str) -> PathBuf {
    let name = format!("lib{krate}.so");
    let find = || {
        let folders = [target("debug"), target("debug").join("deps")];
        let files = folders.iter().map(|folder| folder.join(&name));
        files
            .filter_map(|file| Some((file.metadata().ok()?.modified().ok()?, file)))
            .max()
    };
    let (_, file) = find().unwrap_or_else(|| {
        cargo(&repository(), &target(""), &["build", "--locked", "-p", krate]);
        find().expect("cargo has built it")
    });
    file
}

fn candle_versions(lock: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(lock).expect("a lock file");
    let lock: toml::Table = text.parse().expect("a lock file is TOML");
    let packages = lock["package"].as_array().expect("a list of packages");
    let candles = packages
        .iter()
        .filter(|package| package["name"].as_str() == Some("candle-core"));
    candles
        .filter_map(|package| package["version"].as_str().map(str::to_owned))
        .collect()
}

/// `major.minor`: below 1.0, Cargo cannot merge different ones.
fn line(version: &str) -> String {
    version.split('.').take(2).collect::<Vec<_>>().join(".")
}

#[test]
fn two_candles_answer_in_one_process_and_one_run() {
    let example = repository().join("examples/third-party-model");
    let ours = candle_versions(&repository().join("Cargo.lock"));
    let theirs = candle_versions(&example.join("Cargo.lock"));
    assert_eq!((ours.len(), theirs.len()), (1, 1));
    assert_ne!(
        line(&ours[0]),
        line(&theirs[0]),
        "the point of the example is that they differ"
    );

    let third_party = build(&example, &target("third-party")).join("libthird_party_model.so");
    let folder = tempfile::tempdir().expect("a folder");
    let plugin = |name: &str, file: PathBuf| {
        format!(
            "[plugins.{name}]\npath = {:?}\nisolation = \"in-process\"\n",
            file.display().to_string()
        )
    };
    let registry = [
        plugin("qwen3", own_plugin("qwen3")),
        plugin("arc", own_plugin("arc")),
        plugin("third-party", third_party),
        "[models.third-party]\nplugin = \"third-party\"\n".to_owned(),
    ];
    std::fs::write(folder.path().join("registry.toml"), registry.concat()).expect("a registry");
    let output = Command::new(host_program())
        .args(["run", "--demo", "--model", "qwen3,third-party", "--task", "arc"])
        .args(["--registry", "registry.toml", "--out", "runs", "--json", "--offline"])
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .output()
        .expect("the host runs");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let runs = results["runs"].as_array().expect("a list of runs");
    let names: Vec<_> = runs.iter().map(|run| run["model_name"].clone()).collect();
    assert_eq!(names, ["qwen3", "third-party"]);
    for run in runs {
        let counts = &run["host"]["counts"];
        assert!(counts["answered"].as_u64() > Some(0), "{run}");
        assert_eq!(
            (&counts["answered"], &counts["failed"]),
            (&counts["finished"], &json!(0)),
            "{run}"
        );
    }
}

/// A debug build and a release build differ in what the compiler may do to every type that is not `repr(C)`, and a
/// third party's plugin and the host are rarely of one profile.
///
/// A release build of the host takes minutes, so it is only brought up to date here when the README's first command has
/// made one, as it has wherever all tests are run in earnest. `RUN_SLOW_TESTS` makes one from nothing.
#[test]
fn a_plugin_built_in_debug_answers_in_a_release_host() {
    let host = target("release").join("host");
    if !host.exists() && std::env::var_os("RUN_SLOW_TESTS").is_none() {
        let why = "skipped: there is no release build of the host; `cargo build --release` makes one";
        let _ = writeln!(std::io::stderr(), "{why}");
        return;
    }
    // The whole workspace, as in the README: with fewer crates, some features would differ, and crates would be built
    // twice.
    cargo(&repository(), &target(""), &["build", "--locked", "--release"]);
    let folder = tempfile::tempdir().expect("a folder");
    let echo = plugin_file("fixture-echo").display().to_string();
    let registry = format!(
        "[plugins.here]\npath = {echo:?}\nisolation = \"in-process\"\n[plugins.apart]\npath = {echo:?}\n\
         [models.here]\nplugin = \"here\"\nadapter = \"echo\"\n[models.apart]\nplugin = \"apart\"\nadapter = \"echo\"\n\
         [tasks.count]\nplugin = \"here\"\n"
    );
    std::fs::write(folder.path().join("registry.toml"), registry).expect("a registry");
    let output = Command::new(&host)
        .args(["run", "--model", "here,apart", "--task", "count"])
        .args(["--registry", "registry.toml", "--out", "runs", "--json", "--offline"])
        .current_dir(folder.path())
        .env("XDG_CONFIG_HOME", folder.path())
        .output()
        .expect("the host runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let results: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    for (place, run) in ["here", "apart"]
        .iter()
        .zip(results["runs"].as_array().expect("a list of runs"))
    {
        assert_eq!(run["model_name"], *place);
        assert_eq!(run["results"]["count"]["acc,none"], 1.0, "{run}");
    }
    let note = host::plugin::Note::read(&plugin_file("fixture-echo")).expect("its note");
    assert!(
        note.debug || !cfg!(debug_assertions),
        "the plugin is a debug build, as this test is"
    );
}
