//! Asking the judge about every pair of answers.

use crate::ask::judge_server::JudgeServer;
use crate::ask::roles::Roles;
use crate::catalog::Resolved;
use crate::compare::Key;
use crate::export::Recorded;
use crate::failure::{Doing, Exit, Failure, Result};
use crate::run::record::Record;
use crate::run::store::directory::{Appender, for_each_line};
use crate::run::store::hash::hash_json;
use crate::score::judges::cut_short;
use plugin_api::client::JudgeClient;
use plugin_api::{Callbacks, Case, Code, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The file of verdicts on pairs, in the second run's directory.
const FILE: &str = "pairs.jsonl";

/// A judge of pairs, ready to rule.
pub struct Contest<'a> {
    /// The judge and its model: `winner[gemini]`.
    pub name: &'a str,
    pub judge: &'a JudgeClient,
    pub resolved: &'a Resolved,
    pub roles: &'a Roles,
}

/// A line of the file of verdicts.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    /// The hash of the judge, its models and both answers.
    key: String,
    judge: String,
    sample_id: String,
    verdict: Verdict,
}

/// The verdict on a pair, or why there is none.
pub type PairVerdict = std::result::Result<Verdict, String>;

/// The place of each verdict in the file of verdicts, so that memory does not grow with their texts.
#[derive(Debug)]
pub struct PairVerdicts {
    file: PathBuf,
    places: HashMap<Key, std::result::Result<u64, String>>,
    pub calls: u64,
    pub dollars: f64,
    /// The versions of the models that ruled.
    pub versions: BTreeSet<String>,
}

impl PairVerdicts {
    fn new(file: &Path) -> PairVerdicts {
        PairVerdicts {
            file: file.to_owned(),
            places: HashMap::new(),
            calls: 0,
            dollars: 0.0,
            versions: BTreeSet::new(),
        }
    }

    fn add(&mut self, key: Key, place: u64, verdict: &Verdict) {
        self.places.insert(key, Ok(place));
        self.calls += verdict.cost.calls;
        self.dollars += verdict.cost.dollars;
        self.versions.extend(verdict.model_version.clone());
    }

    pub fn reader(&self) -> Result<PairReader<'_>> {
        Ok(PairReader {
            places: &self.places,
            lines: Lines::open(&self.file)?,
        })
    }
}

/// Reads verdicts on pairs.
pub struct PairReader<'a> {
    places: &'a HashMap<Key, std::result::Result<u64, String>>,
    lines: Lines,
}

impl PairReader<'_> {
    pub fn get(&mut self, key: &Key) -> Result<Option<PairVerdict>> {
        match self.places.get(key) {
            None => Ok(None),
            Some(Err(why)) => Ok(Some(Err(why.clone()))),
            Some(Ok(place)) => self.lines.at(*place).map(|verdict| Some(Ok(verdict))),
        }
    }
}

/// Reads lines of the file of verdicts by their places.
struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
}

impl Lines {
    fn open(path: &Path) -> Result<Lines> {
        let file = File::open(path).or_fail(Exit::Missing, || format!("cannot read `{}`", path.display()))?;
        Ok(Lines {
            path: path.to_owned(),
            reader: BufReader::new(file),
        })
    }

    fn at(&mut self, place: u64) -> Result<Verdict> {
        let failed = || format!("cannot read the verdict at byte {place} of `{}`", self.path.display());
        let mut line = Vec::new();
        let read = self
            .reader
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.reader.read_until(b'\n', &mut line));
        read.or_fail(Exit::Missing, failed)?;
        let line: Line = serde_json::from_slice(&line).or_fail(Exit::Missing, failed)?;
        Ok(line.verdict)
    }
}

impl Contest<'_> {
    /// Rules on the pairs of two runs, except those with a known verdict.
    pub fn run(&self, first: &Recorded, second: &Recorded) -> Result<PairVerdicts> {
        let card = self.judge.card()?;
        let identity = json!([self.resolved.scorer_identity(&card.version), self.roles.graders()]);
        let (file, known) = self.known(second)?;
        let verdicts = Mutex::new(PairVerdicts::new(&file));
        let appender = Mutex::new(Appender::open(&file)?);
        let lines = Mutex::new(Lines::open(&file)?);
        let places = second.places_by_key()?;
        let other = Mutex::new(second.reader()?);
        let threads = self.roles.threads_for(card.batch);
        let deadline = self.resolved.plugin.spec().deadline;
        let server = JudgeServer::start(self.judge, self.roles, card.batch, threads, deadline);
        let over = OnceLock::new();
        let stop = || self.roles.stop_asked() || over.get().is_some() || self.roles.given_up().is_some();
        first.each_at_once(threads, stop, |mine| {
            let key = Key::of(&mine);
            let Some(place) = places.get(&key) else { return Ok(()) };
            let theirs = other.lock().unwrap_or_else(PoisonError::into_inner).read_at(*place)?;
            if mine.reply.is_none() || theirs.reply.is_none() {
                return Ok(());
            }
            let line_key = hash_json(&json!([identity, mine.doc_hash, words(&mine), words(&theirs)]));
            let verdict = match known.get(&line_key) {
                Some(place) => {
                    let read = lines.lock().unwrap_or_else(PoisonError::into_inner).at(*place)?;
                    Ok((*place, read))
                }
                None => match server.judge(case(&mine, &theirs)).0 {
                    Ok(verdict) => {
                        let line = Line {
                            key: line_key,
                            judge: self.name.to_owned(),
                            sample_id: mine.sample_id.clone(),
                            verdict,
                        };
                        let mut appender = appender.lock().unwrap_or_else(PoisonError::into_inner);
                        let place = appender.append_placed(&line)?;
                        Ok((place, line.verdict))
                    }
                    Err(error) => {
                        if error.code == Code::RATE_LIMITED {
                            let _ = over.set(error.clone());
                        }
                        if stop() {
                            return Ok(()); // cut short: the next command asks again
                        }
                        Err(error.to_string())
                    }
                },
            };
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            match verdict {
                Ok((place, verdict)) => verdicts.add(key, place, &verdict),
                Err(why) => drop(verdicts.places.insert(key, Err(why))),
            }
            Ok(())
        })?;
        if self.roles.stop_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        match over.into_inner().or_else(|| self.roles.given_up()) {
            Some(error) => Err(cut_short(self.name, error)),
            None => Ok(verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// The file of verdicts, and the place of each verdict in it.
    fn known(&self, second: &Recorded) -> Result<(PathBuf, HashMap<String, u64>)> {
        let file = second.path().join(FILE);
        let mut known = HashMap::new();
        if file.exists() {
            for_each_line(&file, |_, place, line| {
                // A verdict whose line was torn by a kill is asked for again.
                if let Ok(line) = serde_json::from_slice::<Line>(line) {
                    known.insert(line.key, place);
                }
                Ok(())
            })?;
        }
        Ok((file, known))
    }
}

/// The part of an answer that a judge sees.
fn words(record: &Record) -> Value {
    let reply = record.reply_in_words();
    json!(reply.map(|reply| (reply.text, reply.tool_calls)))
}

/// Both answers, as the judge sees them.
fn case(mine: &Record, theirs: &Record) -> Case {
    Case {
        sample: mine.sample(),
        prompt: mine.prompt(),
        reply: mine.reply_in_words().unwrap_or_default(),
        score: mine.own().map(|_| mine.score()),
        other: theirs.reply_in_words(),
        other_score: theirs.own().map(|_| theirs.score()),
    }
}

/// A record's value as text, whether it is text or a structure.
pub(super) fn in_text(value: &Value) -> Value {
    match value {
        Value::String(_) | Value::Null => value.clone(),
        other => other.to_string().into(),
    }
}
