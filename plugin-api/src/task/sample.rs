//! What a task holds and what it makes of a reply.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Where the sound of a [`Sample`] comes from. The host decodes, mixes and resamples it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipSource {
    /// An audio file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// An encoded file in memory: an index into [`Sample::blobs`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<usize>,
    /// Where the clip begins, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<f64>,
    /// Where the clip ends, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<f64>,
    /// The data set's own text of this clip, for models without audio.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub words: Option<String>,
}

impl ClipSource {
    /// A clip that is a whole file.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        ClipSource {
            path: Some(path.into()),
            ..ClipSource::default()
        }
    }
}

/// One example of a task.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// What it is called in the data set, the same in every run.
    pub id: String,
    /// The row as it was read; the field `doc` of records.
    pub doc: Value,
    /// The right answer, when there is one.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub target: Value,
    /// The options to choose from, when there are some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// Its sound.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clips: Vec<ClipSource>,
    /// Groups that it counts in: `{"level": "2"}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    /// Samples of one cluster are not independent, since they share a clip or a passage; standard errors account for
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Encoded audio that came inside the data. Travels beside the JSON, never in it.
    #[serde(skip)]
    pub blobs: Vec<Vec<u8>>,
}

/// Whether an answer could be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It was.
    #[default]
    Scored,
    /// It names no answer: counted as wrong, and reported separately.
    NoAnswer,
    /// It cannot be judged: left out of the mean, and counted.
    Unscored,
    /// A state that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// The score of one reply.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Score {
    /// Named numbers; the host takes their means unless the task sums up by itself.
    pub values: BTreeMap<String, f64>,
    /// The parsed answer; the field `filtered_resps` of records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The reasoning before the answer, without the statement of the answer, if the task can separate them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning: Option<String>,
    /// Whether it could be judged.
    pub status: Status,
    /// Anything else that belongs into the record.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

impl Score {
    /// Right or wrong, under the name `acc`.
    pub fn graded(right: bool) -> Self {
        Score::value("acc", f64::from(u8::from(right)))
    }

    /// One named number.
    pub fn value(name: impl Into<String>, value: f64) -> Self {
        Score::default().and(name, value)
    }

    /// The reply names no answer: `acc` is 0.
    pub fn no_answer() -> Self {
        Score {
            status: Status::NoAnswer,
            ..Score::graded(false)
        }
    }

    /// A reply that cannot be judged.
    pub fn unscored() -> Self {
        Score {
            status: Status::Unscored,
            ..Score::default()
        }
    }

    /// Adds a named number.
    pub fn and(mut self, name: impl Into<String>, value: f64) -> Self {
        self.values.insert(name.into(), value);
        self
    }

    /// Adds the parsed answer.
    pub fn with_answer(mut self, answer: impl Into<String>) -> Self {
        self.answer = Some(answer.into());
        self
    }

    /// Adds the reasoning before the answer.
    pub fn with_reasoning(mut self, reasoning: impl Into<String>) -> Self {
        self.reasoning = Some(reasoning.into());
        self
    }

    /// Adds something else for the record.
    pub fn with_detail(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.details.insert(name.into(), value.into());
        self
    }
}

/// One finished sample as the host hands it back when a task sums up.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    /// The sample, without its sound.
    pub sample: Sample,
    /// What the task said of the reply.
    pub score: Score,
    /// The reply itself, when a run is exported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<crate::Reply>,
}

/// A number over many samples.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Metric {
    /// What it is called.
    pub name: String,
    /// How answers were parsed; `none` if they were used unchanged.
    pub filter: String,
    /// The number.
    #[serde(deserialize_with = "crate::nan::nan_when_null")]
    pub value: f64,
    /// Its standard error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<f64>,
    /// The 95% interval, when the task knows a better one than the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<(f64, f64)>,
    /// Over how many samples.
    pub count: u64,
    /// The group it speaks of (`level=2`), or all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

crate::wire::packed!(
    Sample,
    |sample, envelope| envelope.blobs = std::mem::take(&mut sample.blobs),
    |sample, envelope| sample.blobs = envelope.blobs
);
