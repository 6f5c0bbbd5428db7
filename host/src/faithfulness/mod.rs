//! Faithfulness: does an answer depend on the reasoning that is stated for it, and on the sound?
//!
//! One operator over any run whose records hold reasoning. A sweep reads the run's chains, changes the reasoning or the
//! clip, asks again and keeps one record for each trial and point, in a directory of its own below the run's. The crate
//! `faithfulness` has everything that needs no model; here is what asks.

mod ask;
pub mod baseline;
mod exchange;
mod items;
mod outcome;
pub mod plan;
mod prompts;
pub mod session;
mod store;
mod written;

pub use exchange::{Release, export};
pub use outcome::{costs, figures, import_of, records, write_results};
pub use session::write_provenance;

use std::path::{Path, PathBuf};

/// The folder of a run's sweeps.
pub fn sweeps_of(run: &Path) -> PathBuf {
    run.join("faithfulness")
}

/// The sweeps that a run has, or the one that a path names itself.
pub fn sweeps(path: &Path) -> Vec<PathBuf> {
    if path.join("provenance.json").exists() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(sweeps_of(path)).into_iter().flatten();
    let folders = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found: Vec<PathBuf> = folders
        .filter(|folder| folder.join("provenance.json").exists())
        .collect();
    found.sort();
    found
}
