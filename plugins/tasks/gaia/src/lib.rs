//! GAIA: questions that take several steps and often a file or a tool, scored as the leaderboard scores them; and
//! traces of conversations with tools, in which a model is asked for the next calls.
//!
//! GAIA itself is gated, so nothing of it is in the repository: the data is an approved download (`metadata.jsonl`
//! with the attachments beside it, or Parquet with a `file_path`).
//!
//! The decision a newcomer would question: an answer that does not follow `FINAL ANSWER:` counts as missing, even if a
//! reader could tell what is meant. The leaderboard's harnesses cut there, and a more lenient rule would give other
//! figures.

pub mod official; // the leaderboard's scorer

mod attachment; // the readable part of an attachment
mod conversation; // messages with calls in them
mod files; // submissions and traces
mod lessons; // lessons of conversations
mod question; // one row of the benchmark
mod questions; // the benchmark
mod splits; // which files
mod tools; // the catalogue of tools
mod traces; // the conversations

use plugin_api::{
    Call, Lesson, Prompt, Reply, Result, Sample, Score, Settings, Task, TaskCard, export_plugin, register_files,
    register_task,
};
use questions::Questions;
use serde_json::json;
use task::Answering;
use template::Template;
use traces::Traces;

register_task!("gaia", "GAIA: questions with attachments, and traces of tool calls", Gaia::load, {
    data: data required, "an approved download of GAIA, its metadata file, or with mode traces a file of `id` and `messages`";
    mode: text ["questions", "traces"] = "questions", "the benchmark's questions, or conversations to be continued";
    split: text ["validation", "test"], "which part of the benchmark; by default validation, or the only one";
    level: text ["all", "1", "2", "3"] = "all", "questions of which level";
    attachments: path, "the folder with the attachments; by default that of the metadata";
    attachment_bytes: integer = 32768, "the most bytes of an attached text in the prompt";
    tools: path, "a catalogue of tools, `tools.toml`; by default the one beside the traces";
    tools_as: text ["words", "template"] = "words", "whether tools, calls and results are written as text, or by the model's chat template";
    style: text ["template", "script"] = "template", "with mode traces: a lesson is one turn in the model's chat template, or the whole conversation with its own markers, as in the published script";
    after: text ["user", "each"] = "user", "with mode traces: the model continues after each turn of the user, or also after the results of tools";
    judge: flag = false, "with mode traces: lets the model in the role `judge` compare arguments that are written differently";
    template: path, "a Jinja template that replaces the built-in one; with mode traces it is the system message of conversations without one";
    thinking: flag = false, "lets the model reason first in its own way";
    max_tokens: integer, "the longest answer; by default 1024, with thinking 16384";
});
register_files!(
    "gaia",
    "the leaderboard's submissions, and training traces",
    |_settings| Ok(files::Submissions)
);
export_plugin!();

enum Mode {
    Questions(Questions),
    Traces(Traces),
}

struct Gaia {
    mode: Mode,
    split: Option<String>,
    template: Template,
    judged: bool,
    answering: Answering,
}

impl Gaia {
    fn load(settings: &Settings) -> Result<Gaia> {
        let data = settings.path("data")?;
        let is_traces = settings.or("mode", String::new())? == "traces";
        let (files, split, built_in) = match is_traces {
            true => (splits::traces(&data)?, None, include_str!("tools.jinja")),
            false => {
                let (files, split) = splits::metadata(settings, &data)?;
                (files, split, include_str!("prompt.jinja"))
            }
        };
        Ok(Gaia {
            mode: match is_traces {
                true => Mode::Traces(Traces::load(settings, files)?),
                false => Mode::Questions(Questions::load(settings, &data, files)?),
            },
            split,
            template: Template::load(settings, built_in)?,
            judged: is_traces && settings.or("judge", false)?,
            answering: Answering::load(settings, 1024, 16_384)?,
        })
    }
}

impl Task for Gaia {
    fn card(&self) -> TaskCard {
        let names = match &self.mode {
            Mode::Questions(_) => vec![questions::ACCURACY],
            Mode::Traces(_) if self.judged => [&traces::METRICS[..], &[traces::JUDGED, traces::UNJUDGED]].concat(),
            Mode::Traces(_) => traces::METRICS.to_vec(),
        };
        let mut card = TaskCard::new("gaia", "2").with_metrics(names);
        for metric in card.metrics.iter_mut().filter(|metric| metric.name == traces::UNJUDGED) {
            metric.higher_is_better = false;
        }
        card.split.clone_from(&self.split);
        let (mode, filter) = match &self.mode {
            Mode::Questions(_) => ("questions", "final-answer"),
            Mode::Traces(_) => ("traces", "tool-calls"),
        };
        card.filter = Some(filter.to_owned());
        card.has_clips = matches!(self.mode, Mode::Questions(_));
        card.judge = matches!(self.mode, Mode::Traces(_)).then(|| "match".to_owned());
        card.other.insert("training".to_owned(), lessons::training());
        card.other.insert("mode".to_owned(), json!(mode));
        let hash = json!(self.template.hash);
        card.other.insert("template_hash".to_owned(), hash);
        card
    }

    fn len(&self) -> usize {
        match &self.mode {
            Mode::Questions(questions) => questions.len(),
            Mode::Traces(traces) => traces.len(),
        }
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        match &self.mode {
            Mode::Questions(questions) => questions.sample(index),
            Mode::Traces(traces) => traces.sample(index),
        }
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        match &self.mode {
            Mode::Questions(questions) => questions.prompt(sample, &self.template, self.answering),
            Mode::Traces(traces) => traces.prompt(sample, &self.template, self.answering),
        }
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        match &self.mode {
            Mode::Questions(_) => questions::score(sample, reply),
            Mode::Traces(traces) => traces.score(sample, reply, None),
        }
    }

    fn score_with(&self, sample: &Sample, reply: &Reply, call: &mut Call) -> Result<Score> {
        match &self.mode {
            Mode::Traces(traces) if self.judged => traces.score(sample, reply, Some(call)),
            _ => self.score(sample, reply),
        }
    }

    fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        match &self.mode {
            Mode::Questions(questions) => questions.lesson(sample, &self.template),
            Mode::Traces(traces) => traces.lesson(sample, &self.template),
        }
    }
}
