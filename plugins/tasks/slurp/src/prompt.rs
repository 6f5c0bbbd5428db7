//! Prompts about utterances.

use crate::inventory::Inventory;
use crate::scorer::Labels;
use crate::{Rationale, utterance};
use data::{Row, Rows};
use plugin_api::{Code, Error, Message, Part, Result, Sample, Settings};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use template::{CLIP, Template, unmarked as clean};

/// The input of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Input {
    /// The recording.
    Audio,
    /// The hypotheses of speech recognition.
    Nbest,
    /// Both.
    Both,
    /// The transcript.
    Transcript,
}

impl Input {
    pub fn has_clips(self) -> bool {
        matches!(self, Input::Audio | Input::Both)
    }
}

/// The variables of a template.
#[derive(Debug, Serialize)]
struct Variables<'a> {
    scenarios: Vec<&'a str>,
    actions: Vec<&'a str>,
    actions_by_scenario: &'a BTreeMap<String, Vec<String>>,
    entity_types: &'a [String],
    examples: Vec<&'a Shot>,
    /// The placeholder of the recording; none if it is missing or not used.
    clip: Option<&'a str>,
    transcript: Option<String>,
    hypotheses: Vec<String>,
    /// True if there is no input: the recording is missing, and nothing else is known.
    nothing: bool,
    rationale: Option<String>,
    write_rationale: bool,
}

/// Everything that prompts need.
pub(crate) struct Asking {
    pub input: Input,
    pub rationale: Rationale,
    pub most_hypotheses: usize,
    pub inventory: Inventory,
    pub template: Template,
    pub shots: Shots,
}

impl Asking {
    /// The message about a sample, with its clip if it has one.
    pub fn message(&self, sample: &Sample, row: &Row) -> Result<Message> {
        let hears = self.input.has_clips() && !sample.clips.is_empty();
        let missing = self.input.has_clips() && !hears;
        let mut hypotheses = Vec::new();
        if missing || matches!(self.input, Input::Nbest | Input::Both) {
            hypotheses = self.hypotheses(row);
        }
        if self.input == Input::Nbest && hypotheses.is_empty() {
            let error = Error::new(
                Code::DATA,
                format!("{} has no speech recognition hypotheses", row.place),
            );
            return Err(error.help("name a file of them with `-T hypotheses=FILE`, or choose another `input`"));
        }
        let transcript = (self.input == Input::Transcript)
            .then(|| utterance::transcript(row))
            .transpose()?;
        let given = (self.rationale == Rationale::Given)
            .then(|| utterance::rationale(row))
            .flatten();
        let text = self.template.render(Variables {
            scenarios: self.inventory.scenarios(),
            actions: self.inventory.actions(),
            actions_by_scenario: &self.inventory.actions_by_scenario,
            entity_types: &self.inventory.entity_types,
            examples: self.shots.before(&sample.id, row)?,
            clip: hears.then_some(CLIP),
            transcript: transcript.map(clean),
            nothing: missing && hypotheses.is_empty(),
            hypotheses,
            rationale: given.map(clean),
            write_rationale: self.rationale == Rationale::Written,
        })?;
        Ok(Message {
            parts: if hears {
                self.with_clip(&text)
            } else {
                vec![Part::text(text)]
            },
            ..Message::default()
        })
    }

    fn with_clip(&self, text: &str) -> Vec<Part> {
        let clip = Part::Clip {
            clip: 0,
            // A model without audio gets the hypotheses below, so they must not be repeated here.
            words: (self.input == Input::Both).then(|| "(not played to you)".to_owned()),
        };
        template::with_clip(text, clip)
    }

    fn hypotheses(&self, row: &Row) -> Vec<String> {
        let all = utterance::hypotheses(row).into_iter();
        all.take(self.most_hypotheses).map(|words| clean(&words)).collect()
    }

    /// The hypotheses as one text, to replace a clip.
    pub fn words(&self, row: &Row) -> Option<String> {
        let lines = self.hypotheses(row).into_iter().enumerate();
        let lines: Vec<_> = lines.map(|(index, words)| format!("{}. {words}", index + 1)).collect();
        let heard = format!("(what speech recognition heard, likeliest first)\n{}", lines.join("\n"));
        (!lines.is_empty()).then_some(heard)
    }
}

/// The labels as a model should write them.
pub(crate) fn answer(labels: &Labels) -> String {
    let word = |text: &str| Value::from(text).to_string();
    let entities = labels.entities.iter();
    let entities = entities.map(|entity| {
        format!(
            r#"{{"type": {}, "filler": {}}}"#,
            word(&entity.kind),
            word(&entity.filler)
        )
    });
    format!(
        r#"{{"scenario": {}, "action": {}, "entities": [{}]}}"#,
        word(&labels.scenario),
        word(&labels.action),
        entities.collect::<Vec<_>>().join(", ")
    )
}

/// A worked example.
#[derive(Debug, Serialize)]
pub(crate) struct Shot {
    id: String,
    utterance: String,
    answer: String,
}

/// Worked examples before each utterance, as transcripts: audio would cost too much.
#[derive(Debug)]
pub(crate) struct Shots(task::Shots<Shot>);

const MOST_SHOTS: usize = 1000;

impl Shots {
    pub fn load(settings: &Settings) -> Result<Shots> {
        let rows = || {
            let Some(path) = settings.get::<PathBuf>("shots_data")? else {
                let error = Error::new(Code::SETTINGS, "setting `shots` needs the setting `shots_data`");
                return Err(error.help("name a file of training rows with `-T shots_data=FILE`"));
            };
            Rows::open(&path)
        };
        // One more than are shown, since one may be the utterance itself.
        let shots = task::Shots::load(settings, MOST_SHOTS, 1, rows, |row| {
            Ok(Shot {
                id: utterance::id(row)?,
                utterance: clean(utterance::transcript(row)?),
                answer: answer(&utterance::labels(row)?),
            })
        });
        shots.map(Shots)
    }

    pub fn count(&self) -> u32 {
        self.0.count() as u32
    }

    /// The examples before an utterance, never the utterance itself.
    fn before(&self, sample: &str, row: &Row) -> Result<Vec<&Shot>> {
        let own = utterance::id(row).unwrap_or_else(|_| sample.to_owned());
        self.0.before(sample, "sample", |shot| shot.id != own)
    }
}
