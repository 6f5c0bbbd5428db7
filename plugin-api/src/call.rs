//! What a plugin can ask of the host while it works: whether to stop, and what another model answers.

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
    /// A call of this host.
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

    /// True when the work should end: the host asked for it, or the time limit has passed.
    pub fn stop_asked(&self) -> bool {
        self.refused || self.late() || self.host.stop_asked()
    }

    /// An error when the work should end, for `?`.
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

    /// Passes on a piece of the answer. False if the host wants no more.
    pub fn token(&mut self, text: &str) -> bool {
        let note = TokenNote {
            job: self.job,
            text: text.to_owned(),
        };
        self.refused |= !self.tell(&named("token", self.job), &note);
        !self.refused
    }

    /// Reports progress: a share between 0 and 1, and a few words.
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

    /// Lets another model answer, which the host chooses by role.
    pub fn generate(&self, role: &str, prompt: &Prompt) -> Result<Reply> {
        let mut prompt = prompt.clone();
        let mut envelope = prompt.pack()?;
        if let Some(job) = self.job {
            // Tells the host which of several cases the question is for.
            envelope.json = Envelope::of(&ForJob { job, prompt: &prompt })?.json;
        }
        self.host.ask(&format!("generate:{role}"), envelope)?.read()
    }

    fn tell<T: Serialize>(&self, what: &str, note: &T) -> bool {
        Envelope::of(note).is_ok_and(|envelope| self.host.emit(what, envelope))
    }
}

/// A prompt, and the job that it is asked for. A host that knows only the prompt ignores the job.
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
