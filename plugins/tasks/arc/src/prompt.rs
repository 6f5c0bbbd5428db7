//! What a model is asked, and the worked examples before it.

use crate::Mode;
use crate::choose::{Chosen, shot_rows};
use crate::question::Question;
use plugin_api::{Code, Error, Message, Prompt, Result, Sampling, Settings};
use serde::Serialize;
use template::Template;

/// The words around a question. The built-in ones end each option with its letter and no space before it, so that the
/// letter is the same token as in the answer.
pub(crate) struct Asking {
    template: Template,
}

impl Asking {
    pub fn load(settings: &Settings) -> Result<Asking> {
        let template = Template::load(settings, include_str!("prompt.jinja"))?;
        Ok(Asking { template })
    }

    /// Says what questions were asked with.
    pub fn hash(&self) -> &str {
        &self.template.hash
    }

    /// A question with its options; in mode `loglikelihood` without them, for a text that goes on.
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
        let prompt = self.conversation(question, shots, Mode::Letter)?;
        Ok(Prompt {
            // The letter must be the first thing that the model says.
            thinking: Some(false),
            ..prompt.choose(question.letters())
        })
    }

    pub fn generate(
        &self,
        question: &Question,
        shots: &[&Question],
        thinking: bool,
        max_tokens: u32,
    ) -> Result<Prompt> {
        let prompt = self.conversation(question, shots, Mode::Generate)?;
        Ok(Prompt {
            thinking: Some(thinking),
            ..prompt.sample(Sampling::greedy(max_tokens))
        })
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

    fn conversation(&self, question: &Question, shots: &[&Question], mode: Mode) -> Result<Prompt> {
        let mut messages = Vec::new();
        for shot in shots {
            messages.push(Message::user(self.shown(shot, mode)?));
            messages.push(Message::assistant(shot.letter(shot.right)));
        }
        messages.push(Message::user(self.shown(question, mode)?));
        Ok(Prompt::new(messages))
    }
}

/// What a template can name.
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
pub(crate) struct Shots {
    count: usize,
    seed: Option<u64>,
    /// What they are taken from; one more than needed when the first ones are taken.
    pool: Vec<Question>,
}

/// Each shot is a question and its answer: more of them fit into no model's context.
const MOST_SHOTS: usize = 1000;

impl Shots {
    pub fn load(settings: &Settings, chosen: &Chosen) -> Result<Shots> {
        let count: usize = settings.or("shots", 0)?;
        let seed: Option<u64> = settings.get("shots_seed")?;
        let mut pool = Vec::new();
        if count > MOST_SHOTS {
            let message = format!("setting `shots` is {count}, expected at most {MOST_SHOTS}");
            return Err(Error::new(Code::SETTINGS, message));
        }
        if count > 0 {
            let rows = shot_rows(settings, chosen)?;
            // One more than asked for, since the question itself may be among them.
            let wanted = if seed.is_some() { rows.len() } else { count + 1 };
            for row in rows.iter().take(wanted) {
                pool.push(Question::read(&row?)?);
            }
            if pool.len() < count {
                let message = format!(
                    "setting `shots` is {count}, but there are {} worked examples",
                    pool.len()
                );
                return Err(Error::new(Code::SETTINGS, message));
            }
        }
        Ok(Shots { count, seed, pool })
    }

    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// The shots before a question, itself never among them, nor its twin under another id.
    ///
    /// Which ones a seed draws depends on the question alone and not on its place in the run.
    pub fn before(&self, question: &Question) -> Result<Vec<&Question>> {
        let others = self
            .pool
            .iter()
            .filter(|shot| shot.id != question.id && shot.text != question.text);
        let mut others: Vec<&Question> = others.collect();
        if others.len() < self.count {
            let message = format!(
                "there are {} worked examples besides sample `{}`",
                others.len(),
                question.id
            );
            return Err(Error::new(Code::DATA, message).help(format!("`shots` is {}, ask for fewer", self.count)));
        }
        if let Some(seed) = self.seed {
            let mut draws = Draws::new(seed, &question.id);
            for index in 0..self.count {
                let other = index + draws.below(others.len() - index);
                others.swap(index, other);
            }
        }
        others.truncate(self.count);
        Ok(others)
    }
}

/// Random numbers that are the same on every machine and in every version (SplitMix64).
struct Draws(u64);

impl Draws {
    fn new(seed: u64, id: &str) -> Self {
        // FNV-1a over the id, so that each question has its own sequence.
        let start = 0xcbf2_9ce4_8422_2325 ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Draws(id.bytes().fold(start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }
}
