//! Asking the judge about every pair of answers.

use crate::ask::judge_server::JudgeServer;
use crate::ask::roles::Roles;
use crate::catalog::Resolved;
use crate::compare::Key;
use crate::export::Recorded;
use crate::failure::{Exit, Failure, Result};
use crate::run::record::Record;
use crate::run::store::directory::{Appender, for_each_line};
use crate::run::store::hash::hash_json;
use plugin_api::client::JudgeClient;
use plugin_api::{Callbacks, Case, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Where verdicts on pairs are kept, in the second run's directory.
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

/// The verdict on each pair. A pair that could not be judged has the reason.
#[derive(Debug, Default)]
pub struct PairVerdicts(pub HashMap<Key, std::result::Result<Verdict, String>>);

impl Contest<'_> {
    /// Rules on the pairs of two runs, except those that are known.
    pub fn run(&self, first: &Recorded, second: &Recorded) -> Result<PairVerdicts> {
        let card = self.judge.card()?;
        let identity = json!([self.resolved.scorer_identity(&card.version), self.roles.graders()]);
        let (file, known) = self.known(second)?;
        let file = Mutex::new(Appender::open(&file)?);
        let places = second.places_by_key()?;
        let other = Mutex::new(second.reader()?);
        let verdicts = Mutex::new(PairVerdicts::default());
        let threads = self.roles.threads_for(card.batch);
        let deadline = self.resolved.plugin.spec().deadline;
        let server = JudgeServer::start(self.judge, self.roles, card.batch, threads, deadline);
        let stop = || self.roles.stop_asked();
        first.each_at_once(threads, stop, |mine| {
            let key = Key::of(&mine);
            let Some(place) = places.get(&key) else { return Ok(()) };
            let theirs = other.lock().unwrap_or_else(PoisonError::into_inner).read_at(*place)?;
            if mine.reply.is_none() || theirs.reply.is_none() {
                return Ok(());
            }
            let line_key = hash_json(&json!([identity, mine.doc_hash, words(&mine), words(&theirs)]));
            let verdict = match known.get(&line_key) {
                Some(verdict) => Ok(verdict.clone()),
                None => match server.judge(case(&mine, &theirs)).0 {
                    Ok(verdict) => {
                        let line = Line {
                            key: line_key,
                            judge: self.name.to_owned(),
                            sample_id: mine.sample_id.clone(),
                            verdict: verdict.clone(),
                        };
                        file.lock().unwrap_or_else(PoisonError::into_inner).append(&line)?;
                        Ok(verdict)
                    }
                    Err(_) if stop() => return Ok(()), // cut short: the next command asks again
                    Err(error) => Err(error.to_string()),
                },
            };
            let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
            verdicts.0.insert(key, verdict);
            Ok(())
        })?;
        if self.roles.stop_asked() {
            return Err(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        Ok(verdicts.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    fn known(&self, second: &Recorded) -> Result<(PathBuf, HashMap<String, Verdict>)> {
        let file = second.path().join(FILE);
        let mut known = HashMap::new();
        if file.exists() {
            for_each_line(&file, |_, _, line| {
                // A line that a kill tore in two is asked again.
                if let Ok(line) = serde_json::from_slice::<Line>(line) {
                    known.insert(line.key, line.verdict);
                }
                Ok(())
            })?;
        }
        Ok((file, known))
    }
}

/// What of an answer a judge is shown.
fn words(record: &Record) -> Value {
    let reply = record.reply_in_words();
    json!(reply.map(|reply| (reply.text, reply.tool_calls)))
}

/// Both answers, as the judge is shown them.
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

/// What the verdicts cost: calls, dollars, and the versions of the models that ruled.
pub(super) fn cost(verdicts: &PairVerdicts) -> (u64, f64, Vec<String>) {
    let mut versions: Vec<String> = Vec::new();
    let (mut calls, mut dollars) = (0, 0.0);
    for verdict in verdicts.0.values().flatten() {
        calls += verdict.cost.calls;
        dollars += verdict.cost.dollars;
        versions.extend(verdict.model_version.clone());
    }
    versions.sort();
    versions.dedup();
    (calls, dollars, versions)
}

/// A text for a value of a record that may be text or structure.
pub(super) fn in_text(value: &Value) -> Value {
    match value {
        Value::String(_) | Value::Null => value.clone(),
        other => other.to_string().into(),
    }
}
