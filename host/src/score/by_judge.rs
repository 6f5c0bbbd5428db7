//! Judging a run: verdicts lie beside the records, so that a run can be judged later, again, and by several judges,
//! without the model.

use crate::ask::roles::{Noted, Roles};
use crate::failure::Result;
use crate::run::graded::GradedBy;
use crate::run::results::{Summary, metric_of};
use crate::run::statistics::Mean;
use crate::run::store::directory::RunDirectory;
use crate::run::store::hash::hash_json;
use crate::run::store::record::Record;
use crate::run::store::score::{JUDGED, ScoreEntry, ScoreStatus, judge_key};
use crate::run::store::scores::{LaterScore, Scorer, Scores, for_each_record};
use plugin_api::client::JudgeClient;
use plugin_api::{Callbacks, Case, JudgeCard, Metric};
use serde_json::{Value, json};
use std::sync::{Mutex, PoisonError};

/// What a judge's rulings came to.
#[derive(Debug, Default)]
pub struct Judged {
    /// The judge's registry name.
    pub name: String,
    pub metric: Metric,
    pub unscored: u64,
    pub failed: u64,
    pub dollars: f64,
    /// What the verdicts depend on beside the records.
    pub identity: Value,
    /// The models that the judge asked.
    pub graded_by: GradedBy,
}

/// A judge, and what its verdicts depend on.
pub struct Judging<'a> {
    pub name: &'a str,
    pub judge: &'a JudgeClient,
    /// The judge's settings and plugin.
    pub identity: &'a Value,
    /// The run's task as a scorer: a judge is shown the score it gave.
    pub task: Scorer<'a>,
    /// Models that the judge may ask, and the command's wish to stop.
    pub roles: &'a Roles,
    /// Answers to each question.
    pub chains: u32,
    /// Finds the clips of a record, for judges that hear.
    pub clips: Option<&'a ClipsOf<'a>>,
}

/// Finds the clips that a record's model heard.
pub type ClipsOf<'a> = dyn Fn(&Record) -> plugin_api::Result<Vec<plugin_api::Clip>> + Sync + 'a;

impl Judging<'_> {
    /// Judges the records at these places, except those that this very judge has judged before.
    pub fn run(&self, run: &RunDirectory, places: &[u64]) -> Result<Judged> {
        let card = self.judge.card()?;
        let identity = json!({ "judge": self.identity, "version": card.version });
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
        let judged = Mutex::new((Mean::default(), Judged::default()));
        let threads = self.roles.threads_for(card.batch);
        let stop = || self.roles.stop_asked();
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
                    let entry = self.rule(&record, &card, &hash);
                    if entry.status == ScoreStatus::Failed && stop() {
                        return Ok(()); // cut short: the next command asks again
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
            judged.1.add(&entry);
            match (entry.status, entry.values.get(JUDGED)) {
                (ScoreStatus::Scored, Some(value)) => judged.0.add(*value, record.cluster_among(self.chains)),
                _ => judged.1.unscored += 1,
            }
            Ok(())
        })?;
        let (mean, judged) = judged.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Judged {
            name: self.name.to_owned(),
            metric: metric_of(self.name, "judge", None, mean.estimate()),
            identity,
            ..judged
        })
    }

    /// Shows the judge one record.
    fn rule(&self, record: &Record, card: &JudgeCard, hash: &str) -> ScoreEntry {
        let own = record.own().filter(|own| own.status != ScoreStatus::Failed);
        let noted = Noted::new(self.roles);
        let verdict = self.case(record, card).and_then(|case| self.judge.judge(&case, &noted));
        let entry = match &verdict {
            Ok(verdict) => ScoreEntry::of_verdict(verdict),
            // A judge that fails has not ruled; the sample stays unscored and is counted.
            Err(error) => ScoreEntry::failed(error),
        };
        entry.by(hash, own.map(ScoreEntry::content_hash), noted.graders())
    }

    fn case(&self, record: &Record, card: &JudgeCard) -> plugin_api::Result<Case> {
        let mut prompt = record.prompt();
        // A judge is shown the sound when one of the models that it may ask can hear it.
        let hears = card.asks.iter().any(|role| self.roles.hears(role));
        if let (Some(prompt), Some(clips), true) = (&mut prompt, self.clips, hears) {
            prompt.clips = clips(record)?;
        }
        let own = record.own().filter(|own| own.status != ScoreStatus::Failed);
        Ok(Case {
            sample: record.sample(),
            prompt,
            reply: record.reply.clone().unwrap_or_default(),
            score: own.map(|_| record.score()),
            ..Case::default()
        })
    }
}

impl Judged {
    fn add(&mut self, entry: &ScoreEntry) {
        self.failed += u64::from(entry.status == ScoreStatus::Failed);
        self.dollars += entry
            .details
            .get("cost")
            .map_or(0.0, |cost| cost["dollars"].as_f64().unwrap_or(0.0));
        self.graded_by.add(entry);
    }

    /// What `results.json` says of it in `host.judges`.
    pub fn as_json(&self) -> Value {
        json!({
            "unscored": self.unscored, "failed": self.failed, "dollars": self.dollars, "n": self.metric.count,
            "identity": self.identity, "graders": self.graded_by.as_json(),
        })
    }
}

/// Puts a judge's rulings beside the other metrics.
pub fn add_judged(summary: &mut Summary, results: &mut Value, judged: &Judged) {
    let name = judged.name.as_str();
    let metric = judged.metric.clone();
    let task = summary.task.clone();
    results["results"][&task][format!("{name},judge")] = json!(metric.value);
    results["results"][&task][format!("{name}_stderr,judge")] =
        metric.stderr.map_or(json!("N/A"), |stderr| json!(stderr));
    results["results"][&task][format!("{name}_ci95,judge")] = json!(metric.interval);
    results["results"][&task][format!("{name}_n,judge")] = json!(metric.count);
    results["host"]["judges"][name] = judged.as_json();
    if judged.unscored > 0 {
        summary
            .marks
            .push(format!("judge {name} left {} answers unscored", judged.unscored));
    }
    if judged.failed > 0 {
        summary.marks.push(format!(
            "judge {name} failed on {} answers; the same command asks again",
            judged.failed
        ));
    }
    summary.metrics.push(metric);
}
