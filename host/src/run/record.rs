//! One line of `samples.jsonl`, and the hashes that say what it is a record of.

use plugin_api::{Error, Reply, Sample, Score, Status};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// What a model truly got in place of a task's clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The task asks in words alone.
    #[default]
    Text,
    /// The model heard the clips.
    Audio,
    /// The words of another model that heard the clips stood in for them.
    Ears,
    /// The data set's own words stood in for the clips.
    Words,
    /// A notice stood in for the clips: the model could not know what was said.
    Blind,
}

/// One clip as a model heard it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    pub seconds: f64,
    pub rate: u32,
    pub sha256: String,
    /// What was wrong with its file without making it unusable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Set when it was not the run's model that heard it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ears: Option<Retold>,
}

/// What other ears made of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retold {
    pub model: String,
    /// Of the model's weights, settings and plugin, and of what it was asked.
    pub hash: String,
    pub words: String,
}

/// What came of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    #[default]
    Scored,
    /// Its reply names no answer: counted as wrong, and counted apart.
    NoAnswer,
    /// Its reply could not be judged, or was not yet.
    Unscored,
    /// It has no score, and the record's error says why.
    Failed,
    /// A state that this version doesn't know.
    #[serde(other)]
    Unknown,
}

impl From<Status> for Standing {
    fn from(status: Status) -> Self {
        match status {
            Status::Scored => Standing::Scored,
            Status::NoAnswer => Standing::NoAnswer,
            Status::Unscored => Standing::Unscored,
            Status::Unknown => Standing::Unknown,
        }
    }
}

impl From<Standing> for Status {
    fn from(standing: Standing) -> Self {
        match standing {
            Standing::Scored => Status::Scored,
            Standing::NoAnswer => Status::NoAnswer,
            Standing::Unscored | Standing::Failed => Status::Unscored,
            Standing::Unknown => Status::Unknown,
        }
    }
}

/// One finished sample. Field names that lm-eval has mean here what they mean there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// What makes the record: task, sample, prompt, settings, plugins and weights. Resuming goes by it.
    pub key: String,
    /// The sample's place in the data set.
    pub doc_id: u64,
    /// The sample's own id.
    pub sample_id: String,
    pub doc: Value,
    pub target: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The prompt as it was asked.
    pub arguments: Value,
    pub resps: Value,
    pub filtered_resps: Value,
    pub doc_hash: String,
    pub prompt_hash: String,
    pub target_hash: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plugin_hash: Option<String>,
    /// The words around the sample, by the hash that the task gives of their template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template_hash: Option<String>,
    pub input: Input,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub audio: Vec<Heard>,
    pub status: Standing,
    /// True as long as nobody has scored the answer; the status says `unscored` until then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pending: bool,
    pub metrics: BTreeMap<String, Value>,
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The reply as the model gave it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<Reply>,
    pub latency_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttft_ms: Option<f64>,
    pub prompt_tokens: u32,
    pub generated_tokens: u32,
    /// Which stretch of work this was answered in, by its start in milliseconds since 1970, and how far into it:
    /// what the time of a run is summed from, however often it was cut short.
    pub session: u64,
    pub at_ms: f64,
    /// What the reader must know to trust this record: `nan-logits`, `repetition`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordedError>,
}

/// Why a sample has no answer.
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

impl Record {
    /// Fills in what the sample says.
    pub fn of_sample(&mut self, sample: &Sample) {
        self.sample_id.clone_from(&sample.id);
        self.doc.clone_from(&sample.doc);
        self.target.clone_from(&sample.target);
        self.choices.clone_from(&sample.choices);
        self.groups.clone_from(&sample.groups);
        self.cluster.clone_from(&sample.cluster);
        self.doc_hash = hash_json(&sample.doc);
        self.target_hash = hash_json(&sample.target);
    }

    /// Fills in what the model said.
    pub fn of_reply(&mut self, reply: Reply) {
        self.resps = match reply.options.is_empty() {
            true if reply.alternatives.is_empty() => json!([[reply.text]]),
            true => json!([reply.alternatives.iter().map(|other| &other.text).collect::<Vec<_>>()]),
            false => reply
                .options
                .iter()
                .map(|option| json!([[option.loglik, option.greedy]]))
                .collect(),
        };
        self.ttft_ms = reply.timing.first_token_ms;
        self.prompt_tokens = reply.usage.prompt_tokens;
        self.generated_tokens = reply.usage.generated_tokens;
        self.flags.clone_from(&reply.flags);
        // What the model's process held just then says something of its company, and nothing of the answer; `timing.json`
        // has the peak.
        let memory = None;
        self.reply = Some(Reply { memory, ..reply });
        self.unfilter();
    }

    /// Takes the answer as the model gave it for the answer as it was understood.
    pub fn unfilter(&mut self) {
        let Some(reply) = &self.reply else { return };
        self.filtered_resps = match reply.options.is_empty() {
            true => json!([reply.text]),
            false => reply
                .options
                .iter()
                .map(|option| json!([option.loglik, option.greedy]))
                .collect(),
        };
    }

    /// Notes why there is no score.
    pub fn failed(&mut self, error: &Error) {
        self.status = Standing::Failed;
        self.error = Some(RecordedError::from(error));
    }

    /// Leaves the scoring to somebody else.
    pub fn unscored_yet(&mut self) {
        self.pending = true;
        self.status = Standing::Unscored;
    }

    /// Fills in what the task said of the reply.
    pub fn of_score(&mut self, score: Score) {
        if let Some(answer) = score.answer {
            self.filtered_resps = json!([answer]);
        }
        self.status = score.status.into();
        self.metrics = score
            .values
            .into_iter()
            .map(|(name, value)| (name, json!(value)))
            .collect();
        self.details = score.details;
    }

    /// The sample as the task gave it, without its sound.
    pub fn sample(&self) -> Sample {
        Sample {
            id: self.sample_id.clone(),
            doc: self.doc.clone(),
            target: self.target.clone(),
            choices: self.choices.clone(),
            groups: self.groups.clone(),
            cluster: self.cluster.clone(),
            ..Sample::default()
        }
    }

    /// What the task said of the reply.
    pub fn score(&self) -> Score {
        Score {
            values: self
                .metrics
                .iter()
                .map(|(name, value)| (name.clone(), value.as_f64().unwrap_or(f64::NAN)))
                .collect(),
            answer: self.answer(),
            status: self.status.into(),
            details: self.details.clone(),
        }
    }

    /// The answer as it was understood.
    pub fn answer(&self) -> Option<String> {
        self.filtered_resps.get(0)?.as_str().map(str::to_owned)
    }
}

/// The sha256 of a JSON value with its keys in order, so that the same content has the same hash.
pub fn hash_json(value: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(&mut hasher, value);
    hex(&hasher.finalize())
}

/// [`hash_json`] of the array of these values, without an array being made of them.
pub fn hash_all(values: &[&Value]) -> String {
    let mut hasher = Sha256::new();
    feed_all(&mut hasher, values.iter().copied());
    hex(&hasher.finalize())
}

fn feed(hasher: &mut Sha256, value: &Value) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            hasher.update(b"{");
            for key in keys {
                feed_text(hasher, key);
                hasher.update(b":");
                feed(hasher, &map[key]);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(items) => feed_all(hasher, items),
        other => feed_text(hasher, other),
    }
}

fn feed_all<'a>(hasher: &mut Sha256, items: impl IntoIterator<Item = &'a Value>) {
    hasher.update(b"[");
    for item in items {
        feed(hasher, item);
        hasher.update(b",");
    }
    hasher.update(b"]");
}

/// Every sample is hashed several times, so its words go into the hash without becoming a string first.
fn feed_text(hasher: &mut Sha256, value: &(impl Serialize + ?Sized)) {
    struct Into<'a>(&'a mut Sha256);
    impl std::io::Write for Into<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.update(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = serde_json::to_writer(Into(hasher), value);
    debug_assert!(written.is_ok(), "a scalar can always be written");
}

pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |half: u8| char::from(DIGITS[usize::from(half)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 15)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::OptionScore;

    #[test]
    fn the_order_of_keys_changes_no_hash_and_content_does() {
        let hash = |text: &str| hash_json(&serde_json::from_str(text).unwrap());
        assert_eq!(hash(r#"{"a": 1, "b": [1, 2]}"#), hash(r#"{"b": [1, 2], "a": 1}"#));
        assert_ne!(hash(r#"{"a": 1, "b": [1, 2]}"#), hash(r#"{"a": 1, "b": [2, 1]}"#));
        assert_ne!(hash(r#"["ab", "c"]"#), hash(r#"["a", "bc"]"#));
        let text = r#"["a\n", {"b": [1.5, null, true]}]"#;
        let values: Vec<Value> = serde_json::from_str(text).unwrap();
        assert_eq!(hash(text), hash_all(&[&values[0], &values[1]]));
    }

    /// Records that are there already are found by these, so they may never change.
    #[test]
    fn a_hash_is_what_it_was() {
        let value = json!({ "b": ["\u{e9}\n", 1.5, -2, null, true], "a": {} });
        let text = r#"{"a":{},"b":["é\n",1.5,-2,null,true,],}"#;
        assert_eq!(hash_json(&value), hex(&Sha256::digest(text)));
        assert_eq!(hex(&[0, 1, 0x9a, 0xff]), "00019aff");
    }

    #[test]
    fn replies_take_the_shapes_that_lm_eval_writes() {
        let mut record = Record::default();
        record.of_reply(Reply::text("B."));
        record.of_score(Score::graded(true).with_answer("B"));
        assert_eq!(
            (record.resps.clone(), record.filtered_resps.clone()),
            (json!([["B."]]), json!(["B"]))
        );
        let option = |loglik, greedy| OptionScore {
            loglik,
            greedy,
            ..OptionScore::default()
        };
        record.of_reply(Reply::scored(vec![option(-1.5, false), option(-0.5, true)]));
        assert_eq!(record.resps, json!([[[-1.5, false]], [[-0.5, true]]]));
        assert_eq!(record.filtered_resps, json!([[-1.5, false], [-0.5, true]]));
    }

    #[test]
    fn a_record_survives_being_written_and_read() {
        let mut record = Record {
            doc_id: 7,
            ..Record::default()
        };
        record.of_sample(&Sample {
            id: "s".to_owned(),
            target: "B".into(),
            ..Sample::default()
        });
        record.of_reply(Reply::text("B"));
        record.of_score(Score::graded(true).with_answer("B"));
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&line).unwrap(), record);
    }
}
