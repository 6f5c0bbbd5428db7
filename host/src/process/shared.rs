//! What the calls to one worker share: its process, its socket, and the calls that are pending.

use super::exit_reason::{ExitReason, LastLines};
use super::frame::{Failed, FrameReader, FrameWriter, Head};
use crate::log::from_plugin;
use plugin_api::{Code, Envelope, Error, Result};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions};
use std::collections::HashMap;
use std::os::unix::net::UnixStream;
use std::process::{Child, ExitStatus};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How long a process may live on after its end of the socket was closed.
const AFTERLIFE: Duration = Duration::from_millis(500);

pub(super) struct Shared {
    pub plugin: String,
    pub memory: Option<u64>,
    pub process: Mutex<Process>,
    pub writer: Mutex<FrameWriter<UnixStream>>,
    pub calls: Mutex<Calls>,
    pub next: AtomicU64,
    /// Set, and signalled to waiting threads, when the process is gone.
    pub gone: (Mutex<bool>, Condvar),
}

#[derive(Default)]
pub(super) struct Calls {
    pub pending: HashMap<u64, Sender<Event>>,
    pub end: Option<End>,
}

pub(super) enum Event {
    Frame(Head, Envelope),
    Over(End),
}

/// Why a worker accepts no more calls.
#[derive(Clone)]
pub(super) enum End {
    Killed(Error),
    Died(ExitReason),
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Process {
    pub child: Child,
    /// Its end was noted; from then on its id may belong to another process.
    pub reaped: bool,
}

impl Process {
    /// Kills it, and the programs that its plugin started.
    pub fn kill(&mut self) {
        if !self.reaped {
            let _ = rustix::process::kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        }
    }
}

impl Shared {
    /// Sends a frame. If the worker is gone, the reading thread informs the calls.
    pub fn send(&self, head: &Head, envelope: &Envelope) -> Result<()> {
        locked(&self.writer).send(head, envelope)
    }

    /// Sends a head without an envelope.
    pub fn say(&self, head: &Head) {
        let _ = self.send(head, &Envelope::default());
    }

    pub fn answer(&self, id: u64, outcome: Result<Envelope>) {
        let (envelope, failed) = match outcome {
            Ok(envelope) => (envelope, None),
            Err(error) => (Envelope::default(), Some(Failed::from(error))),
        };
        if let Err(error) = self.send(&Head::Answer { id, failed }, &envelope) {
            let failed = Some(Failed::from(error));
            self.say(&Head::Answer { id, failed });
        }
    }

    pub fn error(&self, end: &End, method: &str) -> Error {
        match end {
            End::Killed(why) => why.clone(),
            End::Died(reason) => reason.error(&self.plugin, method),
        }
    }

    /// Kills the process, if it still lives, and ends all pending calls at once. The first reason counts.
    pub fn end(&self, end: End) {
        let pending = {
            let mut calls = locked(&self.calls);
            let end = calls.end.get_or_insert(end).clone();
            let pending = std::mem::take(&mut calls.pending);
            pending
                .into_values()
                .map(move |call| (call, end.clone()))
                .collect::<Vec<_>>()
        };
        locked(&self.process).kill();
        for (call, end) in pending {
            let _ = call.send(Event::Over(end));
        }
    }

    pub fn read_until_the_end(&self, socket: UnixStream, printed: Option<JoinHandle<()>>, lines: &Mutex<LastLines>) {
        let mut frames = FrameReader::new(socket);
        let garbled = loop {
            match frames.read() {
                Ok(Some((head, envelope))) => self.dispatch(head, envelope),
                Ok(None) => break None,
                Err(why) => break Some(why),
            }
        };
        if garbled
            .as_ref()
            .is_some_and(|why| why.kind() == std::io::ErrorKind::InvalidData)
        {
            let message = format!("plugin `{}` sent an invalid frame; its worker was stopped", self.plugin);
            let why = garbled.map(|why| why.to_string()).unwrap_or_default();
            self.end(End::Killed(Error::new(Code::DIED, message).cause(why)));
        }
        let status = self.last_status();
        // Its last lines may still be in the pipe. A process that it left behind may hold the pipe open for ever.
        let until = Instant::now() + AFTERLIFE;
        while printed.as_ref().is_some_and(|thread| !thread.is_finished()) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let reason = ExitReason::new(status, &locked(lines), self.memory);
        self.end(End::Died(reason));
        *locked(&self.gone.0) = true;
        self.gone.1.notify_all();
    }

    /// How the process ended; none if it lived on without its socket.
    fn last_status(&self) -> Option<ExitStatus> {
        let pid = Pid::from_child(&locked(&self.process).child);
        let looking = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        let until = Instant::now() + AFTERLIFE;
        let ended = loop {
            match rustix::process::waitid(WaitId::Pid(pid), looking) {
                Ok(Some(_)) => break true,
                Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
                _ => break false,
            }
        };
        let mut process = locked(&self.process);
        process.kill();
        process.reaped = true;
        process.child.wait().ok().filter(|_| ended)
    }

    fn dispatch(&self, head: Head, envelope: Envelope) {
        let (call, id) = match &head {
            Head::Log { level, message } => return from_plugin(&self.plugin, *level, message),
            Head::Done { call, .. } => (*call, None),
            Head::Emit { call, .. } => (*call, None),
            Head::Ask { call, id, .. } => (*call, Some(*id)),
            _ => return,
        };
        let pending = locked(&self.calls).pending.get(&call).cloned();
        let taken = pending.is_some_and(|pending| pending.send(Event::Frame(head, envelope)).is_ok());
        if let (false, Some(id)) = (taken, id) {
            // A thread that the plugin left behind is asking for a call that is over.
            let over = Error::new(Code::CANCELLED, "the call that this was asked for is over");
            self.answer(id, Err(over));
        }
    }
}
