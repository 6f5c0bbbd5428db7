//! The interpreter: a child process in its own process group, which is ended when it is no longer needed.

use crate::frame::{Came, Frames, send, send_text};
use plugin_api::{Code, Context, Error, Level, Result, log};
use rustix::io::FdFlags;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The one file that a script's author needs. What runs is the copy in this binary.
pub const HOST_PLUGIN: &str = include_str!("../host_plugin.py");

/// Loads the module from the socket, so that nothing has to be installed or written.
const BEGIN: &str = "\
import socket, struct, sys, types, linecache
link = socket.socket(fileno=int(sys.argv[1]))
def take(size):
    data = b''
    while len(data) < size:
        got = link.recv(size - len(data))
        if not got: sys.exit(0)
        data += got
    return data
size, _ = struct.unpack('<II', take(8))
source = take(size).decode()
module = types.ModuleType('host_plugin')
module.__file__ = 'host_plugin.py'
sys.modules['host_plugin'] = module
linecache.cache['host_plugin.py'] = (len(source), None, source.splitlines(True), 'host_plugin.py')
exec(compile(source, 'host_plugin.py', 'exec'), module.__dict__)
module.main(link)
";

/// The number of output lines that are kept for an error.
const LAST_WORDS: usize = 30;

/// An interpreter, a script, and the script's settings.
#[derive(Debug, Clone)]
pub struct Script {
    pub python: String,
    pub script: PathBuf,
    pub settings: Value,
    /// How long loading may take.
    pub patience: Duration,
}

/// A running interpreter with a loaded model.
#[derive(Debug)]
pub struct Python {
    child: Child,
    socket: UnixStream,
    frames: Frames,
    words: Arc<Mutex<VecDeque<String>>>,
    readers: Vec<JoinHandle<()>>,
    /// The script's model card, and the versions of the packages it uses.
    pub card: Value,
    pub versions: Value,
}

impl Script {
    /// Starts the interpreter and lets the script load its model.
    pub fn start(&self, stop: &dyn Fn() -> bool) -> Result<Python> {
        let shown = self.script.display();
        if !self.script.is_file() {
            return Err(Error::new(Code::MISSING, format!("there is no script at `{shown}`")));
        }
        let (ours, theirs) = UnixStream::pair().context("cannot make a socket")?;
        // The child inherits it, and it is closed here once the child has started.
        rustix::io::fcntl_setfd(&theirs, FdFlags::empty()).context("cannot hand a socket down")?;
        let child = Command::new(&self.python)
            .args(["-u", "-B", "-X", "faulthandler", "-c", BEGIN])
            .arg(theirs.as_raw_fd().to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        drop(theirs);
        let mut child = child.map_err(|why| {
            let error = Error::new(Code::MISSING, format!("cannot start the interpreter `{}`", self.python))
                .cause(why.to_string());
            error.help("give one with `-M python=/path/to/env/bin/python`")
        })?;
        let words = Arc::new(Mutex::new(VecDeque::new()));
        let streams: [Option<Box<dyn Read + Send>>; 2] = [
            child
                .stdout
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
            child
                .stderr
                .take()
                .map(|stream| Box::new(stream) as Box<dyn Read + Send>),
        ];
        let readers = streams
            .into_iter()
            .flatten()
            .map(|stream| listen(stream, words.clone()))
            .collect();
        let frames = Frames::new(ours.try_clone().context("cannot share a socket")?);
        let mut python = Python {
            child,
            socket: ours,
            frames,
            words,
            readers,
            card: Value::Null,
            versions: Value::Null,
        };
        python.load(self, stop)?;
        Ok(python)
    }
}

impl Python {
    fn load(&mut self, script: &Script, stop: &dyn Fn() -> bool) -> Result<()> {
        let shown = script.script.display();
        let head = json!({ "script": script.script, "settings": script.settings });
        let told = send_text(&self.socket, HOST_PLUGIN).and_then(|()| send(&self.socket, &head, &[]));
        if told.is_err() {
            return Err(self.death(&format!("the interpreter ended before it loaded `{shown}`")));
        }
        let until = Instant::now() + script.patience;
        loop {
            match self.frames.next(Duration::from_millis(100))? {
                Came::Frame(frame) if frame.get("ready").is_some() => {
                    self.card = frame["ready"].clone();
                    self.versions = frame["versions"].clone();
                    return Ok(());
                }
                Came::Frame(frame) if frame.get("broken").is_some() => {
                    let error = failure(&frame).context(format!("cannot load the script `{shown}`"));
                    return Err(error.help(format!("it ran under `{}`", script.python)));
                }
                Came::Frame(_) => {}
                Came::Nothing if stop() => {
                    return Err(Error::new(Code::CANCELLED, "stopped because the host asked for it"));
                }
                Came::Nothing if Instant::now() > until => {
                    return Err(Error::new(
                        Code::DEADLINE,
                        format!("`{shown}` did not load its model within {:?}", script.patience),
                    ));
                }
                Came::Nothing => {}
                Came::End => return Err(self.death(&format!("the interpreter died while it loaded `{shown}`"))),
            }
        }
    }

    pub fn send(&mut self, head: &Value, clips: &[plugin_api::Clip]) -> Result<()> {
        send(&self.socket, head, clips).map_err(|_| self.death("the interpreter died"))
    }

    /// The next frame, or none within the time.
    pub fn next(&mut self, wait: Duration) -> Result<Option<Value>> {
        match self.frames.next(wait)? {
            Came::Frame(frame) => Ok(Some(frame)),
            Came::Nothing => Ok(None),
            Came::End => Err(self.death("the interpreter died")),
        }
    }

    /// The error for a process that died: how it ended, and its last output.
    fn death(&mut self, what: &str) -> Error {
        let status = self.wait(Duration::from_secs(2));
        let how = match status {
            Some(status) => match status.signal() {
                Some(signal) => format!("signal {signal}"),
                None => format!("exit code {}", status.code().unwrap_or(-1)),
            },
            None => "it closed its socket and lives on".to_owned(),
        };
        for reader in self.readers.drain(..) {
            // The pipes close with the process, unless a child of it holds them.
            let until = Instant::now() + Duration::from_millis(200);
            while !reader.is_finished() && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let said: Vec<String> = words.iter().cloned().collect();
        let error = Error::new(Code::DIED, format!("{what}: {how}"));
        match said.is_empty() {
            true => error,
            false => error.cause(format!("it said last:\n{}", said.join("\n"))),
        }
    }

    fn wait(&mut self, longest: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + longest;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Err(_) => return None,
                Ok(None) if Instant::now() >= until => return None,
                Ok(None) => std::thread::sleep(Duration::from_millis(5)),
            }
        }
    }
}

impl Drop for Python {
    /// Ends the process and all that it started.
    fn drop(&mut self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        if self.wait(Duration::from_millis(50)).is_none() || self.child.id() > 0 {
            if let Some(group) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process_group(group, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        // Processes that it started may hold the pipes, so the reading threads get some time and are not joined.
        let until = Instant::now() + Duration::from_millis(500);
        while self.readers.iter().any(|reader| !reader.is_finished()) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Forwards the interpreter's output to the log, and keeps its last lines.
fn listen(stream: Box<dyn Read + Send>, words: Arc<Mutex<VecDeque<String>>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            // A very long line is cut, so that memory stays bounded.
            match (&mut reader).take(16 << 10).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            if text.trim().is_empty() {
                continue;
            }
            log(Level::Info, &text);
            let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
            if words.len() == LAST_WORDS {
                words.pop_front();
            }
            words.push_back(text);
        }
    })
}

/// Makes an error of Python's description of a failure.
pub fn failure(frame: &Value) -> Error {
    let code = match frame["code"].as_str() {
        Some("memory") => Code::MEMORY,
        Some("unsupported") => Code::UNSUPPORTED,
        Some("cancelled") => Code::CANCELLED,
        Some("missing") => Code::MISSING,
        Some("settings") => Code::SETTINGS,
        _ => Code::OTHER,
    };
    let error = Error::new(
        code,
        frame["message"].as_str().unwrap_or("the script failed").to_owned(),
    );
    let lines: Vec<&str> = frame["lines"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    match lines.is_empty() {
        true => error,
        false => error.cause(format!("Python said:\n{}", lines.join("\n"))),
    }
}

/// A path that is valid in the interpreter's own folder.
pub fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
