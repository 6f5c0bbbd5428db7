//! SLURP: what a person says to a home assistant, labelled with a scenario, an action and entities.
//!
//! A sample is a recording, as in the official figures; with `input=transcript` it is an utterance, as in the official
//! figures on gold transcripts. The model writes a JSON object, whose syntax is parsed leniently and whose content is
//! compared exactly. [`scorer`] has the measures, and [`official`] applies them to prediction files; both are
//! independent of models.
//!
//! The decision a newcomer would question: a reply in which no labels are found counts as a prediction of empty
//! labels. The official script leaves out samples without a prediction, which would reward a model for saying nothing.
//! An exported file contains these empty labels, so the script computes the figures that are reported here.

pub mod answer;
pub mod inventory; // all labels
pub mod official; // prediction files
pub mod scorer; // the measures
pub mod utterance; // one row as published

mod files; // other tools' prediction files
mod lessons; // lessons for training
mod predictions; // the training script's files about its test
mod prompt; // prompts, with worked examples
mod recordings; // places of recordings
mod samples; // which rows and recordings
mod summary; // figures over many scores

use inventory::Inventory;
use lessons::Style;
use plugin_api::{
    Lesson, Metric, Prompt, Reply, Result, Rows, Sample, Score, Settings, Status, Task, TaskCard, export_plugin,
    register_files, register_task,
};
use prompt::{Asking, Input, Shots};
use samples::Samples;
use scorer::{Labels, Measure, Tables};
use serde_json::json;
use summary::Summary;
use task::{Answering, one_of, row_of};
use template::Template;

register_task!("slurp", "SLURP: scenario, action and entities of what is said to a home assistant", Slurp::load, {
    data: data required, "a file, a folder or a hub id: SLURP's test.jsonl and its siblings, or rows of that shape";
    split: text ["test", "devel", "validation", "dev", "train", "train_synthetic"], "which part; by default the one in the file's name, or test";
    input: text ["audio", "nbest", "both", "transcript"] = "audio", "what the model gets: the recording, speech recognition's hypotheses, both, or the transcript";
    each: text ["recording", "utterance"], "what one sample is; by default an utterance for transcripts and in style script, else a recording";
    microphone: text ["all", "headset", "far"] = "all", "whose recordings are taken";
    audio: path, "the folder with the recordings, or with slurp_real and slurp_synth, or with folders of them; by default that of the data";
    strict_audio_missing: flag = false, "fails at once if a recording is missing, instead of asking with text only";
    hypotheses: path, "a file of speech recognition hypotheses: rows of `file` or `slurp_id`, and `hypotheses`, likeliest first";
    most_hypotheses: integer = 5, "how many hypotheses a prompt shows";
    rationale: text ["none", "given", "written"] = "none", "whether the prompt shows the row's rationale, or the model writes one before it answers";
    style: text ["template", "script"] = "template", "the task's template, or the format of the published script: its README's version if the rationale is given, its later one if it is written. The script learns a part of the clips in each epoch; here all are learnt";
    template: path, "a Jinja template that replaces the built-in one";
    shots: integer = 0, "worked examples in each prompt";
    shots_data: path, "a file of rows for these examples; the first ones are used";
    thinking: flag = false, "lets the model reason first";
    max_tokens: integer, "the longest answer; by default 256, with a rationale 512, with thinking 8192";
    labels: flag = false, "adds the figures of every label to those of the run, and macro precision and recall";
});
register_files!("slurp", "the official prediction files", |_settings| Ok(
    files::Predictions
));
export_plugin!();

/// How rationales are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rationale {
    None,
    Given,
    Written,
}

const INPUTS: [(&str, Input); 4] = [
    ("audio", Input::Audio),
    ("nbest", Input::Nbest),
    ("both", Input::Both),
    ("transcript", Input::Transcript),
];
const RATIONALES: [(&str, Rationale); 3] = [
    ("none", Rationale::None),
    ("given", Rationale::Given),
    ("written", Rationale::Written),
];
const STYLES: [(&str, Style); 2] = [("template", Style::Template), ("script", Style::Script)];

struct Slurp {
    samples: Samples,
    asking: Asking,
    style: Style,
    answering: Answering,
    every_label: bool,
}

impl Slurp {
    fn load(settings: &Settings) -> Result<Slurp> {
        let (_, input) = one_of(settings, "input", &INPUTS)?;
        let (_, rationale) = one_of(settings, "rationale", &RATIONALES)?;
        let usual_tokens = if rationale == Rationale::Written { 512 } else { 256 };
        let (_, style) = one_of(settings, "style", &STYLES)?;
        Ok(Slurp {
            samples: Samples::load(settings, input, style)?,
            asking: Asking {
                input,
                rationale,
                most_hypotheses: settings.or("most_hypotheses", 5)?,
                inventory: Inventory::published(),
                template: Template::load(settings, include_str!("prompt.jinja"))?,
                shots: Shots::load(settings)?,
            },
            style,
            answering: Answering::load(settings, usual_tokens, 8192)?,
            every_label: settings.or("labels", false)?,
        })
    }
}

impl Task for Slurp {
    fn card(&self) -> TaskCard {
        let names = summary::MAIN.iter().map(|(name, _)| *name);
        let mut card = TaskCard::new("slurp", "1").with_metrics(names);
        card.split.clone_from(&self.samples.split);
        card.filter = Some("lenient".to_owned());
        card.shots = self.asking.shots.count();
        card.has_clips = self.asking.input.has_clips();
        card.other.insert("training".to_owned(), lessons::training());
        if self.style == Style::Script {
            card.other.insert("style".to_owned(), json!("script"));
        }
        card.other
            .insert("template_hash".to_owned(), json!(self.asking.template.hash));
        card
    }

    fn len(&self) -> usize {
        self.samples.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let found = self.samples.get(index)?;
        let labels = utterance::labels(&found.row)?;
        let mut sample = Sample {
            id: found.id,
            target: labels.to_json(),
            cluster: found.cluster,
            groups: [("scenario".to_owned(), labels.scenario)].into(),
            ..Sample::default()
        };
        if let Some(microphone) = found.microphone {
            sample.groups.insert("microphone".to_owned(), microphone.to_owned());
        }
        if self.asking.input.has_clips() {
            let words = self.asking.words(&found.row);
            let stands = match (&found.clip, &words) {
                (Some(_), _) => summary::CLIP,
                (None, Some(_)) => "missing, words instead",
                (None, None) => "missing",
            };
            sample.groups.insert(summary::AUDIO.to_owned(), stands.to_owned());
            sample.clips.extend(found.clip.map(|mut clip| {
                clip.words = words;
                clip
            }));
        }
        sample.blobs = found.row.blobs;
        sample.doc = found.row.value;
        Ok(sample)
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        let row = row_of(sample);
        let message = match self.style {
            Style::Script => lessons::message(sample, &row, self.asking.input, self.asking.rationale),
            Style::Template => self.asking.message(sample, &row)?,
        };
        Ok(self.answering.prompt([message]))
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        let gold = utterance::labels(&row_of(sample))?;
        let answer = answer::read(&reply.text, self.asking.rationale == Rationale::Written);
        let nothing = Labels::default();
        let predicted = answer.as_ref().map_or(&nothing, |answer| &answer.labels);
        let tables = Tables::of(&gold, predicted);
        let flag = |flag: bool| f64::from(u8::from(flag));
        let mut score = Score::default()
            .and(summary::READ, flag(answer.is_some()))
            .and(
                summary::STRICT,
                flag(answer.as_ref().is_some_and(|answer| answer.strict)),
            )
            .with_detail("prediction", predicted.to_json())
            .with_detail("counts", tables.to_json())
            .with_detail("ratios", summary::ratios(&tables));
        for (name, measure) in &summary::MAIN[..3] {
            score = score.and(*name, tables.table(*measure).micro().f1);
        }
        if !gold.entities.is_empty() || !predicted.entities.is_empty() {
            score = score.and("slu_f1", tables.table(Measure::SluF1).micro().f1);
        }
        let Some(answer) = answer else {
            score.status = Status::NoAnswer;
            return Ok(score);
        };
        if answer.cut {
            score = score.with_detail("cut", true);
        }
        if !answer.missing.is_empty() {
            score = score.with_detail("missing", answer.missing);
        }
        if !answer.before.is_empty() && self.asking.rationale == Rationale::Written {
            score = score.with_detail("rationale", answer.before);
        }
        Ok(score.with_answer(prompt::answer(&answer.labels)))
    }

    fn metrics(&self, rows: &mut Rows) -> Result<Vec<Metric>> {
        let mut summary = Summary::default();
        for row in rows {
            summary.add(&row?);
        }
        Ok(summary.metrics(self.every_label))
    }

    fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        let row = row_of(sample);
        if self.style == Style::Script {
            let labels = utterance::labels(&row)?;
            return lessons::lesson(sample, &row, &labels, self.asking.input, self.asking.rationale);
        }
        let labels = prompt::answer(&utterance::labels(&row)?);
        let said = match (self.asking.rationale, utterance::rationale(&row)) {
            (Rationale::Written, Some(reasons)) => format!("{}\n{labels}", reasons.trim()),
            _ => labels,
        };
        Ok(task::lesson(&sample.id, self.asking.message(sample, &row)?, said))
    }
}
