//! `host export`: a run in the formats that others read.
//!
//! Some formats need no task: lm-eval's own files, Inspect's log, CSV and Markdown. All others belong to the task,
//! which writes them through the boundary. Records are read one by one, and files appear whole or not at all.

mod folder;
mod gaia_results;
mod inspect;
mod lm_eval;
mod sheet;

pub use folder::Folder;

pub use crate::run::recorded::Recorded;

use crate::failure::Result;
use crate::run::store::Records;
use crate::run::store::record::Record;
use plugin_api::client::Pages;
use plugin_api::{Reply, Row};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// The formats that need no task, each with what it is.
pub const GENERIC: [(&str, &str); 5] = [
    ("lm-eval", "results.json and samples_TASK.jsonl, as lm-eval writes them"),
    ("inspect", "a log that `inspect view` opens"),
    ("csv", "records.csv, a record a row"),
    (
        "gaia-results",
        "results.jsonl: id, accuracy, latency and both texts, as collections of GAIA's traces keep them",
    ),
    ("markdown", "results.md, the table with every number by group"),
];

impl Recorded {
    /// The records that have an answer, for a task that writes them.
    pub fn answered(&self) -> Result<Answered<'_>> {
        Ok(Answered {
            run: self,
            next: AtomicUsize::new(0),
            left_out: AtomicUsize::new(0),
            reader: Mutex::new(Records::open(&self.directory, &self.scores)?),
        })
    }

    /// Writes a generic format; false when there is none of this name.
    pub fn write(&self, format: &str, folder: &Folder) -> Result<bool> {
        match format {
            "lm-eval" => lm_eval::write(self, folder)?,
            "inspect" => inspect::write(self, folder)?,
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

/// A record's reply with the prompt's text: some formats have both.
fn with_prompt(record: Record) -> Option<Reply> {
    let asked = record.prompt();
    let mut reply = record.reply?;
    if let Some(prompt) = asked {
        let words = prompt.last_user_text();
        reply.other.entry(PROMPT).or_insert_with(|| words.into());
    }
    Some(reply)
}

/// The key in a reply's `other` under which a task that exports a run finds the prompt.
const PROMPT: &str = "prompt";

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
                reply: with_prompt(record),
            });
        }
        Ok(rows)
    }
}
