//! From a chain and a reasoning to the prompt that a model is asked with.

use super::baseline::Chain;
use crate::audio::interventions::{Intervention, Sound};
use crate::audio::{Clips, Source, Wanted, resample};
use faithfulness::family::{Family, Speaker};
use faithfulness::letters::Reader;
use plugin_api::client::TaskClient;
use plugin_api::{Clip, Code, Error, Message, ModelCard, Part, Prompt, Result, Role, Sample, Sampling, Want};
use serde_json::Value;
use std::path::Path;

/// What a model that can't hear is told when the data has no words for a clip.
const NOTICE: &str = "[An audio clip is attached here, but this model cannot hear it.]";
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
    pub model: &'a ModelCard,
    pub clips: &'a Clips,
    pub family: Family,
}

impl Maker<'_> {
    /// How answers to a chain's question are had: the best way that the model's card allows.
    pub fn answered_by(&self, chain: &Chain) -> AnsweredBy {
        match (chain.options.is_empty(), self.family) {
            (true, _) => AnsweredBy::Task,
            (false, Family::Prefill) if self.model.scores_choices => AnsweredBy::Options,
            (false, Family::Prefill) => AnsweredBy::Text(Reader::R2Conditioned),
            (false, family) => AnsweredBy::Text(family.asked("", "", "").map_or(Reader::Legacy, |asked| asked.reader)),
        }
    }

    pub fn sample(&self, chain: &Chain) -> Result<Sample> {
        self.task.sample(usize::try_from(chain.doc_id).map_err(Error::from)?)
    }

    /// The chain's question with this reasoning, to be answered with a letter. Its clips are not there yet.
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

    /// The chain's question, to be answered at once.
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

    /// Gives a prompt its clips, changed, or the words that stand in for them. Returns what was done to each.
    pub fn attach(&self, prompt: &mut Prompt, sample: &Sample, changes: &Changes<'_>) -> Result<Vec<Value>> {
        let mut attached: Vec<usize> = Vec::new();
        let mut done = Vec::new();
        for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
            let Part::Clip { clip, words } = part else { continue };
            let index = *clip;
            if !self.model.hears() {
                let known = words.clone().or_else(|| sample.clips.get(index)?.words.clone());
                *part = Part::text(known.unwrap_or_else(|| NOTICE.to_owned()));
                continue;
            }
            *clip = attached
                .iter()
                .position(|known| *known == index)
                .unwrap_or(attached.len());
            if *clip == attached.len() {
                attached.push(index);
                let (sound, mut about) = self.changed(sample, index, changes)?;
                done.append(&mut about);
                prompt.clips.push(sound);
            }
        }
        Ok(done)
    }

    fn changed(&self, sample: &Sample, index: usize, changes: &Changes<'_>) -> Result<(Clip, Vec<Value>)> {
        let rate = self.model.sample_rate;
        if changes.each.is_empty() {
            return Ok((decoded(self.clips, sample, index, rate)?, Vec::new()));
        }
        // At its own rate, so that masks lie where they lie for every model.
        let own = decoded(self.clips, sample, index, None)?;
        let mut sound = Sound {
            rate: own.rate,
            samples: own.samples().to_vec(),
        };
        let mut about = Vec::new();
        for change in changes.each {
            let other = match (change.file(), change.swaps(), changes.other) {
                (Some(file), ..) => Some(from_file(self.clips, file)?),
                (None, Some(_), Some(other)) => {
                    let clip = decoded(self.clips, other, 0, None)?;
                    Some(Sound {
                        rate: clip.rate,
                        samples: clip.samples().to_vec(),
                    })
                }
                _ => None,
            };
            let mut what = change.apply(&mut sound, changes.id, other.as_ref())?;
            if let (Some(other), Some(_)) = (changes.other, change.swaps()) {
                what["clip_of"] = Value::from(other.id.clone());
            }
            about.push(what);
        }
        if let Some(folder) = changes.keep {
            let name: String = changes
                .name
                .chars()
                .map(|char| {
                    if char.is_alphanumeric() || "-_.".contains(char) {
                        char
                    } else {
                        '_'
                    }
                })
                .collect();
            let path = folder.join(format!("{name}.wav"));
            crate::audio::interventions::write_wav(&path, sound.rate, &sound.samples).map_err(|why| {
                Error::new(Code::OTHER, format!("cannot write `{}`", path.display())).cause(why.to_string())
            })?;
        }
        let wanted = rate.unwrap_or(sound.rate);
        let samples = resample(sound.samples, sound.rate, wanted)
            .map_err(|why| Error::new(Code::CLIP, "cannot resample the changed clip").cause(why.to_string()))?;
        let hash = crate::audio::content_hash(wanted, &samples);
        about
            .iter_mut()
            .for_each(|what| what["sha256"] = Value::from(hash.clone()));
        Ok((Clip::new(wanted, samples), about))
    }
}

/// What a prompt's clips go through.
#[derive(Clone, Copy)]
pub struct Changes<'a> {
    pub each: &'a [Intervention],
    /// The question that seeds random places.
    pub id: &'a str,
    /// The question whose clip is swapped in.
    pub other: Option<&'a Sample>,
    /// Where changed clips are written, and under what name.
    pub keep: Option<&'a Path>,
    pub name: &'a str,
}

impl Changes<'_> {
    pub const NONE: Changes<'static> = Changes {
        each: &[],
        id: "",
        other: None,
        keep: None,
        name: "",
    };
}

fn decoded(clips: &Clips, sample: &Sample, index: usize, rate: Option<u32>) -> Result<Clip> {
    let source = sample.clips.get(index).ok_or_else(|| {
        let message = format!(
            "the prompt names clip {index}, but the sample has {}",
            sample.clips.len()
        );
        Error::new(Code::DATA, message)
    })?;
    let wanted = Wanted {
        rate,
        start: source.start,
        end: source.end,
        ..Wanted::default()
    };
    let name = format!("clip {index} of sample {}", sample.id);
    let from = match (&source.path, source.blob.and_then(|blob| sample.blobs.get(blob))) {
        (Some(path), _) => Source::File(path),
        (None, Some(bytes)) => Source::Bytes { name: &name, bytes },
        (None, None) => return Err(Error::new(Code::CLIP, format!("{name} names neither a file nor bytes"))),
    };
    let decoded = clips
        .get(from, &wanted)
        .map_err(|why| Error::from(why).code(Code::CLIP))?;
    Ok(decoded.clip.clone())
}

fn from_file(clips: &Clips, file: &Path) -> Result<Sound> {
    let decoded = clips
        .get(Source::File(file), &Wanted::default())
        .map_err(|why| Error::from(why).code(Code::CLIP))?;
    Ok(Sound {
        rate: decoded.rate,
        samples: decoded.samples().to_vec(),
    })
}
