//! Prompts on their way from a host to a model that serves, and answers on their way back.

use crate::wire::{Callbacks, Envelope};
use crate::{Call, Error, ModelCard, Prompt, Reply, Result};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A prompt that waits for its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Names the job when it is answered.
    pub id: u64,
    /// The prompt.
    pub prompt: Prompt,
    /// When its time is over.
    pub deadline: Option<Instant>,
}

/// What [`Jobs::poll`] found.
#[derive(Debug)]
pub enum Pulled {
    /// A prompt that waits.
    Job(Box<Job>),
    /// None now; more may come.
    Later,
    /// No more will come, or the host asked to stop.
    End,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PullRequest {
    pub wait_ms: u64,
}

// The host's answer to a pull. The prompt's clips travel in the same envelope.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PullAnswer {
    pub end: bool,
    pub job: Option<u64>,
    pub deadline_ms: Option<u64>,
    pub prompt: Option<Prompt>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ReplyNote {
    pub job: u64,
    pub reply: Option<Reply>,
    pub code: u32,
    pub error: Option<Error>,
}

/// Prompts, pulled by a model when it has room for one.
///
/// ```
/// use plugin_api::{Jobs, Reply, Result};
///
/// // What `Model::serve` does when an author doesn't write it.
/// fn serve(jobs: &mut Jobs) -> Result<()> {
///     while let Some(job) = jobs.next() {
///         let reply = Ok(Reply::text(job.prompt.last_user_text()));
///         jobs.done(job.id, reply);
///     }
///     Ok(())
/// }
/// # let _ = serve;
/// ```
pub struct Jobs<'a> {
    host: &'a dyn Callbacks,
    card: Option<ModelCard>,
    ended: bool,
}

impl<'a> Jobs<'a> {
    /// The jobs of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Jobs {
            host,
            card: None,
            ended: false,
        }
    }

    /// The same jobs; prompts that this card rules out are refused and never handed out.
    pub(crate) fn of(self, card: ModelCard) -> Self {
        let card = Some(card);
        Jobs { card, ..self }
    }

    /// Waits for the next prompt. None when there are no more, or the host asked to stop.
    #[allow(clippy::should_implement_trait)] // an iterator would have to borrow `self` while the job is worked on
    pub fn next(&mut self) -> Option<Job> {
        loop {
            match self.poll(Duration::from_secs(3600)) {
                Pulled::Job(job) => return Some(*job),
                Pulled::Later => {}
                Pulled::End => return None,
            }
        }
    }

    /// The next prompt, if one comes within this time: a model with rows at work passes zero.
    pub fn poll(&mut self, wait: Duration) -> Pulled {
        if self.ended || self.host.stop_asked() {
            self.ended = true;
            return Pulled::End;
        }
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let pulled = Envelope::of(&PullRequest { wait_ms })
            .and_then(|request| self.host.ask("job", request))
            .and_then(|envelope| Ok((envelope.read::<PullAnswer>()?, envelope.clips)));
        let Ok((answer, clips)) = pulled else {
            // The host is gone or speaks another protocol: no further job can be had from it.
            self.ended = true;
            return Pulled::End;
        };
        match (answer.job, answer.prompt) {
            (Some(id), Some(mut prompt)) => {
                prompt.clips = clips;
                if let Some(refusal) = self.card.as_ref().and_then(|card| card.can_answer(&prompt).err()) {
                    self.done(id, Err(refusal));
                    return Pulled::Later;
                }
                let deadline = answer.deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
                Pulled::Job(Box::new(Job { id, prompt, deadline }))
            }
            _ if answer.end => {
                self.ended = true;
                Pulled::End
            }
            _ => Pulled::Later,
        }
    }

    /// Returns an answer. False when the host asks to stop.
    pub fn done(&mut self, job: u64, reply: Result<Reply>) -> bool {
        self.answers().done(job, reply)
    }

    /// Returns answers from threads that work on jobs while this one pulls more.
    ///
    /// ```
    /// use plugin_api::{Jobs, Reply, Result};
    ///
    /// fn serve(jobs: &mut Jobs) -> Result<()> {
    ///     std::thread::scope(|scope| {
    ///         while let Some(job) = jobs.next() {
    ///             let answers = jobs.answers();
    ///             scope.spawn(move || answers.done(job.id, Ok(Reply::text(job.prompt.last_user_text()))));
    ///         }
    ///     });
    ///     Ok(())
    /// }
    /// # let _ = serve;
    /// ```
    pub fn answers(&self) -> Answers<'a> {
        Answers { host: self.host }
    }

    /// The call that belongs to a job: its tokens, its deadline, its stop.
    pub fn call(&self, job: &Job) -> Call<'a> {
        self.answers().call(job)
    }

    /// True when the host asked to stop everything.
    pub fn stop_asked(&self) -> bool {
        self.host.stop_asked()
    }
}

/// Returns answers to the host. Threads of the plugin may each have one.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    host: &'a dyn Callbacks,
}

impl<'a> Answers<'a> {
    /// Returns an answer. False when the host asks to stop.
    pub fn done(&self, job: u64, reply: Result<Reply>) -> bool {
        let note = match reply.map_err(Error::redacted) {
            Ok(reply) => ReplyNote {
                job,
                reply: Some(reply),
                ..ReplyNote::default()
            },
            Err(error) => ReplyNote {
                job,
                code: error.code.0,
                error: Some(error),
                ..ReplyNote::default()
            },
        };
        Envelope::of(&note).is_ok_and(|envelope| self.host.emit("reply", envelope))
    }

    /// The call that belongs to a job: its tokens, its deadline, its stop.
    pub fn call(&self, job: &Job) -> Call<'a> {
        Call::of_job(self.host, job.id, job.deadline)
    }

    /// True when the host asked to stop everything.
    pub fn stop_asked(&self) -> bool {
        self.host.stop_asked()
    }
}
