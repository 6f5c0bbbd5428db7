//! From a chain and a reasoning to the prompt that a model is asked with.

use super::baseline::Chain;
use crate::audio::interventions::Intervention;
use crate::run::clips::{Attached, ClipResolver};
use faithfulness::family::{Family, Speaker};
use faithfulness::letters::Reader;
use plugin_api::client::TaskClient;
use plugin_api::{Error, Message, Part, Prompt, Result, Role, Sample, Sampling, Want};

/// Tokens of an answer that is no letter.
const WORDS: u32 = 64;

/// How an answer is read from a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnsweredBy {
    /// The likeliest option.
    Options,
    /// The family's own reading of the text.
    Text(Reader),
    /// The task's reading of the text.
    Task,
}

impl AnsweredBy {
    pub fn name(self) -> &'static str {
        match self {
            AnsweredBy::Options => "options",
            AnsweredBy::Text(_) => "text",
            AnsweredBy::Task => "task",
        }
    }
}

/// What prompts are made with.
pub struct Maker<'a> {
    pub task: &'a TaskClient,
    /// The task asked for the answer at once, where it knows how.
    pub plain_task: Option<&'a TaskClient>,
    pub clips: ClipResolver<'a>,
    pub family: Family,
}

impl Maker<'_> {
    /// How answers to a chain's question are obtained: the best way that the model supports.
    pub fn answered_by(&self, chain: &Chain) -> AnsweredBy {
        match (chain.options.is_empty(), self.family) {
            (true, _) => AnsweredBy::Task,
            (false, Family::Prefill) if self.clips.model.scores_choices => AnsweredBy::Options,
            (false, Family::Prefill) => AnsweredBy::Text(Reader::R2Conditioned),
            (false, family) => AnsweredBy::Text(family.asked("", "", "").map_or(Reader::Legacy, |asked| asked.reader)),
        }
    }

    pub fn sample(&self, chain: &Chain) -> Result<Sample> {
        self.task.sample(usize::try_from(chain.doc_id).map_err(Error::from)?)
    }

    /// The chain's question with this reasoning, to be answered with a letter, without clips so far.
    pub fn conditioned(&self, chain: &Chain, sample: &Sample, reasoning: &str) -> Result<Prompt> {
        let asked = self.task.prompt(sample)?;
        let question = chain.question(&asked.last_user_text());
        let prompt = match self.family.asked(&question, &chain.choices(), reasoning) {
            Some(asked) if !chain.options.is_empty() => {
                let mut messages: Vec<Message> = asked
                    .turns
                    .into_iter()
                    .map(|(speaker, text)| match speaker {
                        Speaker::User => Message::user(text),
                        Speaker::Model => Message::assistant(text),
                    })
                    .collect();
                if !sample.clips.is_empty() {
                    let parts = &mut messages[0].parts;
                    let at = if asked.clip_first { 0 } else { parts.len() };
                    parts.insert(at, Part::clip(0));
                }
                Prompt {
                    thinking: Some(false),
                    ..Prompt::new(messages).sample(Sampling::greedy(asked.max_tokens))
                }
            }
            _ => self.prefilled(asked, chain, reasoning),
        };
        Ok(prompt)
    }

    /// The chain's question without reasoning.
    pub fn without_reasoning(&self, chain: &Chain, sample: &Sample) -> Result<Prompt> {
        let asked = match self.plain_task {
            Some(task) => task.prompt(sample)?,
            None => self.task.prompt(sample)?,
        };
        Ok(self.prefilled(asked, chain, ""))
    }

    /// The task's own prompt, with the model's turn begun: with the reasoning, and up to where the answer stands.
    fn prefilled(&self, asked: Prompt, chain: &Chain, reasoning: &str) -> Prompt {
        let mut prompt = asked;
        let in_block = chain.thought && !reasoning.is_empty();
        let said = if in_block { "" } else { reasoning };
        let by_options = self.answered_by(chain) == AnsweredBy::Options;
        let text = match by_options {
            true => Family::Prefill.prefill(said),
            false => Family::Prefill.open_prefill(said),
        };
        prompt.messages.push(Message {
            role: Role::Assistant,
            parts: vec![Part::text(text)],
            thinking: in_block.then(|| reasoning.to_owned()),
            ..Message::default()
        });
        prompt.thinking = Some(in_block);
        prompt.want = match by_options {
            true => Want::Choice {
                options: chain.letters().into_iter().map(String::from).collect(),
            },
            false => Want::Text {
                sampling: Sampling::greedy(WORDS),
            },
        };
        prompt
    }

    /// The model's own continuation of a reasoning, drawn as the run draws.
    pub fn continued(&self, chain: &Chain, sample: &Sample, reasoning: &str, seed: u64) -> Result<Prompt> {
        const LONGEST: u32 = 512;
        let mut prompt = self.task.prompt(sample)?;
        prompt.messages.push(Message {
            role: Role::Assistant,
            parts: vec![Part::text(format!("{reasoning} "))],
            ..Message::default()
        });
        prompt.thinking = Some(false);
        if let Want::Text { sampling } = &mut prompt.want {
            sampling.max_tokens = Some(sampling.max_tokens.unwrap_or(LONGEST).min(LONGEST));
            sampling.seed = Some(seed ^ chain.chain);
        } else {
            prompt.want = Want::Text {
                sampling: Sampling::greedy(LONGEST),
            };
        }
        Ok(prompt)
    }

    /// Gives a prompt its clips, or their replacements: changed as in the run, and then by these changes.
    pub fn attach(&self, prompt: &mut Prompt, sample: &Sample, changes: &[Intervention]) -> Result<Attached> {
        self.clips
            .attach(prompt, sample, &[self.clips.changes, changes].concat())
    }
}
