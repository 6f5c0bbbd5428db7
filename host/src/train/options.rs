//! The options of a training run.

use super::names::Given;
use crate::catalog::Flags;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The flags and the file, combined: no other code reads the command line.
#[derive(Debug, Clone, Default)]
pub struct Options {
    pub model: Option<String>,
    pub task: Option<String>,
    pub model_flags: Flags,
    pub task_flags: Flags,
    pub rows: Option<PathBuf>,
    pub eval_rows: Option<PathBuf>,
    pub method: Option<String>,
    pub out: Option<PathBuf>,
    pub show: Option<usize>,
    pub dry_run: bool,
    pub then_run: bool,
    pub baseline: bool,
    pub demo: bool,
    pub limit: Option<u64>,
    pub fresh: bool,
    pub resume_changed: bool,
    pub processes: Option<u32>,
    pub collective: Option<String>,
    /// Published figures of this run, with their source.
    pub published: Map<String, Value>,
    /// Training settings, by their first names.
    pub given: Given,
}

/// How results and notes are printed.
#[derive(Clone)]
pub struct Output<'a> {
    pub json: bool,
    pub quiet: bool,
    /// Whether somebody watches.
    pub progress: bool,
    pub offline: bool,
    /// The given registry files, for the commands that this one starts.
    pub registries: Vec<PathBuf>,
    pub print: &'a (dyn Fn(&str) + Sync),
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Output<'_> {
    /// Prints a note, unless `--quiet`.
    pub fn say(&self, words: &str) {
        if !self.quiet {
            (self.note)(words);
        }
    }
}
