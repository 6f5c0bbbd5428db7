//! Prompts and their worked examples.

use crate::Mode;
use crate::question::Question;
use crate::splits::{Chosen, shot_rows};
use plugin_api::{Message, Prompt, Result, Settings};
use serde::Serialize;
use task::Answering;
use template::Template;

/// The template of a question. In the built-in one no space precedes an option's letter, so that it is the same token
/// as in the answer.
pub(crate) struct Asking {
    template: Template,
}

impl Asking {
    pub fn load(settings: &Settings) -> Result<Asking> {
        let template = Template::load(settings, include_str!("prompt.jinja"))?;
        Ok(Asking { template })
    }

    /// The hash of the template.
    pub fn hash(&self) -> &str {
        &self.template.hash
    }

    /// A question with its options; in mode `loglikelihood` without them, as a text to be continued.
    pub fn shown(&self, question: &Question, mode: Mode) -> Result<String> {
        let options = question.options.iter().zip(question.letters());
        let options: Vec<_> = options.map(|(text, letter)| Shown { letter, text }).collect();
        self.template.render(Variables {
            id: &question.id,
            question: &question.text,
            options,
            mode: mode.word(),
        })
    }

    pub fn letter(&self, question: &Question, shots: &[&Question]) -> Result<Prompt> {
        let prompt = Prompt::new(self.conversation(question, shots, Mode::Letter)?);
        Ok(Prompt {
            // The letter must be the first thing that the model says.
            thinking: Some(false),
            ..prompt.choose(question.letters())
        })
    }

    pub fn generate(&self, question: &Question, shots: &[&Question], answering: Answering) -> Result<Prompt> {
        Ok(answering.prompt(self.conversation(question, shots, Mode::Generate)?))
    }

    pub fn loglikelihood(&self, question: &Question, shots: &[&Question]) -> Result<Prompt> {
        let mut text = String::new();
        for shot in shots {
            let asked = self.shown(shot, Mode::Loglikelihood)?;
            text.push_str(&format!("{asked} {}\n\n", shot.options[shot.right]));
        }
        text.push_str(&self.shown(question, Mode::Loglikelihood)?);
        Ok(Prompt::plain(text).choose(question.options.iter().map(|option| format!(" {option}"))))
    }

    fn conversation(&self, question: &Question, shots: &[&Question], mode: Mode) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        for shot in shots {
            messages.push(Message::user(self.shown(shot, mode)?));
            messages.push(Message::assistant(shot.letter(shot.right)));
        }
        messages.push(Message::user(self.shown(question, mode)?));
        Ok(messages)
    }
}

/// The variables of a template.
#[derive(Serialize)]
struct Variables<'a> {
    id: &'a str,
    question: &'a str,
    options: Vec<Shown<'a>>,
    mode: &'static str,
}

#[derive(Serialize)]
struct Shown<'a> {
    letter: String,
    text: &'a str,
}

/// Worked examples to put before a question.
pub(crate) struct Shots(task::Shots<Question>);

/// Each shot is a question and its answer: more of them fit into no model's context.
const MOST_SHOTS: usize = 1000;
/// At most this many have the same wording as a question, and are not shown before it.
const SPARE: usize = 256;

impl Shots {
    pub fn load(settings: &Settings, chosen: &Chosen) -> Result<Shots> {
        let rows = || shot_rows(settings, chosen);
        task::Shots::load(settings, MOST_SHOTS, SPARE, rows, Question::read).map(Shots)
    }

    pub fn count(&self) -> u32 {
        self.0.count() as u32
    }

    /// The examples before a question, never the question itself or a copy under another id.
    pub fn before(&self, question: &Question) -> Result<Vec<&Question>> {
        let is_another = |shot: &Question| shot.id != question.id && shot.text != question.text;
        self.0.before(&question.id, "sample", is_another)
    }
}
