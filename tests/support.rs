//! Shared by the end-to-end tests: the fixtures' libraries, and registry entries for them.

use host::plugin::OpenAdapter;
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::ModelClient;
use plugin_api::{Kind, Message, NoCallbacks, Prompt, Reply, Result, Settings};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Both places where an adapter can run.
pub const BOTH: [Isolation; 2] = [Isolation::InProcess, Isolation::Process];

/// Says why a test is skipped.
#[allow(
    clippy::print_stderr,
    reason = "whoever reads a test's output should see that it was skipped"
)]
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

/// The shared library of a fixture: it is built because the host's tests depend on it, and lies next to them.
pub fn plugin_file(krate: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own file");
    let name = format!("lib{}.so", krate.replace('-', "_"));
    let path = test.with_file_name(&name);
    assert!(path.is_file(), "`{name}` was not built beside `{}`", test.display());
    path
}

/// The real program. Workers are started from it, because a test's own program cannot be one.
pub fn host_program() -> PathBuf {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_host"));
    host::process::set_program(&program);
    program
}

/// A registry entry for a fixture, running here or in a worker.
pub fn spec(krate: &str, isolation: Isolation) -> PluginSpec {
    host_program();
    PluginSpec {
        name: krate.trim_start_matches("fixture-").to_owned(),
        path: plugin_file(krate),
        isolation,
        named_in: "registry.toml".into(),
        ..PluginSpec::default()
    }
}

/// Settings, written as JSON.
pub fn settings(json: &str) -> Settings {
    serde_json::from_str(json).expect("settings are written as JSON")
}

/// An adapter of a fixture.
pub fn adapter(spec: &PluginSpec, kind: Kind, name: &str, json: &str) -> OpenAdapter {
    let plugin = host::plugin::open(spec).unwrap_or_else(|failure| panic!("{}", failure.render()));
    let made = plugin.make(kind, name, &settings(json));
    made.unwrap_or_else(|failure| panic!("{}", failure.render()))
}

/// Asks a model something.
pub fn ask(adapter: &OpenAdapter, text: &str) -> Result<Reply> {
    ModelClient(adapter.adapter.clone()).reply(&Prompt::new([Message::user(text)]), &NoCallbacks)
}

/// A clip of the fixtures.
pub fn clip_file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/audio")
        .join(name)
}

/// A folder to run in, with a registry of the fixtures.
pub struct Bench {
    folder: TempDir,
}

impl Bench {
    pub fn new() -> Bench {
        let bench = Bench {
            folder: tempfile::tempdir().expect("a folder"),
        };
        let [echo, broken] = ["fixture-echo", "fixture-broken"].map(|name| plugin_file(name).display().to_string());
        let faults = ["panic", "segfault", "exit", "hang", "abort"];
        let faulty = |name: &str| {
            format!(
                "[models.{name}]\nplugin = \"broken\"\n[models.{name}-here]\nplugin = \"broken-here\"\nadapter = \"{name}\"\n"
            )
        };
        let registry = format!(
            "[plugins.echo]\npath = {echo:?}\nisolation = \"in-process\"\n\
             [plugins.echo-apart]\npath = {echo:?}\n\
             [plugins.broken]\npath = {broken:?}\ndeadline = \"1s\"\n\
             [plugins.hungry]\npath = {broken:?}\nmemory = \"500MB\"\n[models.memory]\nplugin = \"hungry\"\n\
             [plugins.broken-here]\npath = {broken:?}\nisolation = \"in-process\"\ndeadline = \"300ms\"\n\
             [models.echo]\nplugin = \"echo\"\n[models.echo-apart]\nplugin = \"echo-apart\"\nadapter = \"echo\"\n\
             [models.stuck]\nplugin = \"echo\"\n[models.follower]\nplugin = \"echo\"\n[models.ignorer]\nplugin = \"echo\"\n[tasks.riddles]\nplugin = \"echo\"\n[models.scribe]\nplugin = \"echo\"\n[models.absent]\nplugin = \"echo\"\n[tasks.count]\nplugin = \"echo\"\n[tasks.count-apart]\nplugin = \"echo-apart\"\nadapter = \"count\"\n[tasks.clips]\nplugin = \"echo\"\n\
             [judges.agree]\nplugin = \"echo\"\n[judges.asker]\nplugin = \"echo\"\n[judges.seven]\nplugin = \"echo\"\n[judges.panel]\nplugin = \"echo\"\n\
             [judges.panic]\nplugin = \"broken\"\n[judges.segfault]\nplugin = \"broken\"\n[judges.hang]\nplugin = \"broken\"\n\
             [judges.panic-here]\nplugin = \"broken-here\"\nadapter = \"panic\"\n[judges.hang-here]\nplugin = \"broken-here\"\nadapter = \"hang\"\n{}",
            faults.map(faulty).concat()
        );
        std::fs::write(bench.path("fixtures.toml"), registry).expect("a registry");
        bench
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn command(&self, arguments: &str) -> Command {
        let mut command = Command::new(host_program());
        command
            .args(arguments.split_whitespace())
            .args(["--registry", "fixtures.toml"])
            .current_dir(self.folder.path());
        command
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("HF_HUB_OFFLINE", "1")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &str) -> Output {
        self.command(arguments).output().expect("the program starts")
    }

    /// Runs a command, expects this exit code, and returns standard output and standard error.
    #[track_caller]
    pub fn check(&self, arguments: &str, exit: i32, words: &[&str]) -> String {
        let output = self.run(arguments);
        let (out, err) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert_eq!(output.status.code(), Some(exit), "`host {arguments}`\n{out}\n{err}");
        let both = format!("{out}\n{err}");
        for words in words {
            assert!(
                both.contains(words),
                "`{words}` is not in what `host {arguments}` said:\n{both}"
            );
        }
        assert!(!both.contains("panicked at"), "{both}");
        out.into_owned()
    }

    /// The only run directory below `runs` whose name has this beginning.
    #[track_caller]
    pub fn directory(&self, name: &str) -> PathBuf {
        let entries = std::fs::read_dir(self.path("runs")).expect("runs");
        let mut found = entries.filter_map(|entry| Some(entry.ok()?.path()));
        found
            .find(|path| {
                path.file_name()
                    .is_some_and(|file| file.to_string_lossy().starts_with(name))
            })
            .expect("a run")
    }

    /// The names of the run directories in a folder.
    pub fn directories(&self, folder: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(folder)).expect("runs");
        let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
        names.collect()
    }

    /// Records by sample, without times.
    #[track_caller]
    pub fn records(&self, name: &str) -> BTreeMap<u64, Value> {
        self.records_in(&self.directory(name))
    }

    /// The same, of a run directory anywhere.
    #[track_caller]
    pub fn records_in(&self, run: &Path) -> BTreeMap<u64, Value> {
        let text = std::fs::read_to_string(run.join("samples.jsonl")).expect("records");
        let mut records = BTreeMap::new();
        for line in text.lines() {
            let mut record: Value = serde_json::from_str(line).expect("every line is whole");
            for field in ["latency_ms", "ttft_ms", "at_ms", "session"] {
                record.as_object_mut().expect("an object").remove(field);
            }
            let number = record["doc_id"].as_u64().expect("a number");
            assert!(
                records.insert(number, record).is_none(),
                "sample {number} was recorded twice"
            );
        }
        records
    }

    pub fn lines(&self, name: &str) -> usize {
        let entries = std::fs::read_dir(self.path("runs")).into_iter().flatten().flatten();
        let run = entries
            .map(|entry| entry.path())
            .find(|path| path.to_string_lossy().contains(name));
        run.and_then(|run| std::fs::read(run.join("samples.jsonl")).ok())
            .map_or(0, |bytes| bytes.iter().filter(|b| **b == b'\n').count())
    }

    /// Starts a command and waits until some records are written.
    pub fn start_and_wait(&self, arguments: &str, name: &str) -> Child {
        let child = self
            .command(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let began = Instant::now();
        while self.lines(name) < 5 {
            assert!(began.elapsed() < Duration::from_secs(60), "no records came");
            std::thread::sleep(Duration::from_millis(5));
        }
        child
    }
}
