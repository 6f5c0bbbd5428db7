//! The host's end of a worker: starts it, sends calls, serves callbacks, and reports how it ended.
//!
//! One thread reads what the worker sends and hands it to the call that it belongs to; each call handles it on its own
//! thread.

use super::WorkerControl;
use super::exit_reason::LastLines;
use super::frame::{FrameWriter, Head, MAKING, PROTOCOL, Start};
use super::host_call::HostCall;
use super::shared::{End, Process, Shared, locked};
use crate::log::from_plugin;
use crate::registry::spec::PluginSpec;
use plugin_api::{Adapter, Callbacks, Code, Context, Envelope, Error, Level, NoCallbacks, Result, Settings};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a worker may take to exit after it was told to.
const FAREWELL: Duration = Duration::from_secs(2);
/// A line that a plugin prints is cut here.
const LONGEST_LINE: u64 = 4096;

/// Read by glibc's allocator when a process starts; other systems ignore it. A pass through a model allocates and frees
/// the same tens of megabytes hundreds of times a second. By default the allocator returns them to the system each
/// time, and a tenth of a pass goes into getting them back, page by page.
const ALLOCATOR: [(&str, &str); 3] = [
    ("MALLOC_MMAP_THRESHOLD_", "33554432"), // the largest that it takes
    ("MALLOC_TRIM_THRESHOLD_", "536870912"),
    ("MALLOC_TOP_PAD_", "16777216"),
];

/// Everything a worker is started from, for the first time or again.
#[derive(Clone)]
pub(crate) struct Recipe {
    pub spec: PluginSpec,
    /// The plugin's sealed copy, and its sha256.
    pub copy: Arc<File>,
    pub sha256: String,
    pub kind: &'static str,
    pub adapter: String,
    pub settings: Settings,
}

/// A worker, from its start to its end.
pub(crate) struct WorkerHandle {
    shared: Arc<Shared>,
    deadline: Option<Duration>,
}

impl WorkerHandle {
    /// Starts a worker and waits until it has made its adapter.
    pub(crate) fn start(recipe: &Recipe) -> Result<WorkerHandle> {
        let spec = &recipe.spec;
        let (mut child, socket) = spawn(recipe).context(format!("cannot start a worker for plugin `{}`", spec.name))?;
        let stderr = child.stderr.take();
        let reading = socket.try_clone();
        let shared = Arc::new(Shared {
            plugin: spec.name.clone(),
            memory: spec.memory,
            process: Mutex::new(Process { child, reaped: false }),
            writer: Mutex::new(FrameWriter::new(socket)),
            calls: Mutex::default(),
            next: AtomicU64::new(MAKING + 1),
            gone: Default::default(),
        });
        let link = WorkerHandle {
            shared: shared.clone(),
            deadline: spec.deadline,
        };
        let reading = reading?;
        let lines = Arc::new(Mutex::new(LastLines::default()));
        let printed = stderr.map(|stderr| spawn_line_reader(stderr, spec.name.clone(), lines.clone()));
        thread::Builder::new()
            .name(format!("worker {}", spec.name))
            .spawn(move || shared.read_until_the_end(reading, printed, &lines))?;
        let start = Head::Start(Start {
            protocol: PROTOCOL,
            api: plugin_api::VERSION.to_owned(),
            plugin: spec.name.clone(),
            sha256: recipe.sha256.clone(),
            kind: recipe.kind.to_owned(),
            adapter: recipe.adapter.clone(),
            settings: recipe.settings.clone(),
            memory: spec.memory,
        });
        link.carry(MAKING, "make", start, Envelope::default(), &NoCallbacks)?;
        Ok(link)
    }

    /// True if it can no longer answer.
    pub(crate) fn is_over(&self) -> bool {
        locked(&self.shared.calls).end.is_some()
    }

    /// Carries one call to the worker and serves its callbacks until it is done.
    fn carry(&self, call: u64, method: &str, head: Head, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let (sender, events) = channel();
        {
            let mut calls = locked(&self.shared.calls);
            if let Some(end) = &calls.end {
                return Err(self.shared.error(end, method));
            }
            calls.pending.insert(call, sender);
        }
        if let Err(error) = self.shared.send(&head, &input) {
            locked(&self.shared.calls).pending.remove(&call);
            return Err(error);
        }
        let host_call = HostCall {
            shared: &self.shared,
            call,
            method,
            host,
            panicked: AtomicBool::new(false),
            // The caller of a long call watches the time of each job.
            deadline: self
                .deadline
                .filter(|_| !host.lasts())
                .map(|time| (Instant::now() + time, time)),
        };
        let outcome = thread::scope(|scope| host_call.serve(scope, &events));
        locked(&self.shared.calls).pending.remove(&call);
        if host_call.panicked.load(Ordering::Acquire) {
            let message = format!("the host's own side panicked during `{method}`");
            return Err(Error::new(Code::OTHER, message));
        }
        outcome
    }
}

/// Starts the process with the socket, the plugin's copy and a pipe in place of its standard streams.
fn spawn(recipe: &Recipe) -> std::io::Result<(Child, UnixStream)> {
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(super::program());
    command
        .arg(super::COMMAND)
        .arg(&recipe.spec.name) // seen in a list of processes
        // The hub's tokens stay with the host: a plugin gets weights as a folder and need not ask the hub.
        .env_remove("HF_TOKEN")
        .env_remove("HUGGING_FACE_HUB_TOKEN")
        .envs(
            ALLOCATOR
                .into_iter()
                .filter(|(name, _)| std::env::var_os(name).is_none()),
        )
        .envs(&recipe.spec.env)
        .stdin(OwnedFd::from(theirs))
        .stdout(recipe.copy.try_clone()?)
        .stderr(Stdio::piped())
        // A separate process group, so that the host handles an interrupt from the keyboard.
        .process_group(0);
    // The command holds the worker's end of the socket; if it were kept, the worker's death would go unnoticed.
    command.spawn().map(|child| (child, ours))
}

impl Adapter for WorkerHandle {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let call = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let head = Head::Call {
            call,
            method: method.to_owned(),
        };
        self.carry(call, method, head, input, host)
    }
}

impl WorkerControl for WorkerHandle {
    fn kill(&self, why: Error) {
        self.shared.end(End::Killed(why));
    }

    fn pid(&self) -> Option<u32> {
        (!*locked(&self.shared.gone.0)).then(|| locked(&self.shared.process).child.id())
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
        Some(kilobytes * 1024)
    }
}

impl Drop for WorkerHandle {
    fn drop(&mut self) {
        let shared = &self.shared;
        if locked(&shared.calls).end.is_none() {
            shared.say(&Head::Leave);
            let (gone, bell) = &shared.gone;
            let _ = bell.wait_timeout_while(locked(gone), FAREWELL, |gone| !*gone);
        }
        locked(&shared.process).kill();
    }
}

/// Passes what the worker prints to the log, and keeps the last lines.
fn spawn_line_reader(stderr: ChildStderr, plugin: String, lines: Arc<Mutex<LastLines>>) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut stderr = BufReader::new(stderr);
        let mut bytes = Vec::new();
        // A longer line comes in pieces.
        while matches!(stderr.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut bytes), Ok(count) if count > 0) {
            let line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
            bytes.clear();
            if !line.is_empty() {
                from_plugin(&plugin, Level::Info, &line);
                locked(&lines).push(line);
            }
        }
    })
}
