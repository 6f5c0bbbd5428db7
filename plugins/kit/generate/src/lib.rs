//! Generation: answers as many prompts at a time as fit.
//!
//! Batching is continuous. Every pass through the model takes one token of each answer in progress, the next piece of
//! each prompt that is still being read, and whole choices to be scored. The place of a finished answer is free at the
//! next pass. Rows are concatenated without padding, so the cost of a prompt does not depend on the others.

mod admit;
mod choice;
mod clip_cache;
mod defaults;
mod feed;
mod greedy;
mod lane;
mod pass;
mod prefixes;
mod random;
mod row;
mod sampler;
mod scheduler;
mod search;
mod tree;

use admit::MOST_BEAMS;
pub use defaults::{Defaults, EarlyStop};
pub use greedy::Greedy;

use checkpoint::memory;
use kernels::device;
pub use lane::Lane;
use nn::{AudioEmbeds, Decoder, Input, LoraPlan, LoraSet, Loras};
pub use pass::pass;
use plugin_api::{
    Call, Code, Error, Jobs, Lesson, LessonCutter, LessonTokens, Memory, Prompt, PromptTokens, Pulled, Reply, Result,
    Settings,
};
pub use sampler::{Pick, Sampler, greedy_knobs};
use scheduler::{Learnt, Scheduler};
pub use search::{Breadth, Search, State};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use text::Chat;

/// Limits on concurrent work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Answers in progress.
    pub rows: usize,
    /// Tokens in one pass. A longer prompt is read in several, so that answers in progress don't wait for it.
    pub step_tokens: usize,
    /// The length of an answer when neither prompt nor checkpoint sets one.
    pub max_tokens: u32,
    /// Bytes for the caches of shared prefixes; 0 reads every prompt separately.
    pub prefix_bytes: usize,
    /// Bytes for the caches of answers in progress. A single answer is computed whatever it takes.
    pub cache_bytes: usize,
}

impl Limits {
    /// Tokens of the answer whose cache must fit into memory: prompt and answer of a typical task.
    pub const PLANNED_TOKENS: usize = 2048;

    /// The settings `max_batch`, `step_tokens`, `max_tokens` and `prefix_mb`. `beams`, a default for prompts in some
    /// models, is checked too.
    pub fn from_settings(settings: &Settings) -> Result<Limits> {
        let standard = Limits::default();
        let refused = |name: &str, got: u32, expected: String| {
            let message = format!("setting `{name}` is {got}, expected {expected}");
            Err(Error::new(Code::SETTINGS, message))
        };
        for name in ["max_batch", "step_tokens", "max_tokens", "beams"] {
            if settings.get(name)? == Some(0) {
                return refused(name, 0, "1 or more".to_owned());
            }
        }
        if let Some(beams) = settings.get("beams")?.filter(|beams| *beams > MOST_BEAMS) {
            return refused("beams", beams, format!("at most {MOST_BEAMS}"));
        }
        let prefix_mb = settings.or("prefix_mb", standard.prefix_bytes >> 20)?;
        Ok(Limits {
            rows: settings.or("max_batch", standard.rows)?,
            step_tokens: settings.or("step_tokens", standard.step_tokens)?,
            max_tokens: settings.or("max_tokens", standard.max_tokens)?,
            prefix_bytes: prefix_mb.saturating_mul(1 << 20),
            ..standard
        })
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            rows: 32,
            step_tokens: 1024,
            max_tokens: 1024,
            prefix_bytes: 1 << 30,
            cache_bytes: usize::MAX,
        }
    }
}

/// Prompts that are taken between two passes, unless all work is scoring options.
const TAKEN: usize = 8;

/// A decoder with its tokenizer and its publisher's settings.
pub struct Generator<D> {
    decoder: D,
    chat: Arc<Chat>,
    defaults: Defaults,
    limits: Limits,
    /// The words that end reasoning whose budget is used up.
    enough: String,
    loras: Loras,
    lora_bytes: u64,
    /// Including LoRAs.
    weight_bytes: u64,
    peak_bytes: u64,
    /// Bytes of one token in a cache; 0 until measured.
    token_bytes: usize,
}

impl<D: Decoder> Generator<D> {
    /// `weight_bytes` is the size of the weights, for memory reports.
    pub fn new(decoder: D, chat: Chat, defaults: Defaults, limits: Limits, weight_bytes: u64) -> Generator<D> {
        // Half of the free memory: buffers double as they grow, and passes need memory, too.
        device::settle(decoder.device());
        let left = memory::available_on(decoder.device());
        let left = left.map(|bytes| usize::try_from(bytes / 2).unwrap_or(usize::MAX));
        let limits = Limits {
            rows: limits.rows.max(1),
            step_tokens: limits.step_tokens.max(1),
            cache_bytes: limits.cache_bytes.min(left.unwrap_or(usize::MAX)),
            prefix_bytes: limits.prefix_bytes.min(left.unwrap_or(usize::MAX) / 4),
            ..limits
        };
        Generator {
            decoder,
            chat: Arc::new(chat),
            defaults,
            limits,
            enough: "\n</think>\n\n".to_owned(),
            loras: Loras::default(),
            lora_bytes: 0,
            weight_bytes,
            peak_bytes: weight_bytes,
            token_bytes: 0,
        }
    }

    /// Adds the LoRAs of the decoder's layers: [`nn::Loras::of`] of the weights that it was loaded from.
    pub fn with_loras(mut self, loras: &Loras) -> Generator<D> {
        self.loras = loras.clone();
        self.weigh_loras();
        self
    }

    /// Inserts these words into the reasoning before it is closed when its budget is used up. Some models are trained
    /// to answer after such words.
    pub fn with_last_thought(mut self, words: Option<&str>) -> Generator<D> {
        if let Some(words) = words.filter(|words| !words.is_empty()) {
            self.enough = format!("\n\n{words}\n</think>\n\n");
        }
        self
    }

    /// Reads a LoRA that prompts may choose by this name.
    pub fn add_lora(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.loras
            .read(name, folder, false)
            .map_err(checkpoint::Error::into_plugin_error)?;
        device::settle(self.decoder.device());
        self.weigh_loras();
        Ok(())
    }

    /// Answers one prompt.
    pub fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        let mut scheduler = Scheduler::new(self);
        scheduler.admit(0, prompt, *call);
        loop {
            if let Some((_, reply)) = scheduler.take_done().pop() {
                let learnt = scheduler.learnt();
                self.note(learnt);
                return reply;
            }
            scheduler.advance();
        }
    }

    /// Answers prompts until there are no more.
    pub fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        let mut scheduler = Scheduler::new(self);
        let mut more = true;
        loop {
            let mut taken = 0;
            while more && (taken < TAKEN || scheduler.only_scores()) && scheduler.has_room() {
                let wait = if scheduler.is_idle() {
                    Duration::from_secs(3600)
                } else {
                    Duration::ZERO
                };
                match jobs.poll(wait) {
                    Pulled::Job(job) => {
                        taken += 1;
                        scheduler.admit(job.id, &job.prompt, jobs.call(&job));
                    }
                    Pulled::Later if scheduler.is_idle() => {}
                    Pulled::Later => break,
                    Pulled::End => more = false,
                }
            }
            scheduler.advance();
            for (id, reply) in scheduler.take_done() {
                more &= jobs.done(id, reply);
            }
            if !more && scheduler.is_idle() {
                let learnt = scheduler.learnt();
                self.note(learnt);
                return Ok(());
            }
        }
    }

    /// The tokens of a prompt.
    pub fn tokens(&self, prompt: &Prompt) -> Result<PromptTokens> {
        self.decoder.check(prompt)?;
        let encoded = self.chat.encode(prompt)?;
        let input = self.input(prompt, encoded.ids)?;
        Ok(PromptTokens {
            text: encoded.text,
            ids: input.tokens,
        })
    }

    /// The model's input for a prompt with these tokens, and its LoRAs.
    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        let loras = self.loras.choose(&prompt.lora)?;
        let input = self.decoder.input(prompt, tokens)?;
        Ok(Input { loras, ..input })
    }

    /// Encodes audio chunks, with the prompt's LoRAs.
    fn encode_audio(&self, sounds: &[&[f32]], loras: &LoraSet) -> Result<Vec<AudioEmbeds>> {
        let _entered = self.loras.enter(LoraPlan::all(loras));
        self.decoder.encode_audio(sounds)
    }

    /// The tokens of a lesson, and which of them are learnt.
    pub fn lesson_tokens(&self, lesson: &Lesson) -> Result<LessonTokens> {
        self.chat.encode_lesson(lesson)
    }

    /// The same without the model, for many lessons at once.
    pub fn lesson_cutter(&self) -> LessonCutter {
        let chat = self.chat.clone();
        Arc::new(move |lesson| chat.encode_lesson(lesson))
    }

    /// The memory of the weights and, at its peak so far, of the caches.
    pub fn memory(&self) -> Memory {
        self.account(self.weight_bytes, self.peak_bytes)
    }

    fn weigh_loras(&mut self) {
        let bytes = self.loras.bytes();
        self.weight_bytes = self.weight_bytes - self.lora_bytes + bytes;
        self.lora_bytes = bytes;
        self.peak_bytes = self.peak_bytes.max(self.weight_bytes);
    }

    pub fn loras(&self) -> &Loras {
        &self.loras
    }

    pub fn decoder(&self) -> &D {
        &self.decoder
    }

    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    fn account(&self, now: u64, peak: u64) -> Memory {
        match self.decoder.device().is_cpu() {
            true => Memory {
                host_bytes: now,
                ..Memory::default()
            },
            false => Memory {
                device_bytes: now,
                device_peak_bytes: peak,
                host_bytes: 0,
            },
        }
    }

    fn note(&mut self, learnt: Learnt) {
        device::settle(self.decoder.device());
        self.peak_bytes = self.peak_bytes.max(learnt.peak_bytes);
        self.token_bytes = learnt.token_bytes;
        (self.limits.rows, self.limits.step_tokens) = (learnt.rows, learnt.step_tokens);
    }
}
