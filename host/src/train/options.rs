//! What a training run was asked to do.

use super::names::Given;
use crate::catalog::Flags;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// The flags and the file, settled: nothing below asks the command line again.
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
    /// Figures that were published of this run, with their source.
    pub published: Map<String, Value>,
    /// Training settings, by their first names.
    pub given: Given,
}

/// How results and notes reach people.
#[derive(Clone)]
pub struct Output<'a> {
    pub json: bool,
    pub quiet: bool,
    /// Somebody watches.
    pub progress: bool,
    pub offline: bool,
    /// Registry files that were given, for commands that this one starts.
    pub registries: Vec<PathBuf>,
    pub print: &'a (dyn Fn(&str) + Sync),
    pub note: &'a (dyn Fn(&str) + Sync),
}

impl Output<'_> {
    /// Says something to people, unless they asked for quiet.
    pub fn say(&self, words: &str) {
        if !self.quiet {
            (self.note)(words);
        }
    }
}
