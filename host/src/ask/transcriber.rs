//! `--transcriber`: a model that hears for models that can't.
//!
//! It is loaded when the first such model meets a task with clips, and transcribes each clip once for a whole command,
//! however many samples and models share the clip, and several clips at a time. It answers greedily, so a run that is
//! resumed gets the same words as before.

use super::pool::{Copy, HELPERS_DEADLINE, Limits, Pool, kernels_of};
use crate::audio::Decoded;
use crate::catalog::Resolved;
use crate::run::store::hash::hash_json;
use crate::run::store::record::Transcript;
use plugin_api::client::ModelClient;
use plugin_api::{Error, Message, ModelCard, Part, Prompt, Result, Sampling};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What the transcriber is asked about each clip, unless `--transcriber-prompt` says otherwise.
pub const PROMPT: &str =
    "Write down what is said in this recording, word for word. If nobody speaks, describe what is to be heard.";
/// Enough for a few minutes of speech.
const MOST_TOKENS: u32 = 512;
/// Each caller waits in its own thread.
const MOST_AT_ONCE: usize = 16;

/// The model, once loaded.
struct Loaded {
    pool: Pool,
    card: ModelCard,
    /// A direct line to it next to its pool, if it is asked over a network.
    remote: Option<ModelClient>,
}

/// The model of `--transcriber`.
pub struct Transcriber {
    resolved: Resolved,
    prompt: String,
    hash: OnceLock<String>,
    /// The command's request to stop.
    stop: Arc<AtomicBool>,
    loaded: OnceLock<Result<Loaded>>,
    /// By the hash of the clip. If two threads need the same clip, one asks for it and the other waits.
    heard: Mutex<HashMap<String, Arc<OnceLock<Result<String>>>>>,
}

impl Transcriber {
    /// A transcriber that is not loaded yet.
    pub fn new(resolved: Resolved, prompt: Option<String>, stop: Arc<AtomicBool>) -> Transcriber {
        let (hash, loaded, heard) = Default::default();
        Transcriber {
            resolved,
            prompt: prompt.unwrap_or_else(|| PROMPT.to_owned()),
            hash,
            stop,
            loaded,
            heard,
        }
    }

    pub fn name(&self) -> &str {
        &self.resolved.spec.name
    }

    /// What its transcripts depend on. The class of its kernels is known once it is loaded.
    pub fn identity(&self) -> Result<Value> {
        let class = kernels_of(&self.model()?.card);
        let mut identity = json!({ "model": self.resolved.identity, "prompt": self.prompt, "max_tokens": MOST_TOKENS });
        if let Some(class) = class {
            identity["kernels"] = class;
        }
        Ok(identity)
    }

    /// Loads the model, when it isn't yet. An error when it can't hear.
    pub fn load(&self) -> Result<()> {
        self.model().map(drop)
    }

    /// The rate at which it wants its clips.
    pub fn sample_rate(&self) -> Result<Option<u32>> {
        Ok(self.model()?.card.sample_rate)
    }

    /// How many threads should ask at a time, so that it works on several clips together.
    pub fn at_once(&self) -> Result<usize> {
        let card = &self.model()?.card;
        Ok(Limits::of(card, 1, None, None).at_once.clamp(1, MOST_AT_ONCE))
    }

    /// The direct line to a service that transcribes: it keeps a ledger of its calls.
    pub fn remote(&self) -> Result<Option<&ModelClient>> {
        Ok(self.model()?.remote.as_ref())
    }

    /// Why a service no longer transcribes, if it doesn't: its quota or budget is used up, or it now refuses the key.
    pub fn given_up(&self) -> Option<Error> {
        let loaded = self.loaded.get()?.as_ref().ok()?;
        loaded.remote.as_ref().and_then(|_| loaded.pool.failure())
    }

    fn model(&self) -> Result<&Loaded> {
        let load = || {
            let (client, made) = self.resolved.model().map_err(|failure| failure.error)?;
            let card = client.card()?;
            if !card.hears() {
                let message = format!("model `{}` can't hear, so it can't be the transcriber", self.name());
                let help = "`--transcriber` takes a model that reads audio; `host ls models --verbose` says which do";
                return Err(Error::unsupported(message).help(help));
            }
            let deadline = self.resolved.plugin.spec().deadline.unwrap_or(HELPERS_DEADLINE);
            let limits = Limits::of(&card, 1, None, Some(deadline));
            let remote = card.remote.is_some().then(|| client.clone());
            let copy = Copy {
                client,
                control: made.control,
            };
            let pool = Pool::start(self.name(), vec![copy], &limits, self.stop.clone());
            Ok(Loaded { pool, card, remote })
        };
        self.loaded.get_or_init(load).as_ref().map_err(Clone::clone)
    }

    /// Its transcript of a clip.
    pub fn hear(&self, clip: &Decoded) -> Result<Transcript> {
        let slot = {
            let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.entry(clip.sha256.clone()).or_default().clone()
        };
        let words = slot.get_or_init(|| self.ask(clip)).clone();
        let identity = self.identity()?;
        let hash = self.hash.get_or_init(|| hash_json(&identity)).clone();
        Ok(Transcript {
            model: self.name().to_owned(),
            hash,
            words: words.map_err(|error| {
                error.context(format!("the transcriber, model `{}`, failed on a clip", self.name()))
            })?,
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
        let reply = self.model()?.pool.ask(prompt, &|| self.stop.load(Ordering::Relaxed))?;
        Ok(reply.text.trim().to_owned())
    }
}
