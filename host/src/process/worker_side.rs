//! The worker's end: loads one plugin, makes one adapter, and answers calls until the host is gone.
//!
//! The main thread only reads. So it notices a request to stop in the middle of a call, and the end of the host at any
//! time.

use super::flow_control::FlowControl;
use super::frame::{Failed, FrameReader, FrameWriter, Head, MAKING, PROTOCOL, Start};
use plugin_api::{Adapter, Callbacks, Code, Envelope, Error, Level, Result};
use rustix::process::{Resource, Rlimit, Signal, getpgrp, getpid, kill_current_process_group, kill_process, setrlimit};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// Calls run on threads with as much stack as a main thread has.
const STACK_BYTES: usize = 8 << 20;

/// Loads what a worker was started for and makes its adapter, from the plugin's sealed copy.
pub type MakeAdapter = fn(&Start, &Arc<File>) -> Result<Arc<dyn Adapter>>;

/// Sends the log messages of the worker's plugin to the host.
pub type Log = Box<dyn Fn(&str, Level, &str) + Send + Sync>;

/// Runs this process as a worker until the host is gone, and returns the exit code. `log` is given the sender of log
/// messages to the host.
///
/// It must be called before the program starts a thread, opens a file or prints, since it takes over the standard
/// streams.
pub fn run(make: MakeAdapter, log: fn(Log)) -> i32 {
    match Streams::take() {
        Ok(streams) => serve(streams, make, log),
        Err(why) => {
            let _ = writeln!(
                std::io::stderr(),
                "error: only the host itself starts `host worker`: {why}"
            );
            2
        }
    }
}

/// What the host passed in place of the standard streams.
struct Streams {
    socket: UnixStream,
    plugin: File,
}

impl Streams {
    /// Moves them to descriptors that the plugin doesn't know. From then on, what it prints goes to the host's log.
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
    writer: Mutex<FrameWriter<UnixStream>>,
    make: MakeAdapter,
    adapter: Mutex<Option<Arc<dyn Adapter>>>,
    /// The calls at work.
    calls: Mutex<HashMap<u64, Arc<FlowControl>>>,
    /// Threads of the plugin that wait for an answer of the host.
    waiting: Mutex<HashMap<u64, Sender<Answer>>>,
    next: AtomicU64,
}

/// The name of the question.
type Answer = Result<Envelope>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(streams: Streams, make: MakeAdapter, log: fn(Log)) -> i32 {
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
        writer: Mutex::new(FrameWriter::new(streams.socket)),
        make,
        adapter: Mutex::default(),
        calls: Mutex::default(),
        waiting: Mutex::default(),
        next: AtomicU64::new(0),
    });
    let to_host = worker.clone();
    log(Box::new(move |_plugin, level, message| {
        let message = message.to_owned();
        to_host.send(&Head::Log { level, message }, &Envelope::default());
    }));
    let threads = Threads::new();
    let mut frames = FrameReader::new(reading);
    loop {
        match frames.read() {
            Ok(Some((Head::Leave, _))) => break,
            Ok(Some((head, envelope))) => worker.take(head, envelope, &threads),
            Ok(None) | Err(_) => leave_at_once(),
        }
    }
    let adapter = locked(&worker.adapter).take();
    drop(adapter);
    0
}

/// The host is gone, so nobody needs what the plugin is doing.
fn leave_at_once() -> ! {
    // No handler of the plugin's libraries can delay this. The group is the worker's own, so that programs started by
    // the plugin end as well; if it is not, only this process ends.
    if getpgrp() == getpid() {
        let _ = kill_current_process_group(Signal::KILL);
    }
    let _ = kill_process(getpid(), Signal::KILL);
    std::process::abort()
}

impl Worker {
    fn send(&self, head: &Head, envelope: &Envelope) {
        let sent = locked(&self.writer).send(head, envelope);
        if let (Err(error), Head::Done { call, .. }) = (sent, head) {
            let failed = Some(Failed::from(error));
            self.send(&Head::Done { call: *call, failed }, &Envelope::default());
        }
    }

    fn take(self: &Arc<Self>, head: Head, envelope: Envelope, threads: &Threads) {
        match head {
            Head::Start(start) => {
                let worker = self.clone();
                threads.run(Box::new(move || {
                    worker.done(MAKING, worker.start(start).map(|()| Envelope::default()))
                }));
            }
            Head::Call { call, method } => {
                let flow = Arc::new(FlowControl::default());
                locked(&self.calls).insert(call, flow.clone());
                let worker = self.clone();
                threads.run(Box::new(move || {
                    let outcome = worker.call(call, &method, envelope, flow.clone());
                    locked(&worker.calls).remove(&call);
                    flow.end();
                    worker.done(call, outcome)
                }));
            }
            Head::Cancel { call } => {
                if let Some(flow) = locked(&self.calls).get(&call) {
                    flow.stop.store(true, Ordering::Release);
                }
            }
            Head::Taken { call, count } => {
                if let Some(flow) = locked(&self.calls).get(&call) {
                    flow.taken(count);
                }
            }
            Head::Refused { call, what } => {
                if let Some(flow) = locked(&self.calls).get(&call) {
                    flow.refuse(what);
                }
            }
            Head::Answer { id, failed } => {
                let waiting = locked(&self.waiting).remove(&id);
                let outcome = failed.map_or(Ok(envelope), |failed| Err(failed.into()));
                if let Some(waiting) = waiting {
                    let _ = waiting.send(outcome);
                }
            }
            _ => {}
        }
    }

    /// Sends the result when a call has ended: the thread is free for the next call before the host knows.
    fn done(self: &Arc<Self>, call: u64, outcome: Result<Envelope>) -> Finish {
        let worker = self.clone();
        Box::new(move || {
            let (envelope, failed) = match outcome {
                Ok(envelope) => (envelope, None),
                Err(error) => (Envelope::default(), Some(Failed::from(error))),
            };
            worker.send(&Head::Done { call, failed }, &envelope);
        })
    }

    fn start(&self, start: Start) -> Result<()> {
        if (start.protocol, start.api.as_str()) != (PROTOCOL, plugin_api::VERSION) {
            return Err(Error::msg("the worker is of another version than the host").help("start the host again"));
        }
        if let Some(bytes) = start.memory {
            // Writable memory, used or not, is what an unprivileged process can limit. A limit on all addresses would
            // also
            // count read-only mappings such as checkpoints, whose pages the system can reclaim. Drivers of graphics
            // cards reserve much, so a model on such a card needs a generous limit or none.
            let limit = Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            };
            setrlimit(Resource::Data, limit)?;
        }
        *locked(&self.adapter) = Some((self.make)(&start, &self.plugin)?);
        Ok(())
    }

    fn call(&self, call: u64, method: &str, input: Envelope, flow: Arc<FlowControl>) -> Result<Envelope> {
        let adapter = locked(&self.adapter).clone();
        let adapter = adapter.ok_or_else(|| Error::msg("the worker was called before it had made its adapter"))?;
        let host = Host {
            worker: self,
            call,
            flow,
        };
        adapter.call(method, input, &host)
    }
}

/// The host as a call in the worker sees it.
struct Host<'a> {
    worker: &'a Worker,
    call: u64,
    flow: Arc<FlowControl>,
}

impl Host<'_> {
    /// Sends a frame that is answered, and waits for the answer.
    fn exchange(&self, head: impl FnOnce(u64) -> Head, envelope: &Envelope) -> Answer {
        let id = self.worker.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = channel();
        locked(&self.worker.waiting).insert(id, sender);
        let sent = locked(&self.worker.writer).send(&head(id), envelope);
        if let Err(error) = sent {
            locked(&self.worker.waiting).remove(&id);
            return Err(error);
        }
        let gone = |_| Err(Error::new(Code::CANCELLED, "the host is gone"));
        answer.recv().unwrap_or_else(gone)
    }
}

impl Callbacks for Host<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        let what = what.to_owned();
        let call = self.call;
        self.exchange(|id| Head::Ask { call, id, what }, &input)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        let call = self.call;
        self.flow.wait_for_room() && {
            let head = Head::Emit {
                call,
                what: what.to_owned(),
            };
            self.worker.send(&head, &note);
            !self.flow.has_refused(what) && !self.stop_asked()
        }
    }

    fn stop_asked(&self) -> bool {
        self.flow.stop.load(Ordering::Acquire)
    }
}

type Finish = Box<dyn FnOnce() + Send>;
type Work = Box<dyn FnOnce() -> Finish + Send>;

/// Threads that run calls. A new one is started only if all are busy, so calls that come one by one share a thread and
/// the plugin's thread-local data.
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
            // Without a new thread the call waits until one is free or the host's deadline passes.
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
