//! Judging a run: verdicts are stored next to the records, so that a run can be judged later, again, and by several
//! judges, without its model.

use super::judged::Judged;
use super::judges::{cut_short, identity_of};
use super::probes;
use crate::ask::judge_server::JudgeServer;
use crate::ask::roles::Roles;
use crate::failure::Result;
use crate::run::store::directory::RunDirectory;
use crate::run::store::hash::hash_json;
use crate::run::store::record::Record;
use crate::run::store::score::{Graders, ScoreEntry, ScoreStatus, judge_key};
use crate::run::store::scores::{LaterScore, Scorer, Scores, for_each_record};
use plugin_api::client::JudgeClient;
use plugin_api::{Callbacks, Case, Code, Error, JudgeCard};
use serde_json::Value;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// A judge, and what its verdicts depend on.
pub struct Judging<'a> {
    pub name: &'a str,
    pub judge: &'a JudgeClient,
    /// The time that each verdict may take, where the judge's plugin has one.
    pub deadline: Option<Duration>,
    /// The judge's settings and plugin.
    pub identity: &'a Value,
    /// The run's task as a scorer: a judge sees the score that it gave.
    pub task: Scorer<'a>,
    /// Models that the judge may ask, and the command's request to stop.
    pub roles: &'a Roles,
    /// The model that gave the answers: a judge may be the same model.
    pub answered_by: &'a Value,
    /// Answers to each question.
    pub chains: u32,
    /// Finds the clips of a record, for judges that hear.
    pub clips: Option<&'a ClipsOf<'a>>,
}

/// Finds the clips that a record's model heard.
pub type ClipsOf<'a> = dyn Fn(&Record) -> plugin_api::Result<Vec<plugin_api::Clip>> + Sync + 'a;

impl Judging<'_> {
    /// Judges the records at these places, except those with a verdict by the same judge.
    pub fn run(&self, run: &RunDirectory, places: &[u64]) -> Result<Judged> {
        let card = self.judge.card()?;
        let identity = identity_of(self.identity, &card);
        let hash = hash_json(&identity);
        let graders = self.roles.graders();
        let key = judge_key(self.name, self.task.name);
        let scorer = Scorer {
            name: &key,
            hash: &hash,
            graders: &graders,
        };
        let scores = Scores::open(run, &[self.task, scorer])?;
        let file = Mutex::new(Scores::appender(run)?);
        let judged = Mutex::new(Judged::new(self.name, &card, identity));
        let threads = self.roles.threads_for(card.batch);
        let server = JudgeServer::start(self.judge, self.roles, card.batch, threads, self.deadline);
        let over = OnceLock::new();
        let stop = || self.roles.stop_asked() || over.get().is_some() || self.roles.given_up().is_some();
        for_each_record(run, &scores, places, threads, stop, |record| {
            if record.error.is_some() || record.reply.is_none() {
                return Ok(());
            }
            let known = record
                .scores
                .get(&key)
                .filter(|entry| entry.status != ScoreStatus::Failed);
            let entry = match known {
                Some(entry) => entry.clone(),
                None => {
                    let (entry, error) = self.rule(&server, &record, &card, &hash);
                    if let Some(error) = error {
                        if error.code == Code::RATE_LIMITED {
                            let _ = over.set(error);
                        }
                        if stop() {
                            return Ok(()); // cut short: the next command asks again
                        }
                    }
                    let line = LaterScore {
                        key: &record.key,
                        name: &key,
                        score: &entry,
                    };
                    file.lock().unwrap_or_else(PoisonError::into_inner).append(&line)?;
                    entry
                }
            };
            let mut judged = judged.lock().unwrap_or_else(PoisonError::into_inner);
            judged.add(&entry, record.cluster_among(self.chains));
            Ok(())
        })?;
        let mut judged = judged.into_inner().unwrap_or_else(PoisonError::into_inner);
        let asks = card.asks.iter().cloned().collect();
        let why = over.into_inner().or_else(|| self.roles.given_up());
        judged.probes = probes::kept(run)
            .remove(self.name)
            .filter(|probes| probes.identity == hash && probes.graders == self.roles.graders_of(&asks));
        judged.cut_short = why.map(|error| cut_short(self.name, error));
        let of_role = |role: &String| Some((role.clone(), self.roles.models.get(role)?.engine.clone()));
        judged.engines = card.asks.iter().filter_map(of_role).collect();
        judged.self_judged = card
            .asks
            .iter()
            .filter_map(|role| self.roles.models.get(role))
            .any(|player| same_model(&player.identity, self.answered_by));
        Ok(judged)
    }

    /// Shows the judge one record.
    fn rule(&self, server: &JudgeServer, record: &Record, card: &JudgeCard, hash: &str) -> (ScoreEntry, Option<Error>) {
        let own = record.own().filter(|own| own.status != ScoreStatus::Failed);
        let (verdict, graders) = match self.case(record, card) {
            Ok(case) => server.judge(case),
            Err(error) => (Err(error), Graders::default()),
        };
        let entry = match &verdict {
            Ok(verdict) => ScoreEntry::of_verdict(verdict),
            // A judge that fails has given no verdict; the sample stays unscored and is counted.
            Err(error) => ScoreEntry::failed(error),
        };
        let entry = entry.by(hash, own.map(ScoreEntry::content_hash), graders);
        (entry, verdict.err())
    }

    fn case(&self, record: &Record, card: &JudgeCard) -> plugin_api::Result<Case> {
        let mut prompt = record.prompt();
        // A judge gets the sound if one of the models that it may ask can hear.
        let hears = card.asks.iter().any(|role| self.roles.hears(role));
        if let (Some(prompt), Some(clips), true) = (&mut prompt, self.clips, hears) {
            prompt.clips = clips(record)?;
        }
        let own = record.own().filter(|own| own.status != ScoreStatus::Failed);
        Ok(Case {
            sample: record.sample(),
            prompt,
            reply: record.reply_in_words().unwrap_or_default(),
            score: own.map(|_| record.score()),
            ..Case::default()
        })
    }
}

/// Whether two models are the same: one adapter with the same weights, or one model of one service.
fn same_model(one: &Value, other: &Value) -> bool {
    let what = |model: &Value| {
        let setting = |name: &str| model["settings"][name].clone();
        (
            model["adapter"].clone(),
            model["sources"].clone(),
            setting("model"),
            setting("base_url"),
        )
    };
    what(one) == what(other)
}
