//! What a plugin can ask of the host while it works: to stop, for the next job, to pass something on.

use crate::wire::{named, Callbacks, Envelope, Packed};
use crate::{Code, Error, Prompt, Reply, Result};
use serde::{Deserialize, Serialize};
use std::time::Instant;

/// One call of the host: ask it now and then whether to stop, and pass tokens on as they come.
///
/// ```
/// use plugin_api::{Call, Code, Error, Result, NoCallbacks};
///
/// fn spell(word: &str, call: &mut Call) -> Result<String> {
///     let mut said = String::new();
///     for letter in word.chars() {
///         call.check()?; // an error when the host asked to stop or the time is over
///         said.push(letter);
///         call.token(&letter.to_string());
///     }
///     Ok(said)
/// }
///
/// let mut call = Call::new(&NoCallbacks);
/// assert_eq!(spell("ja", &mut call).unwrap(), "ja");
/// ```
#[derive(Clone, Copy)]
pub struct Call<'a> {
    host: &'a dyn Callbacks,
    job: Option<u64>,
    deadline: Option<Instant>,
    refused: bool,
}

impl<'a> Call<'a> {
    /// A call with this host behind it.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Call {
            host,
            job: None,
            deadline: None,
            refused: false,
        }
    }

    /// The call that belongs to one of several jobs.
    pub(crate) fn of_job(host: &'a dyn Callbacks, job: u64, deadline: Option<Instant>) -> Self {
        Call {
            job: Some(job),
            ..Call::new(host).until(deadline)
        }
    }

    /// The same call, with a time after which it should end.
    pub fn until(mut self, deadline: Option<Instant>) -> Self {
        self.deadline = deadline;
        self
    }

    /// True when the work should come to an end: the host asked for it, or the time is over.
    pub fn stop_asked(&self) -> bool {
        self.refused || self.late() || self.host.stop_asked()
    }

    /// An error when the work should come to an end, for `?`.
    pub fn check(&self) -> Result<()> {
        if self.late() {
            return Err(Error::new(Code::DEADLINE, "the time allowed for this answer is over"));
        }
        if self.stop_asked() {
            return Err(Error::new(Code::CANCELLED, "stopped because the host asked for it"));
        }
        Ok(())
    }

    fn late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Passes on a piece of the answer. False when the host wants no more of it.
    pub fn token(&mut self, text: &str) -> bool {
        let note = TokenNote {
            job: self.job,
            text: text.to_owned(),
        };
        self.refused |= !self.tell(&named("token", self.job), &note);
        !self.refused
    }

    /// Says how far the work is, as a share between 0 and 1, in a few words.
    pub fn progress(&self, share: f64, words: &str) -> bool {
        self.tell(
            &named("progress", self.job),
            &ProgressNote {
                job: self.job,
                share,
                words: words.to_owned(),
            },
        )
    }

    /// Asks the host to let another model of the catalog answer, by the role that the settings gave it.
    pub fn generate(&self, role: &str, prompt: &Prompt) -> Result<Reply> {
        let mut prompt = prompt.clone();
        let mut envelope = prompt.pack()?;
        if let Some(job) = self.job {
            // So that the host knows for which of several cases its model was asked.
            envelope.json = Envelope::of(&ForJob { job, prompt: &prompt })?.json;
        }
        self.host.ask(&format!("generate:{role}"), envelope)?.read()
    }

    fn tell<T: Serialize>(&self, what: &str, note: &T) -> bool {
        Envelope::of(note).is_ok_and(|envelope| self.host.emit(what, envelope))
    }
}

/// A prompt, and the job that it is asked for. A host that reads the prompt alone passes over the job.
#[derive(Debug, Serialize)]
struct ForJob<'a> {
    job: u64,
    #[serde(flatten)]
    prompt: &'a Prompt,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct TokenNote {
    #[serde(default)]
    pub job: Option<u64>,
    pub text: String,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ProgressNote {
    #[serde(default)]
    pub job: Option<u64>,
    pub share: f64,
    pub words: String,
}
