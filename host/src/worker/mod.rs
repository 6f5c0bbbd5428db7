//! Workers: a plugin's adapter in a process of its own, so that its crash, hang or hunger ends there.
//!
//! A worker is this same program, started as `host worker` with three things in place of its standard streams: a
//! socket, the plugin's sealed copy, and a pipe for what it prints. Each adapter gets its own, so that one that dies
//! takes nobody along. It is fault isolation and no sandbox: a worker has all rights of the user.

mod attend;
mod child;
mod death;
mod frame;
mod link;
mod telling;

pub(crate) use death::in_words;
pub(crate) use link::{Link, Recipe};

use std::path::PathBuf;
use std::sync::OnceLock;

/// The hidden command that turns this program into a worker.
pub const COMMAND: &str = "worker";

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// What follows [`COMMAND`] when a plugin is only loaded and looked at, by `host plugins check`.
pub(crate) const PROBE: &str = "probe";

/// Runs this process as a worker until the host is gone, and returns the exit code.
///
/// It has to be called before the program starts a thread, opens a file or prints: it takes over the standard streams.
pub fn run_child() -> i32 {
    let mut arguments = std::env::args_os().skip(2);
    match arguments.next() {
        Some(word) if word == PROBE => crate::conformance::run_probe(arguments),
        _ => child::run_child(),
    }
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
