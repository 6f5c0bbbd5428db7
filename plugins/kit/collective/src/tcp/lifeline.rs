//! Passes on that a process ended, whatever the others are doing.

use super::frame::{Kind, keep_alive, receive, send};
use plugin_api::{Level, Result};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a process may take to notice that another ended; then it is ended.
const GRACE: Duration = Duration::from_secs(7);
/// How long a process whose ring broke waits for the reason.
const WORD: Duration = Duration::from_secs(2);

/// The connections of one process, each with a thread that listens.
pub struct Lifeline {
    shared: Arc<Shared>,
    rank: usize,
}

struct Shared {
    lines: Vec<(usize, TcpStream)>,
    /// Shut down when a process ends, so that nothing waits on them.
    ring: Vec<TcpStream>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    reason: Option<String>,
    /// Whether this process noticed the end, or is done itself.
    noticed: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process ended: tells the others, except the one that reported it, and wakes this one.
    fn ended(&self, reason: &str, heard_from: usize) {
        {
            let mut state = self.lock();
            if state.reason.is_some() || state.noticed {
                return;
            }
            state.reason = Some(reason.to_owned());
        }
        for (rank, line) in &self.lines {
            if *rank != heard_from {
                let _ = send(line, Kind::Abort, reason.as_bytes());
            }
        }
        self.changed.notify_all();
        for stream in &self.ring {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let waited = self
            .changed
            .wait_timeout_while(self.lock(), GRACE, |state| !state.noticed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if !state.noticed {
            // It is computing, and would go on until the step ends.
            plugin_api::log(Level::Error, reason);
            std::process::exit(4);
        }
    }
}

impl Lifeline {
    pub fn new(lines: Vec<(usize, TcpStream)>, rank: usize, ring: Vec<TcpStream>) -> Result<Lifeline> {
        let shared = Arc::new(Shared {
            lines,
            ring,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        for (peer, line) in &shared.lines {
            keep_alive(line);
            let (line, peer, shared) = (line.try_clone()?, *peer, shared.clone());
            std::thread::Builder::new()
                .name(format!("line to process {peer}"))
                .spawn(move || match receive(&line) {
                    Ok((Kind::Goodbye, _)) => {}
                    Ok((_, bytes)) => shared.ended(&String::from_utf8_lossy(&bytes), peer),
                    Err(_) => shared.ended(&format!("process {peer} ended without a word"), peer),
                })?;
        }
        Ok(Lifeline { shared, rank })
    }

    /// Why another process ended, if the reason arrives soon.
    pub fn wait_for_reason(&self) -> Option<String> {
        let shared = &self.shared;
        let waited = shared
            .changed
            .wait_timeout_while(shared.lock(), WORD, |state| state.reason.is_none());
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.noticed = true;
        shared.changed.notify_all();
        state.reason.clone()
    }

    /// Tells the others that this process ends.
    pub fn abort(&self, why: &str) {
        self.leave(Kind::Abort, &format!("process {} failed: {why}", self.rank));
    }

    fn leave(&self, kind: Kind, words: &str) {
        {
            let mut state = self.shared.lock();
            if state.noticed && state.reason.is_none() {
                return;
            }
            state.noticed = true;
            if state.reason.is_some() {
                // Another process ended first, and all know it.
                self.shared.changed.notify_all();
                return;
            }
        }
        self.shared.changed.notify_all();
        for (_, line) in &self.shared.lines {
            let _ = send(line, kind, words.as_bytes());
        }
    }
}

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.leave(Kind::Goodbye, "");
    }
}
