//! One line of `samples.jsonl`.

use super::hash::hash_json;
use super::score::{RecordedError, ScoreEntry, ScoreStatus};
use plugin_api::{Error, Prompt, Reply, Sample, Score};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// What a model actually got for a task's clips.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// The task has no clips.
    #[default]
    Text,
    /// The model got the clips.
    Audio,
    /// Another model's transcripts replaced the clips.
    Ears,
    /// The data set's own transcripts replaced the clips.
    Words,
    /// A notice replaced the clips: the model could not know what was said.
    Blind,
}

/// A clip as the run's model got it, or as another model transcribed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClipInfo {
    pub seconds: f64,
    pub rate: u32,
    pub sha256: String,
    /// Faults of its file that did not make it unusable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The changes by `--audio`: segments, seeds, levels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<Value>,
    /// The transcript that replaced it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ears: Option<Transcript>,
}

/// What a transcriber made of a clip.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    pub model: String,
    /// The hash of the model's weights, settings and plugin, and of what it was asked.
    pub hash: String,
    pub words: String,
}

/// The version of the record's fields. Records without one are from before `scores`.
const FORMAT: u32 = 2;
/// The name under which the score of a record without `task` is kept.
const UNNAMED_TASK: &str = "task";

/// One finished prompt. Field names that lm-eval has mean here what they mean there.
///
/// On disk a record also repeats the task's own score as `status`, `metrics`, `filtered_resps`, `details` and
/// `pending`, for readers that know these names; here they are methods, and `scores` is what counts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Record {
    /// As it was read; a record that is written always says [`FORMAT`].
    #[serde(skip_serializing)]
    pub(crate) format: u32,
    /// The hash of everything that makes the record: model, task, sample, prompt, settings, plugins, weights, chain and
    /// variant. A resumed run matches records by this key.
    pub key: String,
    /// The sample's place in the data set.
    pub doc_id: u64,
    /// The sample's own id.
    pub sample_id: String,
    /// Which of several answers to the same question this is, from 0. Each chain draws from a seed of its own.
    pub chain: u32,
    /// How the prompt differs from the one the task asks, in words that stay the same; none for the task's own prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// The key of the record that this is a variant of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The task's name. Its own score is `scores[task]`.
    pub task: String,
    pub doc: Value,
    pub target: Value,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The prompt as the task asked it.
    pub arguments: Value,
    /// The prompt as the model got it: with the replacements of clips, and the clips themselves as hashes in `clips`.
    pub given: Value,
    /// The sha256 of the prompt as the model's chat template rendered it, when the model says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_sha256: Option<String>,
    pub resps: Value,
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
    pub audio: Vec<ClipInfo>,
    /// Who scored the reply, by name, and what they said. Empty until somebody has.
    pub scores: BTreeMap<String, ScoreEntry>,
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
    /// The session in which this was answered, by its start in milliseconds since 1970, and the time since then. A
    /// run's time is summed from these, however often it was interrupted.
    pub session: u64,
    pub at_ms: f64,
    /// Warnings for readers: `nan-logits`, `repetition`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Why there is no reply.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<RecordedError>,
}

/// The score fields of records in format 0, which all records repeat for readers that know these names.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct OwnScore {
    status: ScoreStatus,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pending: bool,
    metrics: BTreeMap<String, Value>,
    filtered_resps: Value,
    #[serde(skip_serializing_if = "Map::is_empty")]
    details: Map<String, Value>,
}

/// A record as it is written.
#[derive(Serialize)]
struct Line<'a> {
    format: u32,
    #[serde(flatten)]
    record: &'a Record,
    #[serde(flatten)]
    own: OwnScore,
}

impl Record {
    /// Reads a line of `samples.jsonl`, of this version or an earlier one.
    pub fn parse(line: &[u8]) -> serde_json::Result<Record> {
        let mut record: Record = serde_json::from_slice(line)?;
        if record.format == 0 {
            record.upgrade(serde_json::from_slice(line)?);
        }
        record.format = 0;
        Ok(record)
    }

    /// Converts a record from before `scores` to the current format.
    fn upgrade(&mut self, own: OwnScore) {
        self.given.clone_from(&self.arguments);
        if own.pending || self.error.is_some() {
            return;
        }
        let answer = own.filtered_resps.get(0).and_then(Value::as_str);
        let said = self.reply.as_ref().map(|reply| reply.text.as_str());
        let entry = ScoreEntry {
            status: own.status,
            answer: answer.filter(|text| Some(*text) != said).map(str::to_owned),
            values: own
                .metrics
                .iter()
                .map(|(name, value)| (name.clone(), value.as_f64().unwrap_or(f64::NAN)))
                .collect(),
            details: own.details,
            ..ScoreEntry::default()
        };
        UNNAMED_TASK.clone_into(&mut self.task);
        self.scores.insert(self.task.clone(), entry);
    }

    /// The line to write.
    pub fn line(&self) -> impl Serialize + '_ {
        let own = self.own();
        let status = match own {
            _ if self.error.is_some() => ScoreStatus::Failed,
            Some(own) => own.status,
            None => ScoreStatus::Unscored,
        };
        Line {
            format: FORMAT,
            record: self,
            own: OwnScore {
                status,
                pending: self.pending(),
                metrics: self
                    .metrics()
                    .map(|(name, value)| (name.clone(), json!(value)))
                    .collect(),
                filtered_resps: self.filtered_resps(),
                details: own.map(|own| own.details.clone()).unwrap_or_default(),
            },
        }
    }

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

    /// Fills in the prompt as the model gets it. Its clips stay beside the record; their hashes are `audio`'s, in the
    /// order of the prompt.
    pub fn of_given(&mut self, prompt: &Prompt) {
        let mut given = serde_json::to_value(prompt).unwrap_or_default();
        if !prompt.clips.is_empty() {
            given["clips"] = self.audio.iter().map(|clip| json!(clip.sha256)).collect();
        }
        self.given = given;
    }

    /// Fills in what the model said.
    pub fn of_reply(&mut self, mut reply: Reply) {
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
        self.rendered_sha256 = reply.rendered_sha256.take();
        // The memory of the model's process at the time, and reused tokens, depend on the batch and not on the answer.
        let memory = None;
        reply.other.shift_remove("reused_tokens");
        self.reply = Some(Reply { memory, ..reply });
    }

    /// Notes why there is no reply.
    pub fn failed(&mut self, error: &Error) {
        self.error = Some(RecordedError::from(error));
    }

    /// Names the task of a record that doesn't name it.
    pub(super) fn name_task(&mut self, task: &str) {
        if self.task == UNNAMED_TASK && !task.is_empty() || self.task.is_empty() {
            let own = self.scores.remove(&self.task);
            task.clone_into(&mut self.task);
            self.scores.extend(own.map(|own| (self.task.clone(), own)));
        }
    }

    /// The score of the run's own task, when it has scored this record.
    pub fn own(&self) -> Option<&ScoreEntry> {
        self.scores.get(&self.task)
    }

    /// Puts the task's own score in.
    pub fn score_by_task(&mut self, entry: ScoreEntry) {
        self.scores.insert(self.task.clone(), entry);
    }

    /// True as long as there is a reply that the task has not scored.
    pub fn pending(&self) -> bool {
        self.reply.is_some() && self.own().is_none()
    }

    /// Why there is no reply, or no score by the task.
    pub fn failure(&self) -> Option<&RecordedError> {
        self.error.as_ref().or_else(|| self.own()?.error.as_ref())
    }

    /// The numbers of the task's own score.
    pub fn metrics(&self) -> impl Iterator<Item = (&String, f64)> {
        let values = self.own().into_iter().flat_map(|own| &own.values);
        values.map(|(name, value)| (name, *value))
    }

    /// The cluster of records that are not independent: the sample's cluster or, with several answers to a question,
    /// the question.
    pub fn cluster_among(&self, chains: u32) -> Option<&str> {
        let question = || (chains > 1).then_some(self.sample_id.as_str());
        self.cluster.as_deref().or_else(question)
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

    /// The prompt as the model got it, without its sound; for a record that kept none, the prompt as the task asked it.
    pub fn prompt(&self) -> Option<Prompt> {
        let kept = if self.given.is_null() {
            &self.arguments
        } else {
            &self.given
        };
        Prompt::deserialize(kept).ok().filter(|_| !kept.is_null())
    }

    /// What the task said of the reply.
    pub fn score(&self) -> Score {
        Score {
            answer: self.answer(),
            ..self.own().map(ScoreEntry::score).unwrap_or_else(Score::unscored)
        }
    }

    /// The parsed answer, or else the answer as the model gave it.
    pub fn answer(&self) -> Option<String> {
        let understood = self.own().and_then(|own| own.answer.clone());
        let given = || {
            Some(
                self.reply
                    .as_ref()
                    .filter(|reply| reply.options.is_empty())?
                    .text
                    .clone(),
            )
        };
        understood.or_else(given)
    }

    /// The model's answer: its text, else its tool calls, or the option it chose.
    pub fn said(&self) -> String {
        let Some(reply) = &self.reply else {
            return String::new();
        };
        match reply.best_option() {
            Some(best) => {
                let option = self.choices.get(best).cloned();
                option.unwrap_or_else(|| format!("option {}", best + 1))
            }
            None if reply.text.trim().is_empty() && !reply.tool_calls.is_empty() => {
                let calls: Vec<String> = reply.tool_calls.iter().map(Value::to_string).collect();
                calls.join("\n")
            }
            None => reply.text.clone(),
        }
    }

    /// The reply as a judge sees it: a chosen option as its text.
    pub fn reply_in_words(&self) -> Option<Reply> {
        let mut reply = self.reply.clone()?;
        if reply.text.is_empty() && !reply.options.is_empty() {
            reply.text = self.said();
        }
        Some(reply)
    }

    /// The answer as lm-eval writes it after its filters.
    pub fn filtered_resps(&self) -> Value {
        match (self.answer(), &self.reply) {
            (Some(answer), _) => json!([answer]),
            (None, Some(reply)) => {
                let pair = |option: &plugin_api::OptionScore| json!([option.loglik, option.greedy]);
                reply.options.iter().map(pair).collect()
            }
            (None, None) => Value::Null,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Message, OptionScore, Part};

    fn written(record: &Record) -> Value {
        serde_json::to_value(record.line()).unwrap()
    }

    fn scored(text: &str, answer: &str) -> Record {
        let mut record = Record {
            task: "t".to_owned(),
            ..Record::default()
        };
        record.of_reply(Reply::text(text));
        record.score_by_task(ScoreEntry::of_score(Score::graded(true).with_answer(answer)));
        record
    }

    #[test]
    fn replies_take_the_shapes_that_lm_eval_writes() {
        let mut record = scored("B.", "B");
        let line = written(&record);
        assert_eq!(
            (&line["resps"], &line["filtered_resps"]),
            (&json!([["B."]]), &json!(["B"]))
        );
        assert_eq!(
            (&line["status"], &line["metrics"]),
            (&json!("scored"), &json!({ "acc": 1.0 }))
        );
        let option = |loglik, greedy| OptionScore {
            loglik,
            greedy,
            ..OptionScore::default()
        };
        record.of_reply(Reply::scored(vec![option(-1.5, false), option(-0.5, true)]));
        record.scores.clear();
        let line = written(&record);
        assert_eq!(line["resps"], json!([[[-1.5, false]], [[-0.5, true]]]));
        assert_eq!(line["filtered_resps"], json!([[-1.5, false], [-0.5, true]]));
        assert_eq!((&line["status"], &line["pending"]), (&json!("unscored"), &json!(true)));
    }

    #[test]
    fn a_record_survives_being_written_and_read() {
        let mut record = Record {
            doc_id: 7,
            chain: 2,
            variant: Some("early:3".to_owned()),
            parent: Some("p".to_owned()),
            ..scored("B", "B")
        };
        record.of_sample(&Sample {
            id: "s".to_owned(),
            target: "B".into(),
            ..Sample::default()
        });
        let line = serde_json::to_vec(&record.line()).unwrap();
        assert_eq!(Record::parse(&line).unwrap(), record);
    }

    #[test]
    fn a_record_from_before_scores_is_read() {
        let old = json!({
            "key": "k", "doc_id": 1, "sample_id": "s", "target": "B", "arguments": { "messages": [] },
            "resps": [["It is B."]], "filtered_resps": ["B"], "status": "no_answer", "metrics": { "acc": 0.0 },
            "details": { "how": "letter" }, "reply": { "text": "It is B." },
        });
        let record = Record::parse(&serde_json::to_vec(&old).unwrap()).unwrap();
        let own = record.own().unwrap();
        assert_eq!((own.status, own.values["acc"]), (ScoreStatus::NoAnswer, 0.0));
        assert_eq!(
            (record.answer().as_deref(), &own.details["how"]),
            (Some("B"), &json!("letter"))
        );
        assert!(record.prompt().is_some());
        let pending = json!({ "key": "k", "reply": { "text": "B" }, "pending": true, "status": "unscored" });
        assert!(Record::parse(&serde_json::to_vec(&pending).unwrap()).unwrap().pending());
    }

    #[test]
    fn what_the_model_got_names_its_clips_by_hash() {
        let clip = plugin_api::Clip::new(8, vec![0.0; 8]);
        let mut prompt = Prompt::new([Message {
            parts: vec![Part::text("hear: "), Part::clip(0)],
            ..Message::default()
        }]);
        prompt.clips.push(clip);
        let mut record = Record {
            audio: vec![ClipInfo {
                seconds: 1.0,
                rate: 8,
                sha256: "abc".to_owned(),
                warnings: Vec::new(),
                changes: Vec::new(),
                ears: None,
            }],
            ..Record::default()
        };
        record.of_given(&prompt);
        assert_eq!(record.given["clips"], json!(["abc"]));
        assert_eq!(record.prompt().unwrap().messages, prompt.messages);
    }

    #[test]
    fn the_hash_of_the_rendered_prompt_is_kept_beside_the_reply() {
        let mut reply = Reply::text("x");
        reply.rendered_sha256 = Some("ff".to_owned());
        let mut record = Record::default();
        record.of_reply(reply);
        assert_eq!(record.rendered_sha256.as_deref(), Some("ff"));
        assert_eq!(record.reply.unwrap().rendered_sha256, None);
    }
}
