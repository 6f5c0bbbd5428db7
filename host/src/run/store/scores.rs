//! Scores that came later than their records, and records read together with them.
//!
//! A record is never rewritten. A later score is a line of `scores.jsonl` with the record's key and the scorer's name;
//! the last line that the scorer gave as it is now counts, and none is ever lost.

use super::directory::{AHEAD, Appender, LineReader, RunDirectory};
use super::hash::short_hash;
use super::record::Record;
pub use super::score::Scorer;
use super::score::{Graders, RecordedError, ScoreEntry, ScoreStatus};
use crate::failure::Result;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// One line of `scores.jsonl`.
#[derive(Debug, Serialize)]
pub struct LaterScore<'a> {
    /// The record that was scored.
    pub key: &'a str,
    /// The scorer's name in the record's `scores`.
    pub name: &'a str,
    pub score: &'a ScoreEntry,
}

/// The same as it is read; the last fields are what lines said before scorers had names.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    key: String,
    name: Option<String>,
    score: ScoreEntry,
    scorer: String,
    status: ScoreStatus,
    answer: Option<String>,
    metrics: BTreeMap<String, Value>,
    details: Map<String, Value>,
    error: Option<RecordedError>,
}

impl Line {
    /// The scorer's name, where it had one, and what it said.
    fn unpack(self) -> (Option<String>, ScoreEntry) {
        if self.name.is_some() {
            return (self.name, self.score);
        }
        let number = |(name, value): (String, Value)| (name, value.as_f64().unwrap_or(f64::NAN));
        let entry = ScoreEntry {
            status: if self.error.is_some() {
                ScoreStatus::Failed
            } else {
                self.status
            },
            values: self.metrics.into_iter().map(number).collect(),
            answer: self.answer,
            details: self.details,
            error: self.error,
            ..ScoreEntry::default()
        };
        (None, entry.by(&self.scorer, None, Graders::new()))
    }
}

/// The offsets of some scorers' later scores.
#[derive(Debug, Default)]
pub struct Scores {
    path: PathBuf,
    /// The task's name: the scorer whose score is a record's own.
    task: String,
    /// By scorer and the hash of the record's key.
    places: HashMap<String, HashMap<[u8; 16], u64>>,
}

impl Scores {
    /// What these scorers have given so far. The run's task is the first of them.
    pub fn open(run: &RunDirectory, scorers: &[Scorer]) -> Result<Scores> {
        let path = run.path.join("scores.jsonl");
        let task = scorers.first().map(|scorer| scorer.name.to_owned()).unwrap_or_default();
        let mut places: HashMap<String, HashMap<[u8; 16], u64>> = HashMap::new();
        run.for_each_line(&path, |_, place, line| {
            let Ok(line) = serde_json::from_slice::<Line>(line) else {
                return Ok(());
            };
            let key = short_hash(&line.key);
            let (name, entry) = line.unpack();
            let name = name.unwrap_or_else(|| task.clone());
            let scorer = scorers.iter().find(|scorer| scorer.name == name);
            if scorer.is_some_and(|scorer| scorer.gave(&entry.scorer, &entry.graders)) {
                places.entry(name).or_default().insert(key, place);
            }
            Ok(())
        })?;
        Ok(Scores { path, task, places })
    }

    /// Opens the file for more.
    pub fn appender(run: &RunDirectory) -> Result<Appender> {
        Appender::open(&run.path.join("scores.jsonl"))
    }
}

/// Records with their later scores laid over them.
pub struct Records<'a> {
    records: LineReader,
    lines: Option<LineReader>,
    scores: &'a Scores,
}

impl Records<'_> {
    pub fn open<'a>(run: &RunDirectory, scores: &'a Scores) -> Result<Records<'a>> {
        Records::reading_ahead(run, scores, AHEAD)
    }

    /// The same, with room for so many bytes of a file at a time.
    pub fn reading_ahead<'a>(run: &RunDirectory, scores: &'a Scores, ahead: usize) -> Result<Records<'a>> {
        let lines = match scores.places.is_empty() {
            true => None,
            false => Some(LineReader::open(&scores.path, ahead)?),
        };
        Ok(Records {
            records: LineReader::open(&run.samples(), ahead)?,
            lines,
            scores,
        })
    }

    /// The record at this place of `samples.jsonl`.
    pub fn read_at(&mut self, offset: u64) -> Result<Record> {
        let mut record = self.records.record_at(offset)?;
        record.name_task(&self.scores.task);
        let Some(lines) = &mut self.lines else {
            return Ok(record);
        };
        let (key, mut later) = (short_hash(&record.key), Vec::new());
        for (name, places) in &self.scores.places {
            if let Some(place) = places.get(&key) {
                let (_, entry) = lines.read_at::<Line>(*place)?.unpack();
                later.push((name.clone(), entry));
            }
        }
        // The task's own score first, since it says whether a judge saw the score that now counts.
        later.sort_by_key(|(name, _)| *name != self.scores.task);
        for (name, entry) in later {
            if entry.shown.is_none() || entry.shown == record.own().map(ScoreEntry::content_hash) {
                record.scores.insert(name, entry);
            }
        }
        Ok(record)
    }
}

/// Processes the records at these places on several threads, until `stop` returns true.
pub fn for_each_record(
    run: &RunDirectory,
    scores: &Scores,
    places: &[u64],
    threads: usize,
    stop: impl Fn() -> bool + Sync,
    work: impl Fn(Record) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let thread = || -> Result<()> {
        let mut reader = Records::open(run, scores)?;
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
            let panicked = |_| Err(plugin_api::Error::msg("a thread that read records panicked").into());
            thread.join().unwrap_or_else(panicked)
        });
        joined.collect::<Result<Vec<()>>>()
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::store::score::Grader;
    use plugin_api::{Reply, Score, Verdict};

    fn graders(identity: &str) -> Graders {
        let grader = Grader {
            model: "m".to_owned(),
            identity: identity.to_owned(),
        };
        [("judge".to_owned(), grader)].into()
    }

    struct Bench {
        _folder: tempfile::TempDir,
        run: RunDirectory,
    }

    /// A run of one record, which the task `t` scored as `first`.
    fn bench(first: ScoreEntry) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path(), false).unwrap();
        let mut record = Record {
            key: "k".to_owned(),
            task: "t".to_owned(),
            ..Record::default()
        };
        record.of_reply(Reply::text("It is B."));
        record.score_by_task(first);
        run.appender().unwrap().append(&record.line()).unwrap();
        Bench { _folder: folder, run }
    }

    impl Bench {
        fn later(&self, name: &str, score: &ScoreEntry) {
            let line = LaterScore { key: "k", name, score };
            Scores::appender(&self.run).unwrap().append(&line).unwrap();
        }

        fn read(&self, hash: &str, graders: &Graders) -> Record {
            let scorer = |name, hash| Scorer { name, hash, graders };
            let scores = Scores::open(&self.run, &[scorer("t", hash), scorer("j", "judge")]).unwrap();
            Records::open(&self.run, &scores).unwrap().read_at(0).unwrap()
        }
    }

    fn graded(right: bool) -> ScoreEntry {
        ScoreEntry::of_score(Score::graded(right).with_answer("B"))
    }

    #[test]
    fn a_later_score_takes_the_place_of_the_whole_former_one() {
        let bench = bench(graded(true).by("a", None, Graders::new()));
        let later = ScoreEntry::of_score(Score::no_answer()).by("b", None, Graders::new());
        bench.later("t", &later);
        let record = bench.read("b", &Graders::new());
        assert_eq!(record.own(), Some(&later));
        assert_eq!(record.answer().as_deref(), Some("It is B."));
        assert_eq!(bench.read("a", &Graders::new()).own().unwrap().values["acc"], 1.0);
    }

    #[test]
    fn a_score_counts_as_long_as_its_grader_is_the_same() {
        let bench = bench(graded(true).by("a", None, graders("x")));
        bench.later("t", &graded(false).by("a", None, graders("y")));
        for (now, expected) in [(graders("x"), 1.0), (graders("y"), 0.0), (Graders::new(), 0.0)] {
            assert_eq!(bench.read("a", &now).own().unwrap().values["acc"], expected, "{now:?}");
        }
    }

    #[test]
    fn a_verdict_counts_as_long_as_the_score_that_it_was_shown() {
        let bench = bench(graded(true).by("a", None, Graders::new()));
        let shown = |hash: &str| bench.read(hash, &Graders::new()).own().map(ScoreEntry::content_hash);
        let verdict = ScoreEntry::of_verdict(&Verdict::of(true, "")).by("judge", shown("a"), Graders::new());
        bench.later("j", &verdict);
        assert_eq!(bench.read("a", &Graders::new()).scores["j"], verdict);
        bench.later("t", &graded(true).by("b", None, Graders::new()));
        assert!(!bench.read("b", &Graders::new()).scores.contains_key("j"));
    }

    #[test]
    fn a_line_from_before_scorers_had_names_is_the_tasks() {
        let bench = bench(graded(true).by("a", None, Graders::new()));
        let line = serde_json::json!({ "key": "k", "scorer": "b", "status": "scored", "metrics": { "acc": 0.5 } });
        Scores::appender(&bench.run).unwrap().append(&line).unwrap();
        assert_eq!(bench.read("b", &Graders::new()).own().unwrap().values["acc"], 0.5);
    }
}
