//! The real program, started as a user starts it.

use super::{Plan, Spread, repeat};
use crate::failure::{Doing, Exit, Failure, Result};
use crate::registry::spec::Isolation;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// `host ls models`, from its start to its end.
#[derive(Debug, Clone)]
pub struct Listing {
    pub times: Spread,
}

/// `host run` of the echo on a task that counts.
#[derive(Debug, Clone)]
pub struct Run {
    pub samples: usize,
    pub isolation: Isolation,
    pub wall: Duration,
    /// The most memory the host held, as the kernel counted it.
    pub host_bytes: u64,
    /// The same for the model's worker; none if it has no worker.
    pub worker_bytes: Option<u64>,
    /// The size of the records it wrote.
    pub record_bytes: u64,
}

impl Run {
    pub fn samples_per_second(&self) -> f64 {
        self.samples as f64 / self.wall.as_secs_f64()
    }
}

/// Both lengths where only the length differs, and the short one in a worker.
pub fn shapes(short: usize, long: usize) -> [(usize, Isolation); 3] {
    [
        (short, Isolation::InProcess),
        (long, Isolation::InProcess),
        (short, Isolation::Process),
    ]
}

fn host() -> Command {
    // The program itself, even when its file was replaced meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    command
}

fn finish(mut command: Command) -> Result<()> {
    let output = command
        .output()
        .or_fail(Exit::Missing, || "cannot start `host`".to_owned())?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy()).collect();
    let message = format!("`host {}` ended with {}", words.join(" "), output.status);
    Err(Failure::refused(message).cause(said.trim_end()))
}

/// Lists the models of the registry that this user has.
pub fn listing(plan: &Plan) -> Result<Listing> {
    let times = repeat(20, 20, Duration::ZERO, || {
        let mut command = host();
        command.args(["ls", "models"]);
        for registry in &plan.registry {
            command.arg("--registry").arg(registry);
        }
        finish(command)
    })?;
    Ok(Listing { times })
}

/// Runs the echo model on a number of samples.
pub fn run(plan: &Plan, folder: &Path, samples: usize, isolation: Isolation) -> Result<Run> {
    let folder = folder.join(format!("{}-{samples}", isolation.word()));
    std::fs::create_dir_all(&folder).map_err(|why| Failure::unwritable(&folder, why))?;
    let registry = folder.join("registry.toml");
    let text = format!(
        "[plugins.echo]\npath = {}\nisolation = \"{}\"\n[models.echo]\nplugin = \"echo\"\n[tasks.count]\nplugin = \"echo\"\n",
        toml::Value::from(plan.plugin.display().to_string()),
        isolation.word()
    );
    std::fs::write(&registry, text).map_err(|why| Failure::unwritable(&registry, why))?;
    let out = folder.join("runs");
    let mut command = host();
    command
        .args(["run", "--model", "echo", "--task", "count", "--quiet"])
        .args(["-T", &format!("n={samples}")])
        .arg("--registry")
        .arg(&registry)
        .arg("--out")
        .arg(&out)
        // The user's own registry must not change the echo.
        .env("XDG_CONFIG_HOME", &folder);
    let before = Instant::now();
    finish(command)?;
    let wall = before.elapsed();
    let run = only_folder_in(&out)?;
    let timing = std::fs::read_to_string(run.join("timing.json")).or_fail(Exit::Missing, || {
        format!("the run in `{}` left no timing.json", run.display())
    })?;
    let timing: Value =
        serde_json::from_str(&timing).or_fail(Exit::Missing, || "timing.json is not JSON".to_owned())?;
    if timing["samples"] != samples {
        let message = format!("the run finished {} samples, expected {samples}", timing["samples"]);
        return Err(Failure::refused(message));
    }
    let peaks = &timing["peak_memory_bytes"];
    let records = run.join("samples.jsonl").metadata().map_or(0, |found| found.len());
    let measured = Run {
        samples,
        isolation,
        wall,
        host_bytes: peaks["host"].as_u64().unwrap_or(0),
        worker_bytes: peaks["workers"][0].as_u64(),
        record_bytes: records,
    };
    // Removed after each run and not only at the end, since the records of a long run are large.
    let _ = std::fs::remove_dir_all(&folder);
    Ok(measured)
}

fn only_folder_in(out: &Path) -> Result<PathBuf> {
    let found = std::fs::read_dir(out).ok().and_then(|mut entries| entries.next()?.ok());
    let none = || Failure::missing(format!("the run left nothing in `{}`", out.display()));
    found.map(|entry| entry.path()).ok_or_else(none)
}
