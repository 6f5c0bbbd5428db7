//! Every model of the registry on every task of it, through the real program, with the demo weights and samples.
//!
//! The lists come from `registry.toml`, so what is added there is tested here. A model that hears and clips with and
//! without words are lent by the fixtures, so that each of the four inputs occurs whatever the registry holds.

use crate::building::{cargo, repository};
use crate::support::{Bench, clip_file, host_program, plugin_file};
use host::catalog::Catalog;
use host::registry::Registry;
use plugin_api::client::TaskClient;
use plugin_api::{Kind, Part};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;
use tempfile::TempDir;

/// The shared library of a plugin of ours, beside this test. `cargo test --workspace` has built it just now.
fn plugin_of_ours(file: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    test.with_file_name(file)
}

/// The time of the newest change below these folders.
fn changed(folders: &[PathBuf]) -> SystemTime {
    let mut newest = SystemTime::UNIX_EPOCH;
    for folder in folders {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let time = match path.is_dir() {
                true => changed(&[path]),
                false => entry.metadata().and_then(|file| file.modified()).unwrap_or(newest),
            };
            newest = newest.max(time);
        }
    }
    newest
}

/// Builds those plugins that are missing or older than their sources, because a test of the host alone builds no
/// plugin.
pub fn build_what_is_stale(files: &[String]) {
    let plugins = repository().join("plugins");
    let mut arguments = vec!["build".to_owned()];
    for file in files {
        let krate = file.trim_start_matches("lib").trim_end_matches(".so").replace('_', "-");
        let kinds = ["models", "tasks", "judges"].map(|kind| plugins.join(kind).join(&krate).join("src"));
        let sources = [
            kinds.as_slice(),
            &[plugins.join("kit"), repository().join("plugin-api/src")],
        ]
        .concat();
        let built = plugin_of_ours(file).metadata().and_then(|found| found.modified());
        if built.map_or(true, |built| built < changed(&sources)) {
            arguments.extend(["-p".to_owned(), krate]);
        }
    }
    if arguments.len() > 1 {
        let test = std::env::current_exe().expect("a test knows its own file");
        let target = test.ancestors().nth(3).expect("a target folder");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        cargo(&repository(), target, &arguments);
    }
}

/// A registry laid over the repository's: the plugins of this test's own build, and the fixtures.
pub fn registry(folder: &Path) -> PathBuf {
    let repositorys = std::fs::read_to_string(repository().join("registry.toml")).expect("a registry");
    let repositorys: toml::Table = repositorys.parse().expect("a registry");
    let mut text = String::new();
    let plugins = repositorys["plugins"].as_table().expect("plugins");
    let file = |plugin: &toml::Value| {
        let path = plugin["path"].as_str().expect("a path");
        let file = path.strip_prefix("{exe}/");
        file.expect("plugins of ours lie beside the program").to_owned()
    };
    let files: Vec<String> = plugins.values().map(file).collect();
    build_what_is_stale(&files);
    for ((name, plugin), file) in plugins.iter().zip(&files) {
        // As the repository has it: a path of another layer begins with the careful default.
        let isolation = plugin.get("isolation").and_then(toml::Value::as_str);
        text += &format!(
            "[plugins.{name}]\npath = {:?}\nisolation = {:?}\n",
            plugin_of_ours(file),
            isolation.unwrap_or("process")
        );
    }
    let clips = folder.join("clips");
    std::fs::create_dir(&clips).expect("a folder");
    for (name, fixture) in [("1-plain.flac", "sweep.flac"), ("2-said.ogg", "sweep.ogg")] {
        std::fs::copy(clip_file(fixture), clips.join(name)).expect("a clip");
    }
    text += &format!(
        "[plugins.fixture]\npath = {:?}\nisolation = \"in-process\"\n\
         [models.echo]\nplugin = \"fixture\"\n\
         [tasks.clips]\nplugin = \"fixture\"\nsettings = {{ folder = {clips:?} }}\n",
        plugin_file("fixture-echo"),
    );
    let path = folder.join("pairs.toml");
    std::fs::write(&path, text).expect("a registry");
    path
}

/// The adapters that the program lists.
struct Stock {
    /// Whether each model takes audio.
    models: BTreeMap<String, bool>,
    tasks: BTreeMap<String, TaskClient>,
}

fn stock(registry: &Path) -> Stock {
    host_program();
    let registry = Registry::load(&[registry.to_owned()]).expect("a registry");
    let catalog = Catalog {
        registry: &registry,
        offline: true,
        demo: true,
        show: &|_, _| (),
        stop: &AtomicBool::new(false),
    };
    let resolve = |kind, name: &str| {
        let resolved = catalog.resolve(kind, name, &BTreeMap::new());
        resolved.unwrap_or_else(|failure| panic!("{kind} `{name}` has no demo: {}", failure.render()))
    };
    let hears = |name: String| {
        let made = resolve(Kind::Model, &name).model();
        let (client, _) = made.unwrap_or_else(|failure| panic!("{}", failure.render()));
        (name, client.card().expect("a card").hears())
    };
    let asks = |name: String| {
        let task = resolve(Kind::Task, &name).task();
        (name, task.unwrap_or_else(|failure| panic!("{}", failure.render())))
    };
    Stock {
        models: registry.names_in_all(Kind::Model).into_iter().map(hears).collect(),
        tasks: registry.names(Kind::Task).into_iter().map(asks).collect(),
    }
}

/// What a model must get for a sample, given the sample and its prompt.
fn due(task: &TaskClient, index: usize, hears: bool, ears: bool) -> &'static str {
    let sample = task.sample(index).expect("a sample");
    let prompt = task.prompt(&sample).expect("a prompt");
    let parts = prompt.messages.iter().flat_map(|message| &message.parts);
    let words: Vec<bool> = parts
        .filter_map(|part| match part {
            Part::Clip { clip, words } => Some(words.is_some() || sample.clips[*clip].words.is_some()),
            _ => None,
        })
        .collect();
    match words.as_slice() {
        [] => "text",
        _ if hears => "audio",
        _ if ears => "ears",
        words if words.iter().all(|known| *known) => "words",
        _ => "blind",
    }
}

/// Runs these pairs and checks every record of each. Returns the inputs that occurred.
#[track_caller]
fn check(
    stock: &Stock,
    folder: &Path,
    registry: &Path,
    out: &str,
    models: &[&str],
    tasks: &[&str],
    ears: bool,
) -> BTreeSet<String> {
    let mut command = Command::new(host_program());
    command.args(["run", "--demo", "--json", "--offline", "--limit", "2", "--out", out]);
    command.args(["--model", &models.join(","), "--task", &tasks.join(",")]);
    command.args(ears.then_some(["--ears", "echo"]).into_iter().flatten());
    command.arg("--registry").arg(registry).current_dir(folder);
    let output = command
        .env("XDG_CONFIG_HOME", folder)
        .output()
        .expect("the program starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let results: Value = serde_json::from_slice(&output.stdout).expect("results");
    let runs = results["runs"].as_array().expect("runs");
    assert_eq!(runs.len(), models.len() * tasks.len());
    let pairs = models
        .iter()
        .flat_map(|model| tasks.iter().map(move |task| (*model, *task)));
    let mut inputs = BTreeSet::new();
    for (run, (model, task)) in runs.iter().zip(pairs) {
        assert_eq!(
            (
                &run["host"]["identity"]["model"]["name"],
                &run["host"]["identity"]["task"]["name"]
            ),
            (&model.into(), &task.into())
        );
        let (hears, client) = (stock.models[model], &stock.tasks[task]);
        let directory = folder.join(run["host"]["directory"].as_str().expect("a directory"));
        let records = std::fs::read_to_string(directory.join("samples.jsonl")).expect("records");
        let records: Vec<Value> = records
            .lines()
            .map(|line| serde_json::from_str(line).expect("a record"))
            .collect();
        assert_eq!(
            records.len(),
            client.count().expect("a count").min(2),
            "{model} on {task}"
        );
        for record in records {
            let pair = format!("{model} on sample `{}` of {task}: {record}", record["sample_id"]);
            let index = record["doc_id"].as_u64().expect("an index") as usize;
            let due = due(client, index, hears, ears);
            assert_eq!(record["error"], Value::Null, "{pair}");
            assert_eq!(record["input"], due, "{pair}");
            let heard = record["audio"].as_array().map_or(0, Vec::len);
            assert_eq!(heard > 0, ["audio", "ears"].contains(&due), "{pair}");
            // The model's own count of clips, since the host could be wrong about what it gave.
            let seconds = record["reply"]["usage"]["clip_seconds"].as_f64().expect("seconds");
            assert_eq!(seconds > 0.0, due == "audio", "{pair}");
            inputs.insert(due.to_owned());
        }
        // Figures about another input than the requested one are marked.
        let marks = run["host"]["marks"].to_string();
        for input in ["words", "blind", "ears"] {
            let counted = !run["host"]["input"][input].is_null();
            assert_eq!(
                marks.contains(&format!("input: {input}: ")),
                counted,
                "{model} on {task}: {marks}"
            );
        }
    }
    inputs
}

#[test]
fn every_model_runs_every_task_and_each_record_says_what_it_truly_got() {
    let folder = TempDir::new().expect("a folder");
    let folder = folder.path();
    let registry = registry(folder);
    let stock = stock(&registry);
    let models: Vec<&str> = stock.models.keys().map(String::as_str).collect();
    let tasks: Vec<&str> = stock.tasks.keys().map(String::as_str).collect();
    let inputs = check(&stock, folder, &registry, "runs", &models, &tasks, false);
    assert_eq!(inputs, ["audio", "blind", "text", "words"].map(str::to_owned).into());

    let deaf: Vec<&str> = models.iter().copied().filter(|model| !stock.models[*model]).collect();
    let inputs = check(&stock, folder, &registry, "cascades", &deaf, &tasks, true);
    assert_eq!(inputs, ["ears", "text"].map(str::to_owned).into());
}

#[test]
fn every_model_takes_a_device_and_says_when_it_cannot_have_it() {
    let bench = Bench::new();
    let path = registry(&bench.path(""));
    let models = Registry::load(&[path]).expect("a registry").names_in_all(Kind::Model);
    let run = "run --registry pairs.toml --demo --task arc --limit 1";
    for model in models.iter().filter(|model| *model != "echo") {
        bench.check(
            &format!("{run} --model {model} -M device=cuda"),
            2,
            &["built without CUDA", "--features cuda"],
        );
    }
    for model in ["qwen3-random", "qwen2-audio-random"] {
        bench.check(&format!("{run} --model {model} -M device=cpu"), 0, &[]);
        bench.check(
            &format!("{run} --model {model} -M device=gpu"),
            2,
            &["`device` is `gpu`"],
        );
    }
}
