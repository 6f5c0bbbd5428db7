//! Loads a plugin in a separate process, whose standard output must stay empty.
//!
//! That process is this program again, told to load one file and to write its findings into another. Anything that it
//! prints comes from the plugin, and would spoil the results of a run that is piped into a file.

use super::report::{Report, failed, fine, warning};
use super::static_checks::from_failure;
use crate::failure::{Doing, Exit, Failure, Result};
use crate::plugin::{self, Note, OpenPlugin};
use crate::registry::{Isolation, PluginSpec};
use plugin_api::client::{ModelClient, TaskClient};
use plugin_api::{AdapterNote, Kind, Message, NoCallbacks, Prompt, Sampling, Settings};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const OF: &str = "load";
/// Constructors and the layout check take milliseconds; weights that are read in full take longer.
const LONGEST: Duration = Duration::from_secs(300);
/// Loading by itself, without making anything.
const SLOW: Duration = Duration::from_millis(500);

/// The findings of the process that loaded the plugin.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// How long loading kept a processor busy.
    load_ms: f64,
    /// What the plugin says of its adapters.
    about: Vec<AdapterNote>,
    /// Threads that loading started.
    threads: usize,
}

/// Loads the plugin. None if nothing more can be checked.
pub(super) fn check(
    report: &mut Report,
    spec: &PluginSpec,
    note: &Note,
    settings: &BTreeMap<String, Settings>,
) -> Option<Arc<OpenPlugin>> {
    let mut opened = None;
    report.check(OF, "nobody else can change the file", || {
        opened = Some(plugin::open(spec).map_err(from_failure)?);
        fine()
    });
    let opened = opened?;
    let mut printed = Vec::new();
    let mut seen = None;
    report.check(OF, "it loads", || {
        let (found, output) = probe(&spec.path, settings).map_err(from_failure)?;
        printed = output;
        let took = Duration::from_secs_f64(found.load_ms / 1e3);
        let remark = format!("in {:.1} ms", found.load_ms);
        seen = Some(found);
        match took > SLOW {
            true => Err(warning(remark).hint("move slow work into the function that makes an adapter")),
            false => Ok(remark),
        }
    });
    let seen = seen?;
    report.check(OF, "it starts no threads by being loaded", || match seen.threads {
        0 => fine(),
        count => Err(warning(format!("{count}")).hint("start them when an adapter is made")),
    });
    report.check(OF, "standard output stays empty", || match printed.len() {
        0 => fine(),
        _ => Err(failed(format!("it wrote {:?}", String::from_utf8_lossy(&printed)))
            .hint("results go there, and people pipe them: use `plugin_api::log` instead of `println!`")),
    });
    report.check(OF, "its note says what it holds", || {
        match seen.about == note.adapters {
            true => fine(),
            false => {
                let names = |notes: &[AdapterNote]| -> String {
                    let names: Vec<_> = notes.iter().map(|it| format!("{} `{}`", it.kind, it.name)).collect();
                    names.join(", ")
                };
                Err(failed(format!(
                    "the note: {}; the plugin: {}",
                    names(&note.adapters),
                    names(&seen.about)
                )))
            }
        }
    });
    Some(opened)
}

/// Loads the plugin in another process. Returns what was seen and what was printed.
fn probe(file: &Path, settings: &BTreeMap<String, Settings>) -> Result<(Seen, Vec<u8>)> {
    let failing = || "the process that loads it could not be started".to_owned();
    let folder = Scratch::new().or_fail(Exit::Refused, failing)?;
    let (answers, given) = (folder.0.join("seen.json"), folder.0.join("settings.json"));
    let printed = folder.0.join("stdout");
    std::fs::write(&given, serde_json::to_vec(settings).unwrap_or_default()).or_fail(Exit::Refused, failing)?;
    let stdout = std::fs::File::create(&printed).or_fail(Exit::Refused, failing)?;
    let complaints = folder.0.join("stderr");
    let stderr = std::fs::File::create(&complaints).or_fail(Exit::Refused, failing)?;
    let mut child = Command::new(crate::process::program())
        .args([crate::process::COMMAND, crate::PROBE])
        .args([file, &given, &answers])
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .or_fail(Exit::Refused, failing)?;
    let began = Instant::now();
    let status = loop {
        match child.try_wait().or_fail(Exit::Refused, failing)? {
            Some(status) => break status,
            None if began.elapsed() > LONGEST => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(Failure::refused(format!(
                    "it did not end within {} s",
                    LONGEST.as_secs()
                )));
            }
            None => std::thread::sleep(Duration::from_millis(3)),
        }
    };
    let read = std::fs::read(&answers)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok());
    let Some(seen) = read.filter(|_| status.success()) else {
        let words = std::fs::read(&complaints).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        return Err(Failure::refused(format!("the process that loaded it ended with {status}")).cause(words));
    };
    Ok((seen, std::fs::read(&printed).unwrap_or_default()))
}

/// The other process. Returns its exit code.
pub(crate) fn run_probe(arguments: impl Iterator<Item = OsString>) -> i32 {
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let [file, settings, answers] = paths.as_slice() else {
        return Exit::Usage as i32;
    };
    match see(file, settings, answers) {
        Ok(()) => 0,
        Err(failure) => {
            let _ = writeln!(std::io::stderr(), "{}", failure.render());
            failure.exit as i32
        }
    }
}

/// Loads the file, makes and calls what can be made, and writes down what was seen.
fn see(file: &Path, settings: &Path, answers: &Path) -> Result<()> {
    let settings: BTreeMap<String, Settings> = std::fs::read(settings)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok())
        .unwrap_or_default();
    let spec = PluginSpec {
        name: "probed".to_owned(),
        path: file.to_owned(),
        isolation: Isolation::InProcess,
        ..PluginSpec::default()
    };
    let (before, began) = (threads(), worked());
    let plugin = plugin::open(&spec)?;
    let load_ms = worked().saturating_sub(began).as_secs_f64() * 1e3;
    let threads = threads().saturating_sub(before);
    let about = plugin
        .about()
        .or_fail(Exit::Refused, || "what it says of itself can't be read".to_owned())?;
    for note in &about {
        use_once(&plugin, note, settings.get(&title(note)).cloned().unwrap_or_default());
    }
    let seen = Seen {
        load_ms,
        about,
        threads,
    };
    let json = serde_json::to_vec(&seen).or_fail(Exit::Refused, || "what was seen can't be written".to_owned())?;
    std::fs::write(answers, json).or_fail(Exit::Refused, || format!("cannot write `{}`", answers.display()))
}

pub(super) fn title(note: &AdapterNote) -> String {
    format!("{} {}", note.kind, note.name)
}

/// Makes an adapter and uses it a little, to see what it prints. Other checks look at errors.
fn use_once(plugin: &OpenPlugin, note: &AdapterNote, settings: Settings) {
    let Ok(made) = plugin.make(note.kind, &note.name, &settings) else {
        return;
    };
    match note.kind {
        Kind::Model => {
            let prompt = Prompt::new([Message::user("Say a word.")]).sample(Sampling::greedy(4));
            let _ = ModelClient(made.adapter).reply(&prompt, &NoCallbacks);
        }
        Kind::Task => {
            let task = TaskClient(made.adapter);
            let _ = task.sample(0).and_then(|sample| task.prompt(&sample));
        }
        Kind::Judge => {
            let judge = plugin_api::client::JudgeClient(made.adapter);
            let _ = judge.judge(&plugin_api::Case::default(), &NoCallbacks);
        }
    }
}

/// The processor time of this thread. On a busy machine, wall-clock time says more about other programs than about the
/// plugin.
fn worked() -> Duration {
    let words = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = words.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or_default())
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

/// A folder that is removed when this is dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> std::io::Result<Self> {
        use std::os::unix::fs::DirBuilderExt;
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("host-check-{}-{number}", std::process::id()));
        // Fails if somebody else made it first, and gives nobody else access.
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Scratch(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
