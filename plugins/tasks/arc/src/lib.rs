//! ARC: school science questions with three to five options, in an easy and a challenge set.
//!
//! The three ways in which people score it are three modes:
//!
//! - `letter`: the options are shown with letters and the likeliest letter wins. The default: it costs one pass over
//!   the prompt, needs no parsing, asks in the form that chat models are trained on, and is what lessons teach.
//! - `loglikelihood`: no option is shown; the likeliest of the option texts after `Answer:` wins. As the evaluation
//!   harnesses do it, and what most published tables of base models show: `acc` for the easy set, `acc_norm` for
//!   challenge.
//! - `generate`: the model writes, and the letter is read from what it wrote. A reply that names no option is wrong and
//!   is reported separately.
//!
//! The decision a newcomer would question: options get letters by their position even where the row's own labels are
//! digits, because the prompt asks for a letter. The right answer is looked up among the row's labels, never assumed.

mod files; // log-likelihoods as harnesses keep them
mod lessons; // lessons for training
mod prompt; // prompts, with worked examples
mod question; // one row as published
mod scoring;
mod splits; // which rows, from which file // scores of replies

use data::Rows;
use plugin_api::{
    Lesson, Prompt, Reply, Result, Sample, Score, Settings, Task, TaskCard, export_plugin, register_files,
    register_task,
};
use prompt::{Asking, Shots};
use question::Question;
use serde_json::json;
use splits::{Split, Subset};
use task::{Answering, one_of, row_of};

register_task!("arc", "ARC-Easy and ARC-Challenge: school science, three to five options", Arc::load, {
    data: data = "allenai/ai2_arc", "a file, a folder or a hub id: JSON lines flat or nested, or Parquet";
    subset: text ["easy", "challenge"], "which set; by default the one in the file's name, or easy";
    split: text ["test", "validation", "dev", "train"], "which part; by default the one in the file's name, or test";
    mode: text ["letter", "loglikelihood", "generate"] = "letter", "likeliest letter, likeliest option text, or a letter read from free text";
    shots: integer = 0, "worked examples before each question, from the train part";
    shots_data: path, "a file or folder for these examples, if the train part is not beside the data";
    shots_seed: integer, "draws these examples for each question from this seed; by default the first ones are used";
    template: path, "a Jinja template that replaces the built-in one";
    mask: text ["prompt", "user"] = "prompt", "the part of a lesson that is not learnt: all before the answer, or only the user's part as in the published script, which uses ChatML whatever the model's template";
    thinking: flag = false, "lets the model reason first, in mode generate";
    max_tokens: integer, "the longest answer in mode generate; by default 256, with thinking 8192";
});
register_files!("arc", "log-likelihoods of options", |_settings| Ok(files::Likelihoods));
export_plugin!();

/// How the answer is obtained from a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Letter,
    Loglikelihood,
    Generate,
}

impl Mode {
    fn word(self) -> &'static str {
        let known = MODES.iter().find(|(_, mode)| *mode == self);
        known.map_or("", |(word, _)| word)
    }
}

struct Arc {
    subset: Subset,
    split: Option<Split>,
    mode: Mode,
    rows: Rows,
    shots: Shots,
    asking: Asking,
    mask: lessons::Mask,
    answering: Answering,
}

impl Arc {
    fn load(settings: &Settings) -> Result<Arc> {
        let mode = one_of(settings, "mode", &MODES)?.1;
        let chosen = splits::rows(settings)?;
        Ok(Arc {
            shots: Shots::load(settings, &chosen)?,
            asking: Asking::load(settings)?,
            subset: chosen.subset,
            split: chosen.split,
            rows: chosen.rows,
            mode,
            mask: one_of(settings, "mask", &lessons::MASKS)?.1,
            answering: Answering::load(settings, 256, 8192)?,
        })
    }
}

const MODES: [(&str, Mode); 3] = [
    ("letter", Mode::Letter),
    ("loglikelihood", Mode::Loglikelihood),
    ("generate", Mode::Generate),
];

impl Task for Arc {
    fn card(&self) -> TaskCard {
        let metrics = match (self.mode, self.subset) {
            (Mode::Letter | Mode::Generate, _) => vec!["acc"],
            (Mode::Loglikelihood, Subset::Easy) => vec!["acc", "acc_norm", "acc_bytes"],
            (Mode::Loglikelihood, Subset::Challenge) => vec!["acc_norm", "acc", "acc_bytes"],
        };
        let mut card = TaskCard::new(format!("arc_{}", self.subset.word()), "1").with_metrics(metrics);
        card.split = self.split.map(|split| split.word().to_owned());
        card.shots = self.shots.count();
        card.needs_choices = self.mode != Mode::Generate;
        card.filter = (self.mode == Mode::Generate).then(|| "letter".to_owned());
        card.other.insert("training".to_owned(), lessons::training());
        card.other.insert("mode".to_owned(), json!(self.mode.word()));
        card.other.insert("template_hash".to_owned(), json!(self.asking.hash()));
        card
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn sample(&self, index: usize) -> Result<Sample> {
        let row = self.rows.get(index)?;
        let question = Question::read(&row)?;
        Ok(Sample {
            target: question.letter(question.right).into(),
            id: question.id,
            choices: question.options,
            doc: row.value,
            ..Sample::default()
        })
    }

    fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        let question = question_of(sample)?;
        let shots = self.shots.before(&question)?;
        match self.mode {
            Mode::Letter => self.asking.letter(&question, &shots),
            Mode::Loglikelihood => self.asking.loglikelihood(&question, &shots),
            Mode::Generate => self.asking.generate(&question, &shots, self.answering),
        }
    }

    fn score(&self, sample: &Sample, reply: &Reply) -> Result<Score> {
        let question = question_of(sample)?;
        match self.mode {
            Mode::Letter => scoring::letter(&question, reply),
            Mode::Loglikelihood => scoring::loglikelihood(&question, reply),
            Mode::Generate => Ok(scoring::generated(&question, reply)),
        }
    }

    fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        let question = question_of(sample)?;
        let shown = self.asking.shown(&question, Mode::Letter)?;
        Ok(lessons::lesson(&question, shown, self.mask))
    }
}

fn question_of(sample: &Sample) -> Result<Question> {
    Question::read(&row_of(sample))
}
