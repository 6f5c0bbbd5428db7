//! Runs a plugin's adapter in its own process, a worker, so that crashes, hangs and exhausted memory stay there.
//!
//! A worker is this same program, started as `host worker` with three things in place of its standard streams: a
//! socket, the plugin's sealed copy, and a pipe for what it prints. Each adapter has its own worker, so that a crash
//! affects no other. This is fault isolation and not a sandbox: a worker has all permissions of the user.
//!
//! Calls, questions and messages are carried by name, so that new ones need no change here.

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

/// Controls a worker from outside of its calls.
pub trait WorkerControl: Send + Sync {
    /// Kills it. Every pending call returns this error.
    fn kill(&self, why: Error);

    /// Its process, while it lives.
    fn pid(&self) -> Option<u32>;

    /// The most memory it held at a time, while it lives.
    fn peak_memory_bytes(&self) -> Option<u64>;
}

/// Sets the program that workers are started from. Only a program whose own `main` doesn't know [`COMMAND`], such as a
/// test, has to do so; otherwise it is this program, even if its file was replaced meanwhile.
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
