//! Reads a run from disk, for exports, comparisons and pages.

use super::graded::graders_of;
use super::record::Record;
use super::store::directory::{RunDirectory, SCATTERED, read_if_there};
use super::store::hash::hash_json;
use super::store::pair_key::Key;
use super::store::score::{Graders, judge_key};
use super::store::scores::{Scorer, for_each_record};
use super::store::{Records, Scores, places};
use crate::failure::{Failure, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;

/// A run that is finished, interrupted or still going.
pub struct Recorded {
    pub(crate) directory: RunDirectory,
    /// The places of the records that count, in the order of the data.
    pub(crate) places: Vec<u64>,
    /// `results.json`; none as long as the run has never finished.
    results: Option<Value>,
    settings: toml::Table,
    /// Scores that came after the records.
    pub(crate) scores: Scores,
}

impl Recorded {
    /// Opens a run and locks it, so that no other process writes it meanwhile.
    pub fn open(path: &Path) -> Result<Recorded> {
        is_run(path)?;
        Recorded::of(RunDirectory::open(path, false)?)
    }

    /// The same run without its lock and without its places, to read records that are known from before.
    pub(crate) fn unlocked(self) -> Recorded {
        Recorded {
            directory: RunDirectory::look(self.path()),
            places: Vec::new(),
            ..self
        }
    }

    /// Looks at a run that another process may be writing.
    pub fn look(path: &Path) -> Result<Recorded> {
        is_run(path)?;
        Recorded::of(RunDirectory::look(path))
    }

    fn of(directory: RunDirectory) -> Result<Recorded> {
        let path = &directory.path;
        let places = places::all(&directory)?;
        let results = read_if_there(&path.join("results.json")).and_then(|text| serde_json::from_str(&text).ok());
        let results: Option<Value> = results;
        let settings = read_if_there(&path.join("run.toml")).and_then(|text| text.parse().ok());
        // The scores behind the results: the task's own first, then the judges'.
        let scores = results.as_ref().map(|results| {
            let host = &results["host"];
            let names = results["versions"].as_object();
            let task = names.and_then(|names| names.keys().next().cloned()).unwrap_or_default();
            let own = (task.clone(), &host["identity"]["task"], &host["scorers"][&task]);
            let judges = host["judges"].as_object().into_iter().flatten();
            let judges = judges.map(|(name, judge)| (judge_key(name, &task), &judge["identity"], judge));
            let known: Vec<(String, String, Graders)> = [own]
                .into_iter()
                .chain(judges)
                .map(|(name, identity, scorer)| (name, hash_json(identity), graders_of(scorer)))
                .collect();
            let scorers: Vec<Scorer> = known
                .iter()
                .map(|(name, hash, graders)| Scorer { name, hash, graders })
                .collect();
            Scores::open(&directory, &scorers)
        });
        let scores = scores.transpose()?;
        Ok(Recorded {
            directory,
            places,
            results,
            settings: settings.unwrap_or_default(),
            scores: scores.unwrap_or_default(),
        })
    }

    pub fn path(&self) -> &Path {
        &self.directory.path
    }

    /// How many records count.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// `run.toml`, empty where there is none.
    pub fn settings(&self) -> &toml::Table {
        &self.settings
    }

    /// The task, by the name that it had in the registry.
    pub fn task(&self) -> Result<&str> {
        let task = self.settings.get("task").and_then(toml::Value::as_str);
        task.ok_or_else(|| Failure::missing(format!("`{}` doesn't name the run's task", self.run_toml())))
    }

    fn run_toml(&self) -> String {
        self.path().join("run.toml").display().to_string()
    }

    /// `results.json`, or a failure that says how to get it.
    pub fn results(&self) -> Result<&Value> {
        self.results.as_ref().ok_or_else(|| {
            let file = self.path().join("results.json");
            let failure = Failure::missing(format!("`{}` is missing: the run has never finished", file.display()));
            failure.help(format!("resume it: `host run --config {}`", self.run_toml()))
        })
    }

    /// Passes on all records, in the order of the data.
    pub(crate) fn each(&self, mut tell: impl FnMut(Record) -> Result<()>) -> Result<()> {
        if self.places.is_empty() {
            return Ok(());
        }
        let mut reader = Records::open(&self.directory, &self.scores)?;
        self.places.iter().try_for_each(|place| tell(reader.read_at(*place)?))
    }

    /// Calls `work` for every record, on several threads, until `stop` returns true.
    pub(crate) fn each_at_once(
        &self,
        threads: usize,
        stop: impl Fn() -> bool + Sync,
        work: impl Fn(Record) -> Result<()> + Sync,
    ) -> Result<()> {
        for_each_record(&self.directory, &self.scores, &self.places, threads, stop, work)
    }

    /// The place of each record, by what it pairs with in another run.
    pub(crate) fn places_by_key(&self) -> Result<HashMap<Key, u64>> {
        let mut reader = self.reader()?;
        let mut places = HashMap::new();
        for place in &self.places {
            places.insert(Key::of(&reader.read_at(*place)?), *place);
        }
        Ok(places)
    }

    /// Reads single records here and there.
    pub(crate) fn scattered(&self) -> Result<Records<'_>> {
        Records::reading_ahead(&self.directory, &self.scores, SCATTERED)
    }

    /// Reads records where they lie.
    pub(crate) fn reader(&self) -> Result<Records<'_>> {
        Records::open(&self.directory, &self.scores)
    }
}

fn is_run(path: &Path) -> Result<()> {
    if path.join("samples.jsonl").exists() {
        return Ok(());
    }
    let message = format!("`{}` is not a run directory: it has no samples.jsonl", path.display());
    Err(Failure::missing(message).help("`host ls runs` lists all runs"))
}
