//! `host`: runs any model on any task, each of them in a plugin.
//!
//! It knows no model and no task by name, and no tensor. The README's map says which folder holds what. It is a
//! library only for its tests and for `main.rs`; plugins depend on `plugin-api` only.

pub mod ask;
pub mod audio;
pub mod bench;
pub mod catalog;
pub mod cli;
pub mod compare;
pub mod conformance;
pub mod data;
mod dates;
pub mod export;
pub mod failure;
pub mod faithfulness;
mod fingerprint;
pub mod join;
pub mod log;
pub mod page;
pub mod plugin;
pub mod process;
pub mod registry;
pub mod report;
pub mod run;
pub mod scaffold;
pub mod score;
pub mod table;
mod trackers;
pub mod train;

/// Follows [`process::COMMAND`] in the command line of a process that only loads a plugin and inspects it, for `host
/// plugins check`.
const PROBE: &str = "probe";

/// Runs this process as a worker, or as one that only inspects a plugin, and returns the exit code.
///
/// It must be called before the program starts a thread, opens a file or prints, since it takes over the standard
/// streams.
pub fn run_worker() -> i32 {
    let mut arguments = std::env::args_os().skip(2);
    match arguments.next() {
        Some(word) if word == PROBE => conformance::run_probe(arguments),
        _ => plugin::run_worker(),
    }
}
