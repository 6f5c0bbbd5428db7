//! `host doctor`, and how long a listing takes.

use crate::support::{host_program, plugin_file};
use serde_json::Value;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const KEY: &str = "a-key-that-nobody-may-see";

/// A separate environment: a program without a registry next to it, a registry, a cache.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new(registry: &str) -> Machine {
        let folder = tempfile::tempdir().expect("a folder");
        let echo = plugin_file("fixture-echo").display().to_string();
        let registry = registry.replace("ECHO", &format!("{echo:?}"));
        std::fs::write(folder.path().join("more.toml"), registry).expect("a registry");
        Machine { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(host_program());
        command
            .args(arguments.split_whitespace())
            .args(["--registry", "more.toml"]);
        command.current_dir(self.folder.path());
        for name in [
            "HF_HUB_CACHE",
            "HUGGINGFACE_HUB_CACHE",
            "HUGGING_FACE_HUB_TOKEN",
            "HF_TOKEN_PATH",
        ] {
            command.env_remove(name);
        }
        command.env_remove("HF_TOKEN").env("GEMINI_API_KEY", KEY);
        command.env("HOST_KERNELS", "avx513");
        command
            .env("HF_HOME", self.path("hf"))
            .env("XDG_CONFIG_HOME", self.path("config"));
        command.output().expect("the program starts")
    }

    /// The finding about one item: its state, its text, the hint, whether it is required.
    #[track_caller]
    fn check(&self, about: &str, state: &str, says: &str, hint: &str) {
        let found = self.found(about);
        assert_eq!(found["state"], state, "{found}");
        let text = |name: &str| found[name].as_str().unwrap_or_default().to_owned();
        assert!(text("says").contains(says), "`{says}` is not in {found}");
        assert!(text("hint").contains(hint), "`{hint}` is not in {found}");
    }

    #[track_caller]
    fn found(&self, about: &str) -> Value {
        let output = self.run("doctor --memory --json");
        let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let findings = all["findings"].as_array().expect("a list");
        let found = findings.iter().find(|found| found["about"] == about);
        found
            .unwrap_or_else(|| panic!("nothing about `{about}` in {all:#}"))
            .clone()
    }
}

const REGISTRY: &str = "
    [plugins.echo]
    path = ECHO
    [plugins.lost]
    path = \"libnowhere.so\"
    [plugins.changed]
    path = ECHO
    sha256 = \"00\"
    [models.echo]
    plugin = \"echo\"
    [models.fetched]
    plugin = \"echo\"
    adapter = \"echo\"
    settings = { weights = \"org/tiny\" }
    [tasks.count]
    plugin = \"echo\"
    settings = { data = \"org/numbers\" }
    demo = { data = \"numbers\" }
    [tasks.clips]
    plugin = \"echo\"
    [judges.nobody]
    plugin = \"echo\"
";

#[test]
fn each_thing_that_is_missing_is_told_with_the_way_out() {
    let machine = Machine::new(REGISTRY);
    machine.check("plugin echo", "ok", "plugin-api", "");
    machine.check("plugin echo", "ok", "process, not pinned", "");
    machine.check(
        "plugin lost",
        "missing",
        "libnowhere.so",
        "build it, or change its `path`",
    );
    machine.check(
        "plugin changed",
        "missing",
        "not the file that was pinned",
        "host plugins pin changed",
    );
    machine.check("model echo", "ok", "not given: `weights`", "");
    machine.check(
        "model fetched",
        "missing",
        "the cached snapshot of `org/tiny` is incomplete",
        "host pull --model fetched",
    );
    machine.check(
        "task count",
        "missing",
        "the cached snapshot of `org/numbers` is incomplete",
        "host pull --task count",
    );
    machine.check("task count, demo", "missing", "is not there", "hub id");
    machine.check("task clips", "missing", "needs the setting `folder`", "-T folder=");
    machine.check("judge nobody", "missing", "holds no judge `nobody`", "it holds");
    machine.check("key HF_TOKEN", "warning", "not set", "");
    machine.check("key GEMINI_API_KEY", "ok", "set", "");
    machine.check(
        "processor",
        "warning",
        "HOST_KERNELS allows `avx513`, which says nothing",
        "portable, avx2, avx512 or amx",
    );
    for about in ["registry", "cache", "memory", "gpu", "open files"] {
        assert!(
            !machine.found(about)["says"].as_str().unwrap_or_default().is_empty(),
            "{about}"
        );
    }
}

#[test]
fn the_memory_of_models_whose_weights_are_here_is_told() {
    let machine = Machine::new(
        "[plugins.echo]\npath = ECHO\n\
         [models.light]\nplugin = \"echo\"\nadapter = \"echo\"\nsettings = { weights = \"voice\", room = 1000 }\n\
         [models.heavy]\nplugin = \"echo\"\nadapter = \"echo\"\nsettings = { weights = \"voice\", room = 3 }\n\
         [models.silent]\nplugin = \"echo\"\nadapter = \"echo\"\nsettings = { weights = \"empty\" }\n",
    );
    for (folder, file) in [("voice", "voice.txt"), ("empty", "other.txt")] {
        std::fs::create_dir(machine.path(folder)).expect("a folder");
        std::fs::write(machine.path(folder).join(file), "well: ").expect("a file");
    }
    machine.check(
        "model light, memory",
        "ok",
        "weights 6 bytes as words; 1000 bytes are free",
        "",
    );
    machine.check(
        "model heavy, memory",
        "warning",
        "weights 6 bytes as words; 3 bytes are free",
        "does not fit",
    );
    machine.check(
        "model silent, memory",
        "missing",
        "cannot estimate the memory of model `echo`",
        "",
    );
    let table = String::from_utf8(machine.run("ls models --memory").stdout).expect("text");
    let row = |name: &str| {
        table
            .lines()
            .find(|line| line.starts_with(&format!("|{name}")))
            .expect("a row")
    };
    for (name, memory) in [
        ("light", "fits, 6 bytes"),
        ("heavy", "too large, 6 bytes"),
        ("silent", "unknown"),
    ] {
        assert!(row(name).contains(memory), "{table}");
    }
    // Without the flag, no plugin's code is run.
    let text = String::from_utf8(machine.run("doctor").stdout).expect("text");
    assert!(
        text.contains("model light") && !text.contains("memory  weights"),
        "{text}"
    );
    assert!(!text.contains("model light, memory"), "{text}");
}

#[test]
fn the_table_names_everything_but_the_keys() {
    let output = Machine::new(REGISTRY).run("doctor");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("missing  plugin lost"), "{text}");
    assert!(text.contains("hint: host pull --model fetched"), "{text}");
    assert!(!text.contains(KEY), "{text}");
}

/// Weights that a run would download don't count; an unusable plugin does, and so do the demo's files.
#[test]
fn the_exit_code_says_whether_what_is_there_can_be_used() {
    let machine = |more: &str| {
        let machine = Machine::new(&format!("[plugins.echo]\npath = ECHO\n{more}"));
        // The repository's own plugins may not be built, so their lines don't count.
        let all: Value = serde_json::from_slice(&machine.run("doctor --json").stdout).expect("JSON");
        let ours = ["plugin echo", "plugin lost", "model m", "model m, demo"];
        let findings = all["findings"].as_array().expect("a list").iter();
        let needed = findings.filter(|found| found["needed"] == true && found["state"] == "missing");
        needed
            .filter(|found| ours.iter().any(|name| found["about"] == *name))
            .count()
    };
    let model = "[models.m]\nplugin = \"echo\"\nadapter = \"echo\"\nsettings = { weights = \"org/tiny\" }\n";
    assert_eq!(machine(model), 0);
    assert_eq!(machine(&format!("{model}demo = {{ weights = \"./nowhere\" }}\n")), 1);
    assert_eq!(machine("[plugins.lost]\npath = \"libnowhere.so\"\n"), 1);
    let output = Machine::new("[plugins.lost]\npath = \"libnowhere.so\"\n").run("doctor");
    assert_eq!(output.status.code(), Some(3));
}

/// A listing that ran plugins or read weights would take far longer; `host bench boundary` measures the exact time.
#[test]
fn a_listing_is_quick_and_can_be_read_by_machines() {
    let machine = Machine::new(REGISTRY);
    let began = Instant::now();
    let output = machine.run("ls models --json");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let names: Vec<_> = all
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert!(names.contains(&"echo") && names.contains(&"fetched"), "{all}");
}
