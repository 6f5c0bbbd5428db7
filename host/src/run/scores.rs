//! Scores that came later than their answers: of a run with `--predict-only`, and of another scorer than the run's own.
//!
//! A record is never rewritten, so they lie beside the records in `scores.jsonl`, each under the hash of the task that
//! gave it: settings, data and version. The last line of a record and a scorer counts, and none is ever lost.

use super::directory::{Appender, LineReader, RunDirectory, for_each_line};
use super::record::{Record, RecordedError, Standing};
use super::roles::Roles;
use crate::failure::Result;
use plugin_api::client::TaskClient;
use plugin_api::{Callbacks, Error, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One line of `scores.jsonl`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    /// The record that was scored.
    key: String,
    /// The task that scored it, as a hash.
    scorer: String,
    version: String,
    status: Status,
    /// The answer as it was understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    answer: Option<String>,
    metrics: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<RecordedError>,
}

impl Line {
    fn lay_over(self, record: &mut Record) {
        record.pending = false;
        record.unfilter();
        if let Some(answer) = self.answer {
            record.filtered_resps = serde_json::json!([answer]);
        }
        record.status = match self.error {
            Some(_) => Standing::Failed,
            None => self.status.into(),
        };
        record.metrics = self.metrics;
        record.details = self.details;
        record.error = self.error;
    }
}

/// Where the scores of one scorer lie.
#[derive(Debug, Default)]
pub struct Scores {
    path: PathBuf,
    places: HashMap<String, u64>,
}

impl Scores {
    /// What this scorer has given so far.
    pub fn open(run: &RunDirectory, scorer: &str) -> Result<Scores> {
        #[derive(Deserialize)]
        struct Brief {
            key: String,
            scorer: String,
        }
        let path = run.path.join("scores.jsonl");
        let mut places = HashMap::new();
        for_each_line(&path, |_, place, line| {
            if let Ok(brief) = serde_json::from_slice::<Brief>(line)
                && brief.scorer == scorer
            {
                places.insert(brief.key, place);
            }
            Ok(())
        })?;
        Ok(Scores { path, places })
    }

    /// Reads records with these scores laid over them.
    pub fn reader(&self, samples: &Path) -> Result<ScoredReader<'_>> {
        let lines = match self.places.is_empty() {
            true => None,
            false => Some(LineReader::open(&self.path)?),
        };
        Ok(ScoredReader {
            records: LineReader::open(samples)?,
            lines,
            scores: self,
        })
    }
}

/// Records as one scorer sees them.
pub struct ScoredReader<'a> {
    records: LineReader,
    lines: Option<LineReader>,
    scores: &'a Scores,
}

impl ScoredReader<'_> {
    pub fn read_at(&mut self, offset: u64) -> Result<Record> {
        let mut record: Record = self.records.read_at(offset)?;
        if let (Some(lines), Some(place)) = (&mut self.lines, self.scores.places.get(&record.key)) {
            let line: Line = lines.read_at(*place)?;
            line.lay_over(&mut record);
        }
        Ok(record)
    }
}

/// Does something with the records at these places as a scorer sees them, on several threads, until `stop` says that it is enough.
pub fn for_each_record(
    samples: &Path,
    scores: &Scores,
    places: &[u64],
    threads: usize,
    stop: impl Fn() -> bool + Sync,
    work: impl Fn(Record) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let thread = || -> Result<()> {
        let mut reader = scores.reader(samples)?;
        while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            if stop() {
                break;
            }
            work(reader.read_at(*place)?)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(thread)).collect();
        let joined = threads.into_iter().map(|thread| {
            let panicked = |_| Err(Error::msg("a thread that read records panicked").into());
            thread.join().unwrap_or_else(panicked)
        });
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

/// A task that scores answers which are there already.
pub struct Scoring<'a> {
    pub task: &'a TaskClient,
    /// The task as a hash.
    pub scorer: &'a str,
    pub version: &'a str,
    /// True when the scores in the records themselves are this scorer's.
    pub own: bool,
    /// Score again what this scorer has scored.
    pub fresh: bool,
    /// Models that the task may ask, and the command's wish to stop.
    pub roles: &'a Roles,
}

impl Scoring<'_> {
    /// Scores the answers at these places that this scorer has not scored, and gives all that it ever gave.
    pub fn run(&self, run: &RunDirectory, places: &[u64]) -> Result<Scores> {
        let known = Scores::open(run, self.scorer)?;
        if places.is_empty() {
            return Ok(known);
        }
        // Opened by the first score there is to write.
        let file: Mutex<Option<Appender>> = Mutex::default();
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(4);
        let stop = || self.roles.stop_asked();
        for_each_record(&run.samples(), &Scores::default(), places, threads, stop, |record| {
            let done = known.places.contains_key(&record.key) || (self.own && !record.pending);
            if record.reply.is_none() || (done && !self.fresh) {
                return Ok(());
            }
            let Some(line) = self.score(&record) else { return Ok(()) };
            let mut file = file.lock().unwrap_or_else(|poison| poison.into_inner());
            let file = match &mut *file {
                Some(file) => file,
                none => none.insert(Appender::open(&known.path)?),
            };
            file.append(&line)
        })?;
        Scores::open(run, self.scorer)
    }

    /// None when the scorer was asked to stop.
    fn score(&self, record: &Record) -> Option<Line> {
        let reply = record.reply.as_ref()?;
        let mut line = Line {
            key: record.key.clone(),
            scorer: self.scorer.to_owned(),
            version: self.version.to_owned(),
            ..Line::default()
        };
        match self.task.score(&record.sample(), reply, self.roles) {
            Ok(score) => {
                let (answer, status) = (score.answer.clone(), score.status);
                let mut scored = Record::default();
                scored.of_score(score);
                line = Line {
                    status,
                    metrics: scored.metrics,
                    details: scored.details,
                    answer,
                    ..line
                };
            }
            Err(_) if self.roles.stop_asked() => return None,
            Err(error) => line.error = Some(RecordedError::from(&error)),
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Reply, Score};

    #[test]
    fn a_later_score_takes_the_place_of_the_whole_former_one() {
        let mut record = Record::default();
        record.of_reply(Reply::text("It is B."));
        record.of_score(Score::graded(true).with_answer("B").with_detail("how", "letter"));
        let mut later = Record {
            pending: true,
            ..record.clone()
        };
        let line = Line {
            status: Status::NoAnswer,
            metrics: [("acc".to_owned(), 0.0.into())].into(),
            ..Line::default()
        };
        line.lay_over(&mut later);
        assert_eq!(later.status, Standing::NoAnswer);
        assert_eq!(later.filtered_resps, serde_json::json!(["It is B."]));
        assert!(later.details.is_empty() && !later.pending);
        assert_eq!((later.reply, later.resps), (record.reply, record.resps));
    }
}
