//! The worker's end: loads one plugin, makes one adapter, and answers calls until the host is gone.
//!
//! The main thread does nothing but read. So it sees a wish to stop in the middle of a call, and the end of the host at
//! any time.

use super::frame::{self, Failed, Head, MAKING, PROTOCOL, Start};
use super::telling::{TOLD, Telling};
use crate::plugin::{InProcess, Instance, Renewing, load, set_log_sink};
use plugin_api::{Adapter, Callbacks, Code, Error, LogNote, Parcel, Result};
use rustix::process::{Resource, Rlimit, Signal, getpgrp, getpid, kill_current_process_group, kill_process, setrlimit};
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Calls run on threads with as much stack as a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// Runs this process as a worker until the host is gone, and returns the exit code.
///
/// It has to be called before the program starts a thread, opens a file or prints: it takes over the standard streams.
pub fn run_child() -> i32 {
    match Streams::take() {
        Ok(streams) => run(streams),
        Err(why) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: `host worker` is started by the host alone: {why}"
            );
            2
        }
    }
}

/// What the host put in place of the standard streams.
struct Streams {
    socket: UnixStream,
    plugin: File,
}

impl Streams {
    /// Moves them to descriptors that the plugin doesn't know. What it prints from then on goes to the host's log.
    fn take() -> std::io::Result<Streams> {
        let (stdin, stdout, stderr) = (rustix::stdio::stdin(), rustix::stdio::stdout(), rustix::stdio::stderr());
        rustix::net::sockopt::socket_type(stdin)?;
        rustix::fs::fcntl_get_seals(stdout)?;
        let socket = rustix::io::fcntl_dupfd_cloexec(stdin, 3)?;
        let plugin = rustix::io::fcntl_dupfd_cloexec(stdout, 3)?;
        rustix::stdio::dup2_stdin(File::open("/dev/null")?)?;
        rustix::stdio::dup2_stdout(stderr)?;
        Ok(Streams {
            socket: socket.into(),
            plugin: plugin.into(),
        })
    }
}

struct Worker {
    plugin: Arc<File>,
    writer: Mutex<UnixStream>,
    adapter: Mutex<Option<Arc<Renewing>>>,
    /// The calls at work.
    calls: Mutex<HashMap<u64, Arc<Telling>>>,
    /// Threads of the plugin that wait for an answer of the host.
    waiting: Mutex<HashMap<u64, Sender<Answer>>>,
    next: AtomicU64,
}

/// Whether to go on, and what was asked for.
type Answer = (bool, Result<Parcel>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(streams: Streams) -> i32 {
    let no_core_dumps = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, no_core_dumps);
    let Ok(reading) = streams.socket.try_clone() else {
        return 2;
    };
    let worker = Arc::new(Worker {
        plugin: Arc::new(streams.plugin),
        writer: Mutex::new(streams.socket),
        adapter: Mutex::default(),
        calls: Mutex::default(),
        waiting: Mutex::default(),
        next: AtomicU64::new(0),
    });
    let to_host = worker.clone();
    set_log_sink(Box::new(move |_plugin, level, message| {
        let message = message.to_owned();
        to_host.send(&Head::Log { level, message }, &Parcel::default());
    }));
    let threads = Threads::new();
    let mut reading = BufReader::with_capacity(1 << 16, reading);
    loop {
        match frame::read(&mut reading) {
            Ok(Some((Head::Leave, _))) => break,
            Ok(Some((head, parcel))) => worker.take(head, parcel, &threads),
            Ok(None) | Err(_) => leave_at_once(),
        }
    }
    let adapter = locked(&worker.adapter).take();
    drop(adapter);
    0
}

/// The host is gone: whatever the plugin is in the middle of, nobody waits for it.
fn leave_at_once() -> ! {
    // No handler of the plugin's libraries can delay this. The group is the worker's own, so that programs which the
    // plugin started go as well; when it is not, this process alone goes.
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

impl Worker {
    fn send(&self, head: &Head, parcel: &Parcel) {
        let sent = frame::encode(head, parcel).map(|bytes| frame::write(&mut *locked(&self.writer), &bytes));
        if let (Err(error), Head::Done { call, .. }) = (sent, head) {
            let failed = Some(Failed::from(error));
            self.send(&Head::Done { call: *call, failed }, &Parcel::default());
        }
    }

    fn take(self: &Arc<Self>, head: Head, parcel: Parcel, threads: &Threads) {
        match head {
            Head::Start(start) => {
                let worker = self.clone();
                threads.run(Box::new(move || {
                    worker.done(MAKING, worker.start(start).map(|()| Parcel::default()))
                }));
            }
            Head::Call { call, method } => {
                let telling = Arc::new(Telling::default());
                locked(&self.calls).insert(call, telling.clone());
                let worker = self.clone();
                threads.run(Box::new(move || {
                    let outcome = worker.call(call, &method, parcel, telling.clone());
                    locked(&worker.calls).remove(&call);
                    telling.end();
                    worker.done(call, outcome)
                }));
            }
            Head::Cancel { call } => {
                if let Some(telling) = locked(&self.calls).get(&call) {
                    telling.stop.store(true, Ordering::Release);
                }
            }
            Head::Taken { call, count } => {
                if let Some(telling) = locked(&self.calls).get(&call) {
                    telling.taken(count);
                }
            }
            Head::Refused { call, job } => {
                if let Some(telling) = locked(&self.calls).get(&call) {
                    telling.refuse(job);
                }
            }
            Head::Answer { id, go_on, failed } => {
                let waiting = locked(&self.waiting).remove(&id);
                let outcome = failed.map_or(Ok(parcel), |failed| Err(failed.into()));
                if let Some(waiting) = waiting {
                    let _ = waiting.send((go_on, outcome));
                }
            }
            _ => {}
        }
    }

    /// What is left to do when a call ended: the thread is free for the next one before the host hears of it.
    fn done(self: &Arc<Self>, call: u64, outcome: Result<Parcel>) -> Finish {
        let worker = self.clone();
        Box::new(move || {
            let (parcel, failed) = match outcome {
                Ok(parcel) => (parcel, None),
                Err(error) => (Parcel::default(), Some(Failed::from(error))),
            };
            worker.send(&Head::Done { call, failed }, &parcel);
        })
    }

    fn start(&self, start: Start) -> Result<()> {
        if (start.protocol, start.api.as_str()) != (PROTOCOL, plugin_api::VERSION) {
            return Err(Error::msg("the worker is of another version than the host").help("start the host again"));
        }
        if let Some(bytes) = start.memory {
            // What can be written to is what can be limited without rights, used or not. A limit of all addresses would
            // count files that are mapped to be read, too, which checkpoints are: the system takes their pages back.
            // Drivers of graphics cards reserve much, so a model on such a card needs a generous limit or none.
            let limit = Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            };
            setrlimit(Resource::Data, limit)?;
        }
        let plugin = load(&start.plugin, &start.sha256, &self.plugin).map_err(|failure| failure.error)?;
        let what = format!("{} `{}` of plugin `{}`", start.kind, start.adapter, start.plugin);
        let make = move || {
            let adapter = plugin.make_by_word(&start.kind, &start.adapter, &start.settings)?;
            Ok(Arc::new(InProcess::new(adapter)) as Arc<dyn Instance>)
        };
        *locked(&self.adapter) = Some(Arc::new(Renewing::new(what, Box::new(make))?));
        Ok(())
    }

    fn call(&self, call: u64, method: &str, input: Parcel, telling: Arc<Telling>) -> Result<Parcel> {
        let adapter = locked(&self.adapter).clone();
        let adapter = adapter.ok_or_else(|| Error::msg("the worker was called before it had made its adapter"))?;
        let host = Host {
            worker: self,
            call,
            telling,
        };
        adapter.call(method, input, &host)
    }
}

/// The host, as a call in the worker sees it.
struct Host<'a> {
    worker: &'a Worker,
    call: u64,
    telling: Arc<Telling>,
}

impl Host<'_> {
    /// Sends a frame that is answered, and waits for the answer.
    fn exchange(&self, head: impl FnOnce(u64) -> Head, parcel: &Parcel) -> Answer {
        let id = self.worker.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = channel();
        locked(&self.worker.waiting).insert(id, sender);
        let sent = frame::encode(&head(id), parcel);
        match sent {
            Ok(bytes) => {
                let _ = frame::write(&mut *locked(&self.worker.writer), &bytes);
            }
            Err(error) => {
                locked(&self.worker.waiting).remove(&id);
                return (true, Err(error));
            }
        }
        answer
            .recv()
            .unwrap_or_else(|_| (false, Err(Error::new(Code::CANCELLED, "the host is gone"))))
    }
}

impl Callbacks for Host<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        let what = what.to_owned();
        let call = self.call;
        self.exchange(|id| Head::Ask { call, id, what }, &input).1
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        if let ("log", Ok(LogNote { level, message })) = (what, note.read()) {
            self.worker.send(&Head::Log { level, message }, &Parcel::default());
            return true;
        }
        let call = self.call;
        if !TOLD.contains(&what) {
            let what = what.to_owned();
            return self.exchange(|id| Head::Emit { call, id, what }, &note).0;
        }
        if what == "token" && self.telling.has_refused(&note) {
            return false;
        }
        let what = what.to_owned();
        self.telling.wait_for_room() && {
            self.worker.send(&Head::Tell { call, what }, &note);
            !self.stop_asked()
        }
    }

    fn stop_asked(&self) -> bool {
        self.telling.stop.load(Ordering::Acquire)
    }
}

type Finish = Box<dyn FnOnce() + Send>;
type Work = Box<dyn FnOnce() -> Finish + Send>;

/// Threads that run calls. A new one is made only when all are busy, so calls that come one by one share one thread
/// and what the plugin keeps for it.
struct Threads {
    sender: crossbeam_channel::Sender<Work>,
    receiver: crossbeam_channel::Receiver<Work>,
    idle: Arc<AtomicUsize>,
}

impl Threads {
    fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::unbounded();
        let idle = Arc::new(AtomicUsize::new(0));
        Threads { sender, receiver, idle }
    }

    fn run(&self, work: Work) {
        let taken = self
            .idle
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |idle| idle.checked_sub(1));
        if taken.is_err() {
            let (receiver, idle) = (self.receiver.clone(), self.idle.clone());
            let thread = thread::Builder::new().name("call".to_owned()).stack_size(STACK_BYTES);
            // Without a new thread the call waits for one that gets free, or for the host's patience to end.
            let _ = thread.spawn(move || {
                for work in receiver {
                    let finish = work();
                    idle.fetch_add(1, Ordering::AcqRel);
                    finish();
                }
            });
        }
        let _ = self.sender.send(work);
    }
}
