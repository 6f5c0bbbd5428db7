//! The scripts of `examples/python` compared with the native models, on one checkpoint each: the same tokens, the same
//! log-likelihoods. Skipped, with a message, if no interpreter with transformers is found; `HOST_TEST_PYTHON` names
//! one.

use crate::building::repository;
use crate::pairs;
use crate::support::{Bench, plugin_file};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Native model, its folder below `plugins/models`, script, and whether it takes audio.
const MODELS: [(&str, &str, &str, bool); 4] = [
    ("qwen3", "qwen3/golden/tied", "transformers_text.py", false),
    ("qwen2-audio", "qwen2-audio/golden/hears", "qwen2_audio.py", true),
    ("af3", "af3/golden/hears", "audio_flamingo_3.py", true),
    ("qwen2.5-omni", "qwen2-5-omni/golden/hears", "qwen2_5_omni.py", true),
];

/// An interpreter that has torch and these packages.
fn interpreter() -> Option<String> {
    let named = std::env::var("HOST_TEST_PYTHON").ok();
    let python = named.clone().unwrap_or_else(|| "python3".to_owned());
    let tried = Command::new(&python)
        .args(["-c", "import torch, transformers"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if tried.is_ok_and(|status| status.success()) {
        return Some(python);
    }
    assert!(
        named.is_none(),
        "`{python}`, which HOST_TEST_PYTHON names, has no transformers"
    );
    crate::support::skipped("`python3` has no transformers; HOST_TEST_PYTHON names an interpreter that has");
    None
}

/// A run of it, and its records by sample.
fn run(bench: &Bench, model: &str, task: &str, out: &str) -> (PathBuf, BTreeMap<String, Value>) {
    bench.check(
        &format!("run --registry pairs.toml --offline --quiet --model {model} --task {task} --out {out}"),
        0,
        &[],
    );
    let names = bench.directories(out);
    assert_eq!(names.len(), 1, "{names:?}");
    let directory = bench.path(out).join(&names[0]);
    let records = bench.records_in(&directory).into_values();
    let by_sample = records.map(|record| (record["sample_id"].as_str().expect("an id").to_owned(), record));
    (directory, by_sample.collect())
}

fn options(record: &Value) -> Vec<(f64, u64, bool)> {
    let options = record["reply"]["options"].as_array().expect("options");
    let of = |option: &Value| {
        (
            option["loglik"].as_f64().expect("a number"),
            option["tokens"].as_u64().expect("a count"),
            option["greedy"].as_bool().expect("a flag"),
        )
    };
    options.iter().map(of).collect()
}

/// Compares two runs of one task and returns the number of compared options.
#[track_caller]
fn check_alike(bench: &Bench, native: &str, python: &str, task: &str, out: &str) -> usize {
    let (first, ours) = run(bench, native, task, &format!("{out}-native"));
    let (second, theirs) = run(bench, python, task, &format!("{out}-python"));
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    let mut compared = 0;
    for (sample, ours) in &ours {
        let theirs = &theirs[sample];
        let what = format!("{native} on {sample} of {task}");
        for field in ["prompt_tokens", "generated_tokens"] {
            assert_eq!(ours[field], theirs[field], "`{field}` of {what}");
        }
        for field in ["text", "finish"] {
            assert_eq!(ours["reply"][field], theirs["reply"][field], "`{field}` of {what}");
        }
        if ours["reply"]["options"].is_array() {
            for (ours, theirs) in options(ours).into_iter().zip(options(theirs)) {
                assert!((ours.0 - theirs.0).abs() < 1e-4, "{what}: {ours:?} and {theirs:?}");
                assert_eq!((ours.1, ours.2), (theirs.1, theirs.2), "{what}");
                compared += 1;
            }
        }
    }
    let compare = format!("compare {} {}", first.display(), second.display());
    bench.check(&compare, 0, &["no difference", "0 gains, 0 losses"]);
    compared
}

#[test]
fn the_scripts_give_the_native_models_tokens_and_log_likelihoods() {
    let Some(python) = interpreter() else { return };
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    let data = |name: &str| {
        repository()
            .join(format!("plugins/tasks/{name}/demo"))
            .display()
            .to_string()
    };
    for (native, folder, script, hears) in MODELS {
        let weights = repository().join("plugins/models").join(folder);
        let weights = format!("-M weights={}", weights.display());
        let script = repository().join("examples/python").join(script);
        let theirs = format!("python -M python={python} -M script={} {weights}", script.display());
        // Without a system text, the native model uses its publisher's, and the script the template's.
        let system = if native == "qwen2.5-omni" { " -M system=" } else { "" };
        let ours = format!("{native} {weights}{system}");
        let out = native.replace('.', "-");
        let chosen = format!("arc -T data={} -T mode=loglikelihood --limit 2", data("arc"));
        assert_eq!(check_alike(&bench, &ours, &theirs, &chosen, &format!("{out}-arc")), 8);
        if hears {
            let clips = bench.path("clips").display().to_string();
            let heard = format!("clips -T folder={clips} -T options=true --skip-hearing-test");
            assert_eq!(check_alike(&bench, &ours, &theirs, &heard, &format!("{out}-clips")), 6);
            let said = format!(
                "sakura -T data={} -T max_tokens=48 --limit 4 --skip-hearing-test",
                data("sakura")
            );
            check_alike(&bench, &ours, &theirs, &said, &format!("{out}-sakura"));
        } else {
            let said = format!(
                "arc -T data={} -T mode=generate -T max_tokens=48 --limit 4",
                data("arc")
            );
            check_alike(&bench, &ours, &theirs, &said, &format!("{out}-said"));
        }
    }
}

#[test]
fn environments_that_differ_answer_side_by_side_in_one_run() {
    let bench = Bench::new();
    // The host takes these for two interpreters, each with another version of a library.
    let engine = |name: &str, version: &str| -> String {
        let folder = bench.path(name);
        fs::create_dir(&folder).expect("a folder");
        let package = folder.join(format!("transformers-{version}.dist-info"));
        fs::create_dir(&package).expect("a folder");
        fs::write(
            package.join("METADATA"),
            format!("Metadata-Version: 2.1\nName: transformers\nVersion: {version}\n"),
        )
        .expect("a file");
        fs::write(folder.join("transformers.py"), format!("__version__ = {version:?}\n")).expect("a file");
        let python = folder.join("python");
        let run = format!("#!/bin/sh\nPYTHONPATH={} exec python3 \"$@\"\n", folder.display());
        fs::write(&python, run).expect("a file");
        runnable(&python);
        python.display().to_string()
    };
    let script = "import transformers\nfrom host_plugin import Model\n\n\nclass Old(Model):\n    def card(self):\n        \
                  return {\"name\": \"versions\"}\n\n    def reply(self, prompt):\n        return transformers.__version__\n";
    fs::write(bench.path("versions.py"), script).expect("a script");
    let plugin = plugin_file("python").display().to_string();
    let mut registry = format!("[plugins.python]\npath = {plugin:?}\nisolation = \"in-process\"\n");
    for (name, version) in [("old", "4.57.6"), ("new", "5.23.0")] {
        registry += &format!(
            "[models.{name}]\nplugin = \"python\"\nsettings = {{ script = \"versions.py\", python = {:?} }}\n",
            engine(name, version)
        );
    }
    fs::write(bench.path("versions.toml"), registry).expect("a registry");
    bench.check(
        "run --model old,new --task count -T n=3 --registry versions.toml",
        0,
        &[],
    );
    for (name, version) in [("old", "4.57.6"), ("new", "5.23.0")] {
        let records = bench.records(&format!("{name}-count"));
        assert!(
            records.values().all(|record| record["reply"]["text"] == version),
            "{records:?}"
        );
        let told = fs::read_to_string(bench.directory(&format!("{name}-count")).join("run.toml")).expect("a record");
        assert!(told.contains(&format!("transformers = \"{version}\"")), "{told}");
    }
}

#[test]
fn two_real_environments_give_the_same_answers_in_one_run() {
    let Some(new) = interpreter() else { return };
    let Ok(old) = std::env::var("HOST_TEST_OTHER_PYTHON") else {
        return crate::support::skipped("HOST_TEST_OTHER_PYTHON names no second interpreter with transformers");
    };
    let bench = Bench::new();
    let plugin = plugin_file("python").display().to_string();
    let arc = plugin_file("arc").display().to_string();
    let (script, weights) = (
        repository().join("examples/python/transformers_text.py"),
        repository().join("plugins/models/qwen3/golden/tied"),
    );
    let mut registry =
        format!("[plugins.python]\npath = {plugin:?}\nisolation = \"in-process\"\n[plugins.arc]\npath = {arc:?}\n");
    for (name, python) in [("old", old), ("new", new)] {
        registry += &format!(
            "[models.{name}]\nplugin = \"python\"\nsettings = {{ python = {python:?}, script = {script:?}, weights = {weights:?} }}\n"
        );
    }
    fs::write(bench.path("two.toml"), registry).expect("a registry");
    let data = repository().join("plugins/tasks/arc/demo");
    let run = format!(
        "run --model old,new --task arc -T data={} -T mode=loglikelihood --limit 4 --registry two.toml --offline",
        data.display()
    );
    bench.check(&run, 0, &[]);
    let (first, second) = (bench.records("old-arc"), bench.records("new-arc"));
    assert_eq!(first.len(), 4);
    for (number, record) in &first {
        for (one, two) in options(record).into_iter().zip(options(&second[number])) {
            assert!(
                (one.0 - two.0).abs() < 1e-4 && (one.1, one.2) == (two.1, two.2),
                "{one:?} and {two:?}"
            );
        }
    }
    let version = |run: &str| -> toml::Value {
        let text = fs::read_to_string(bench.directory(run).join("run.toml")).expect("a record");
        let told: toml::Table = text.parse().expect("TOML");
        told["engine"]["versions"]["transformers"].clone()
    };
    assert_ne!(version("old-arc"), version("new-arc"), "both are the same environment");
}

fn runnable(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("rights");
}

#[test]
fn a_new_script_is_written_checked_and_run() {
    let bench = Bench::new();
    pairs::registry(&bench.path(""));
    let check = |arguments: &str, exit: i32, words: &[&str]| {
        bench.check(&format!("{arguments} --registry pairs.toml"), exit, words);
    };
    bench.check("plugins new mine --kind python-model", 0, &["mine"]);
    check("plugins check mine/mine.py", 0, &[]);
    check("run --model python -M script=mine/mine.py --task count", 0, &["|count"]);
    let mine = fs::read_to_string(bench.path("mine/mine.py")).expect("a script");
    assert!(mine.lines().count() < 40);
    // A model whose method raises does not pass.
    let last = "        return {\"text\": \"\".join(words), \"usage\"";
    let raises = mine.replace(last, "        raise KeyError(\"no\")");
    assert_ne!(raises, mine);
    let raises = raises.replace(
        "KeyError(\"no\"): {\"generated_tokens\": len(words)}}",
        "KeyError(\"no\")",
    );
    fs::write(bench.path("mine/mine.py"), raises).expect("a script");
    check(
        "plugins check mine/mine.py",
        4,
        &["FAILED   it answers in text: KeyError"],
    );
}
