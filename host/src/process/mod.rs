//! A plugin's adapter in a process of its own, a worker, so that its crash, hang or hunger ends there.
//!
//! A worker is this same program, started as `host worker` with three things in place of its standard streams: a
//! socket, the plugin's sealed copy, and a pipe for what it prints. Each adapter gets its own, so that one that dies
//! takes nobody along. It is fault isolation and no sandbox: a worker has all rights of the user.
//!
//! It carries calls, questions and messages by their names and knows none of them: a new one needs no change here.

mod exit_reason;
mod flow_control;
mod frame;
mod host_call;
mod host_side;
mod known_clips;
mod shared;
mod worker_side;

pub(crate) use exit_reason::in_words;
pub use frame::Start;
pub(crate) use host_side::{Recipe, WorkerHandle};
pub use worker_side::{Log, MakeAdapter, run};

use plugin_api::Error;
use std::path::PathBuf;
use std::sync::OnceLock;

/// The hidden command that turns this program into a worker.
pub const COMMAND: &str = "worker";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What can be done to a worker from outside of its calls.
pub trait WorkerControl: Send + Sync {
    /// Ends it. Every call that is pending returns this error.
    fn kill(&self, why: Error);

    /// Its process, while it lives.
    fn pid(&self) -> Option<u32>;

    /// The most memory it held at a time, while it lives.
    fn peak_memory_bytes(&self) -> Option<u64>;
}

/// Names the program that workers are started from. Only a program whose own `main` doesn't know [`COMMAND`], as that
/// of a test, has to say so; otherwise it is this program, even when its file was replaced meanwhile.
pub fn set_program(path: impl Into<PathBuf>) {
    let _ = PROGRAM.set(path.into());
}

/// The program that workers are started from.
pub(crate) fn program() -> PathBuf {
    PROGRAM
        .get()
        .cloned()
        .unwrap_or_else(|| PathBuf::from("/proc/self/exe"))
}
