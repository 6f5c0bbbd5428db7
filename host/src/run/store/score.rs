//! One scorer's result for one record: the task's own scorer, another version of it, or a judge.

use super::hash::hash_json;
use plugin_api::{Error, Ruling, Score, Status, Verdict};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The outcome of scoring a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScoreStatus {
    #[default]
    Scored,
    /// The reply names no answer: counted as wrong, and counted apart.
    NoAnswer,
    /// The scorer could not tell: left out of the mean, and counted.
    Unscored,
    /// The scorer failed, and the error says why.
    Failed,
    /// A state that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// A model that a scorer asked, by the role it played.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Grader {
    /// The model's registry name; empty when nobody played the role.
    pub model: String,
    /// The hash of the model's settings, weights and plugin; empty when nobody played the role.
    pub identity: String,
}

/// The models that play roles now, by role; earlier scores' graders are compared with them.
pub type Graders = BTreeMap<String, Grader>;

/// A scorer as it is now. Its earlier scores with another identity do not count as its own.
#[derive(Debug, Clone, Copy)]
pub struct Scorer<'a> {
    /// Its name in a record's `scores`.
    pub name: &'a str,
    /// The hash of its settings, version and data.
    pub hash: &'a str,
    /// The models that play roles now.
    pub graders: &'a Graders,
}

impl Scorer<'_> {
    /// Whether a score with this hash and these graders is this scorer's.
    pub fn gave(&self, scorer: &str, asked: &Graders) -> bool {
        let same = |role: &String, then: &str| self.graders.get(role).is_none_or(|now| now.identity == then);
        scorer == self.hash && asked.iter().all(|(role, then)| same(role, &then.identity))
    }
}

/// One scorer's result for one record.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ScoreEntry {
    /// The hash of everything that can change this score: `scorer`, `shown` and `graders`.
    pub identity: String,
    /// The hash of the scorer: its settings, version and data.
    pub scorer: String,
    /// For a judge: the hash of the task's own score that it was shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
    /// The models it asked about this record, by the role they played.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub graders: Graders,
    pub status: ScoreStatus,
    /// Named numbers. A judge's one number is called `value`.
    #[serde(deserialize_with = "values_with_nan")]
    pub values: BTreeMap<String, f64>,
    /// Why.
    pub reason: String,
    /// The answer as it was understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The reasoning before the answer, when the task can take the two apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Other details; for a judge `ruling`, `raw` and `cost`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    /// Why the scorer failed, when it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordedError>,
}

/// JSON has no NaN, so it travels as `null`.
fn values_with_nan<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let values = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    let known = |(name, value): (String, Option<f64>)| (name, value.unwrap_or(f64::NAN));
    Ok(values.into_iter().map(known).collect())
}

/// The name of a judge's one number in [`ScoreEntry::values`].
pub const JUDGED: &str = "value";

/// The name under which a judge's scores are kept: its own, unless the task is called the same.
pub fn judge_key(judge: &str, task: &str) -> String {
    match judge == task {
        true => format!("judge:{judge}"),
        false => judge.to_owned(),
    }
}

impl ScoreEntry {
    /// The score of a task.
    pub fn of_score(score: Score) -> ScoreEntry {
        let reason = score.details.get("reason").and_then(Value::as_str).unwrap_or_default();
        ScoreEntry {
            status: match score.status {
                Status::Scored => ScoreStatus::Scored,
                Status::NoAnswer => ScoreStatus::NoAnswer,
                Status::Unscored => ScoreStatus::Unscored,
                Status::Unknown => ScoreStatus::Unknown,
            },
            reason: reason.to_owned(),
            values: score.values,
            answer: score.answer,
            reasoning: score.reasoning,
            details: score.details,
            ..ScoreEntry::default()
        }
    }

    /// The verdict of a judge.
    pub fn of_verdict(verdict: &Verdict) -> ScoreEntry {
        let ruled = !matches!(verdict.ruling, Ruling::Unscored | Ruling::Unknown);
        let mut details = match serde_json::to_value(verdict) {
            Ok(Value::Object(map)) => map,
            _ => Map::new(),
        };
        ["value", "reason"].iter().for_each(|name| drop(details.remove(*name)));
        let value = verdict.value.filter(|_| ruled);
        ScoreEntry {
            status: match value {
                Some(_) => ScoreStatus::Scored,
                None => ScoreStatus::Unscored,
            },
            values: value.map(|value| (JUDGED.to_owned(), value)).into_iter().collect(),
            reason: verdict.reason.clone(),
            details,
            ..ScoreEntry::default()
        }
    }

    /// No score, and why.
    pub fn failed(error: &Error) -> ScoreEntry {
        ScoreEntry {
            status: ScoreStatus::Failed,
            reason: error.to_string(),
            error: Some(RecordedError::from(error)),
            ..ScoreEntry::default()
        }
    }

    /// The same, with the identity of everything that it depends on.
    pub fn by(mut self, scorer: &str, shown: Option<String>, graders: Graders) -> ScoreEntry {
        let asked: BTreeMap<&String, &String> = graders.iter().map(|(role, it)| (role, &it.identity)).collect();
        self.identity = hash_json(&json!({ "scorer": scorer, "shown": shown, "graders": asked }));
        self.scorer = scorer.to_owned();
        self.shown = shown;
        self.graders = graders;
        self
    }

    /// The score as tasks and judges know it.
    pub fn score(&self) -> Score {
        Score {
            values: self.values.clone(),
            answer: self.answer.clone(),
            reasoning: self.reasoning.clone(),
            status: match self.status {
                ScoreStatus::Scored => Status::Scored,
                ScoreStatus::NoAnswer => Status::NoAnswer,
                ScoreStatus::Unscored | ScoreStatus::Failed => Status::Unscored,
                ScoreStatus::Unknown => Status::Unknown,
            },
            details: self.details.clone(),
        }
    }

    /// The verdict, when a judge gave this score.
    pub fn verdict(&self) -> Verdict {
        let mut map = self.details.clone();
        map.insert("reason".to_owned(), json!(self.reason));
        map.insert("value".to_owned(), json!(self.values.get(JUDGED)));
        serde_json::from_value(Value::Object(map)).unwrap_or_default()
    }

    /// The hash of what this score says and of who says it: what a judge was shown.
    pub fn content_hash(&self) -> String {
        hash_json(&json!([
            self.identity,
            self.status,
            self.values,
            self.answer,
            self.details
        ]))
    }
}

/// Why a sample has no answer, or an answer no score.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordedError {
    pub code: String,
    pub message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
}

impl From<&Error> for RecordedError {
    fn from(error: &Error) -> Self {
        RecordedError {
            code: error.code.word().to_owned(),
            message: error.message.clone(),
            causes: error.causes.clone(),
            help: error.help.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graders(role: &str, identity: &str) -> Graders {
        let grader = Grader {
            model: "m".to_owned(),
            identity: identity.to_owned(),
        };
        [(role.to_owned(), grader)].into()
    }

    #[test]
    fn a_verdict_survives_becoming_a_score() {
        let mut verdict = Verdict::of(false, "too late");
        verdict.raw = Some("wrong".to_owned());
        verdict.cost.dollars = 0.5;
        assert_eq!(ScoreEntry::of_verdict(&verdict).verdict(), verdict);
        let unscored = ScoreEntry::of_verdict(&Verdict::unscored("no ruling"));
        assert_eq!(unscored.status, ScoreStatus::Unscored);
        assert!(unscored.values.is_empty());
    }

    #[test]
    fn everything_that_can_change_a_score_changes_its_identity() {
        let entry = |scorer: &str, shown: Option<&str>, grader: &str| {
            let entry = ScoreEntry::of_score(Score::graded(true));
            let graders = graders("judge", grader);
            entry.by(scorer, shown.map(str::to_owned), graders).identity
        };
        let all = [
            entry("a", None, "x"),
            entry("b", None, "x"),
            entry("a", Some("s"), "x"),
            entry("a", None, "y"),
        ];
        for (place, one) in all.iter().enumerate() {
            assert!(!all[..place].contains(one), "{place}");
        }
        assert_eq!(all[0], entry("a", None, "x"));
    }

    #[test]
    fn nan_travels_as_null() {
        let entry = ScoreEntry::of_score(Score::value("loss", f64::NAN));
        let text = serde_json::to_string(&entry).unwrap();
        assert!(text.contains("\"loss\":null"), "{text}");
        let back: ScoreEntry = serde_json::from_str(&text).unwrap();
        assert!(back.values["loss"].is_nan());
    }
}
