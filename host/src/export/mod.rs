//! `host export`: a run in the formats that others read.
//!
//! Three formats need no task: lm-eval's own files, CSV and Markdown. All others belong to the task, which writes them
//! through the boundary. Records are read one by one, and files appear whole or not at all.

mod folder;
mod gaia_results;
mod lm_eval;
mod sheet;

pub use folder::Folder;

use crate::failure::{Failure, Result};
use crate::run::graded::graders_of;
use crate::run::record::Record;
use crate::run::store::directory::{RunDirectory, read_if_there};
use crate::run::store::hash::hash_json;
use crate::run::store::pair_key::Key;
use crate::run::store::score::{Graders, judge_key};
use crate::run::store::scores::{Scorer, for_each_record};
use crate::run::store::{Records, Scores, places};
use plugin_api::Row;
use plugin_api::client::Pages;
use serde_json::Value;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The formats that need no task, each with what it is.
pub const GENERIC: [(&str, &str); 4] = [
    ("lm-eval", "results.json and samples_TASK.jsonl, as lm-eval writes them"),
    ("csv", "records.csv, a record a row"),
    (
        "gaia-results",
        "results.jsonl: id, accuracy, latency and both texts, as collections of GAIA's traces keep them",
    ),
    ("markdown", "results.md, the table with every number by group"),
];

/// A finished run, or one that was cut short.
pub struct Recorded {
    directory: RunDirectory,
    places: Vec<u64>,
    /// `results.json`; none while a run has never come to an end.
    results: Option<Value>,
    settings: toml::Table,
    /// What the run's scorer said later than the records.
    scores: Scores,
}

impl Recorded {
    pub fn open(path: &Path) -> Result<Recorded> {
        if !path.join("samples.jsonl").exists() {
            let message = format!("`{}` is no run directory: it has no samples.jsonl", path.display());
            return Err(Failure::missing(message).help("`host ls runs` lists those that there are"));
        }
        let directory = RunDirectory::open(path, false)?;
        // Repairs a torn last line, and refuses a file with a broken one.
        directory.repair()?;
        let places = places::all(&directory)?;
        let results = read_if_there(&path.join("results.json")).and_then(|text| serde_json::from_str(&text).ok());
        let results: Option<Value> = results;
        let settings = read_if_there(&path.join("run.toml")).and_then(|text| text.parse().ok());
        // The scores that the results are made of: the task's own first, then the judges'.
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

    /// The task, by the name that it had in the registry.
    pub fn task(&self) -> Result<&str> {
        let task = self.settings.get("task").and_then(toml::Value::as_str);
        task.ok_or_else(|| Failure::missing(format!("`{}` doesn't say which task it is a run on", self.run_toml())))
    }

    fn run_toml(&self) -> String {
        self.path().join("run.toml").display().to_string()
    }

    /// `results.json`, or a failure that says how it is had.
    pub fn results(&self) -> Result<&Value> {
        self.results.as_ref().ok_or_else(|| {
            let file = self.path().join("results.json");
            let failure = Failure::missing(format!(
                "`{}` is not there: the run never came to its end",
                file.display()
            ));
            failure.help(format!("go on with it: `host run --config {}`", self.run_toml()))
        })
    }

    /// The records that have an answer, for a task that writes them.
    pub fn answered(&self) -> Result<Answered<'_>> {
        Ok(Answered {
            run: self,
            next: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            reader: Mutex::new(Records::open(&self.directory, &self.scores)?),
        })
    }

    /// Tells all records, by their sample's place in the data.
    pub(crate) fn each(&self, mut tell: impl FnMut(Record) -> Result<()>) -> Result<()> {
        let mut reader = Records::open(&self.directory, &self.scores)?;
        self.places.iter().try_for_each(|place| tell(reader.read_at(*place)?))
    }

    /// Does something with every record, on several threads, until `stop` says that it is enough.
    pub(crate) fn each_at_once(
        &self,
        threads: usize,
        stop: impl Fn() -> bool + Sync,
        work: impl Fn(Record) -> Result<()> + Sync,
    ) -> Result<()> {
        for_each_record(&self.directory, &self.scores, &self.places, threads, stop, work)
    }

    /// Where each record lies, by what it pairs with in another run.
    pub(crate) fn places_by_key(&self) -> Result<HashMap<Key, u64>> {
        let mut reader = self.reader()?;
        let mut places = HashMap::new();
        for place in &self.places {
            places.insert(Key::of(&reader.read_at(*place)?), *place);
        }
        Ok(places)
    }

    /// Reads records where they lie.
    pub(crate) fn reader(&self) -> Result<Records<'_>> {
        Records::open(&self.directory, &self.scores)
    }

    /// The run's directory.
    pub(crate) fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// Writes a generic format; false when there is none of this name.
    pub fn write(&self, format: &str, folder: &Folder) -> Result<bool> {
        match format {
            "lm-eval" => lm_eval::write(self, folder)?,
            "csv" => sheet::write(self, folder)?,
            "gaia-results" => gaia_results::write(self, folder)?,
            "markdown" => {
                let summary = crate::run::results::summary_of(self.results()?);
                folder.add(
                    "results.md",
                    &crate::run::results::table(&[summary], crate::run::results::Groups::All),
                )?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}

/// Records with their replies, read back a page at a time.
pub struct Answered<'a> {
    run: &'a Recorded,
    next: AtomicUsize,
    left_out: AtomicUsize,
    reader: Mutex<Records<'a>>,
}

impl Answered<'_> {
    /// How many had no answer or no score, so far.
    pub fn left_out(&self) -> usize {
        self.left_out.load(Ordering::Relaxed)
    }
}

impl Pages for Answered<'_> {
    fn page(&self) -> plugin_api::Result<Vec<Row>> {
        const PAGE: usize = 256;
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rows = Vec::new();
        while rows.len() < PAGE {
            let Some(place) = self.run.places.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let record = reader.read_at(*place).map_err(|failure| failure.error)?;
            if record.failure().is_some() || record.pending() {
                self.left_out.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            rows.push(Row {
                sample: record.sample(),
                score: record.score(),
                reply: record.reply,
            });
        }
        Ok(rows)
    }
}
