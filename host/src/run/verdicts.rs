//! Judging a run: verdicts lie beside the records in `verdicts.jsonl`, so that a run can be judged later, again, and by
//! several judges, without the model.

use super::directory::{Appender, RunDirectory, for_each_line};
use super::prepare::recorded_prompt;
use super::record::{Record, hash_json};
use super::roles::Roles;
use super::scores::{Scores, for_each_record};
use super::statistics::Mean;
use crate::failure::Result;
use plugin_api::client::JudgeClient;
use plugin_api::{Callbacks, Case, Error, Metric, Ruling, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Mutex;

/// One line of `verdicts.jsonl`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct Line {
    /// The record that was judged.
    key: String,
    judge: String,
    /// The judge's settings, version and plugin as a hash: another judge judges again.
    judge_hash: String,
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<super::record::RecordedError>,
}

/// What a judge's rulings came to.
#[derive(Debug, Default)]
pub struct Judged {
    pub metric: Metric,
    pub unscored: u64,
    pub failed: u64,
    pub dollars: f64,
}

/// A judge with the name and identity that its verdicts are kept under.
pub struct Judging<'a> {
    pub name: &'a str,
    pub judge: &'a JudgeClient,
    pub identity: &'a Value,
    /// Scores that came later than the records.
    pub scores: &'a Scores,
    /// Models that the judge may ask, and the command's wish to stop.
    pub roles: &'a Roles,
}

impl Judging<'_> {
    /// Judges the records at these places, except those that this very judge has judged before.
    pub fn run(&self, run: &RunDirectory, places: &[u64], tick: &(dyn Fn() + Sync)) -> Result<Judged> {
        let card = self.judge.card()?;
        let hash = hash_json(&json!([self.identity, card.version]));
        let path = run.path.join("verdicts.jsonl");
        let known = known_verdicts(&path, &hash)?;
        let file = Mutex::new(Appender::open(&path)?);
        let judged = Mutex::new((Mean::default(), Judged::default()));
        let threads = card.batch.clamp(1, 32) as usize;
        let stop = || self.roles.stop_asked();
        for_each_record(&run.samples(), self.scores, places, threads, stop, |record| {
            tick();
            if record.error.is_some() {
                return Ok(());
            }
            let (verdict, error) = match known.get(&record.key) {
                Some(verdict) => (verdict.clone(), None),
                None => {
                    let (verdict, error) = self.rule(&record);
                    let line = Line {
                        key: record.key.clone(),
                        judge: self.name.to_owned(),
                        judge_hash: hash.clone(),
                        verdict: verdict.clone(),
                        error: error.as_ref().map(Into::into),
                    };
                    let mut file = file.lock().unwrap_or_else(|poison| poison.into_inner());
                    file.append(&line)?;
                    (verdict, error)
                }
            };
            let mut judged = judged.lock().unwrap_or_else(|poison| poison.into_inner());
            judged.1.failed += u64::from(error.is_some());
            judged.1.dollars += verdict.cost.dollars;
            match (verdict.ruling, verdict.value) {
                (Ruling::Right | Ruling::Wrong | Ruling::Tie, Some(value)) => {
                    judged.0.add(value, record.cluster.as_deref())
                }
                _ => judged.1.unscored += 1,
            }
            Ok(())
        })?;
        let (mean, mut judged) = judged.into_inner().unwrap_or_else(|poison| poison.into_inner());
        judged.metric = super::results::metric_of(self.name, "judge", None, mean.estimate());
        Ok(judged)
    }

    fn rule(&self, record: &Record) -> (Verdict, Option<Error>) {
        let case = Case {
            sample: record.sample(),
            prompt: recorded_prompt(&record.arguments),
            reply: record.reply.clone().unwrap_or_default(),
            score: (!record.pending).then(|| record.score()),
            ..Case::default()
        };
        match self.judge.judge(&case, self.roles) {
            Ok(verdict) => (verdict, None),
            // A judge that fails has not ruled; the sample stays unscored and is counted.
            Err(error) => (Verdict::unscored(error.to_string()), Some(error)),
        }
    }
}

/// Verdicts of this judge by record. Those that failed are asked for again, and a torn last line is passed over.
fn known_verdicts(path: &std::path::Path, hash: &str) -> Result<HashMap<String, Verdict>> {
    let mut known = HashMap::new();
    for_each_line(path, |_, _, line| {
        if let Ok(read) = serde_json::from_slice::<Line>(line)
            && read.judge_hash == hash
            && read.error.is_none()
        {
            known.insert(read.key, read.verdict);
        }
        Ok(())
    })?;
    Ok(known)
}
