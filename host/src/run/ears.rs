//! `--ears`: a model that hears, in the place of those that don't.
//!
//! It is loaded when the first of them meets a task with clips, and hears each clip once for a whole command, however
//! many samples and models share it, and several clips at a time. What it says is drawn greedily, so a run that was cut
//! short goes on with the words that it began with.

use super::listening::Listening;
use super::roles::Roles;
use super::store::hash::hash_json;
use super::store::record::Transcript;
use crate::audio::Decoded;
use crate::catalog::Resolved;
use plugin_api::{Code, Error, Finish, Message, ModelCard, Part, Prompt, Result, Sampling};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the ears are asked about each clip, unless `--ears-prompt` says otherwise.
pub const PROMPT: &str =
    "Write down what is said in this recording, word for word. If nobody speaks, describe what is to be heard.";
/// Enough for a few minutes of speech.
const MOST_TOKENS: u32 = 512;
/// Each waits in a thread of its own.
const MOST_AT_ONCE: usize = 16;

/// The model of `--ears`.
pub struct Ears {
    resolved: Resolved,
    prompt: String,
    hash: String,
    /// Asks nobody; it carries the command's wish to stop.
    callbacks: Roles,
    loaded: OnceLock<Result<(Listening, ModelCard)>>,
    /// By the hash of the clip. A clip that two threads want is heard by one, and the other waits.
    heard: Mutex<HashMap<String, Arc<OnceLock<Result<String>>>>>,
}

impl Ears {
    /// Ears that are not loaded yet.
    pub fn new(resolved: Resolved, prompt: Option<String>, stop: Arc<AtomicBool>) -> Ears {
        let prompt = prompt.unwrap_or_else(|| PROMPT.to_owned());
        let mut ears = Ears {
            resolved,
            prompt,
            hash: String::new(),
            callbacks: Roles {
                stop,
                ..Roles::default()
            },
            loaded: OnceLock::new(),
            heard: Mutex::default(),
        };
        ears.hash = hash_json(&ears.identity());
        ears
    }

    pub fn name(&self) -> &str {
        &self.resolved.spec.name
    }

    /// What is the same as long as the words are.
    pub fn identity(&self) -> Value {
        json!({ "model": self.resolved.identity, "prompt": self.prompt, "max_tokens": MOST_TOKENS })
    }

    /// Loads the model, when it isn't yet. An error when it can't hear.
    pub fn load(&self) -> Result<()> {
        self.model().map(drop)
    }

    /// The rate at which it wants its clips.
    pub fn sample_rate(&self) -> Result<Option<u32>> {
        Ok(self.model()?.1.sample_rate)
    }

    /// How many threads should want clips heard at a time, so that it works on several together.
    pub fn at_once(&self) -> Result<usize> {
        Ok((self.model()?.1.batch as usize).clamp(1, MOST_AT_ONCE))
    }

    fn model(&self) -> Result<&(Listening, ModelCard)> {
        let load = || {
            let (client, made) = self.resolved.model().map_err(|failure| failure.error)?;
            let card = client.card()?;
            if !card.hears() {
                let message = format!("model `{}` can't hear, so it can't be the ears", self.name());
                let help = "`--ears` takes a model that reads audio; `host ls models --verbose` says which do";
                return Err(Error::unsupported(message).help(help));
            }
            let deadline = self.resolved.plugin.spec().deadline;
            Ok((Listening::new(client, made.control, deadline), card))
        };
        self.loaded.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// What it says of a clip.
    pub fn hear(&self, clip: &Decoded) -> Result<Transcript> {
        let slot = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.entry(clip.sha256.clone()).or_default().clone()
        };
        let words = slot.get_or_init(|| self.ask(clip)).clone();
        Ok(Transcript {
            model: self.name().to_owned(),
            hash: self.hash.clone(),
            words: words
                .map_err(|error| error.context(format!("the ears, model `{}`, failed on a clip", self.name())))?,
        })
    }

    fn ask(&self, clip: &Decoded) -> Result<String> {
        let parts = vec![Part::clip(0), Part::text(&self.prompt)];
        let message = Message {
            parts,
            ..Message::default()
        };
        let mut prompt = Prompt::new([message]).sample(Sampling::greedy(MOST_TOKENS));
        prompt.clips.push(clip.clip.clone());
        let reply = self.model()?.0.ask(prompt, &self.callbacks)?;
        if reply.finish == Finish::Cancelled {
            return Err(Error::new(Code::CANCELLED, "stopped because the host asked for it"));
        }
        Ok(reply.text.trim().to_owned())
    }
}
