//! What a plugin can ask of the host while it works: to stop, for the next job, to pass something on.

use crate::parcel::{Packed, Parcel};
use crate::{Code, Error, ModelCard, Prompt, Reply, Result};
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// The host's side of a call, as layer 1 carries it. Authors use [`Call`], [`Jobs`] and [`Lessons`] instead.
pub trait Callbacks: Send + Sync {
    /// Asks the host for something and waits for it: the next job, a lesson, an answer of another model.
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel>;

    /// Tells the host something. False asks the plugin to stop what the message was about.
    fn emit(&self, what: &str, note: Parcel) -> bool;

    /// True when the plugin should come to an end.
    fn stop_asked(&self) -> bool;
}

/// Callbacks that know no answer and never ask to stop: for tests, and for calls that need none.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Callbacks for Silent {
    fn ask(&self, what: &str, _input: Parcel) -> Result<Parcel> {
        Err(Error::unsupported(format!("this host doesn't answer `{what}`")))
    }

    fn emit(&self, _what: &str, _note: Parcel) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

/// One call of the host: ask it now and then whether to stop, and pass tokens on as they come.
///
/// ```
/// use plugin_api::{Call, Code, Error, Result, Silent};
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
/// let mut call = Call::new(&Silent);
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
        self.refused |= !self.tell("token", &note);
        !self.refused
    }

    /// Says how far the work is, as a share between 0 and 1, in a few words.
    pub fn progress(&self, share: f64, words: &str) -> bool {
        self.tell(
            "progress",
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
        let parcel = prompt.pack()?;
        self.host.ask(&format!("generate:{role}"), parcel)?.read()
    }

    fn tell<T: Serialize>(&self, what: &str, note: &T) -> bool {
        Parcel::of(note).is_ok_and(|parcel| self.host.emit(what, parcel))
    }
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
    /// None at this moment; more may come.
    Later,
    /// None will come any more, or the host asked to stop.
    End,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct PullRequest {
    pub wait_ms: u64,
}

// What the host answers to a pull. The prompt's clips travel in the same parcel.
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

    /// The same jobs, of which those that this card rules out are answered with the refusal and never handed out.
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
        let pulled = Parcel::of(&PullRequest { wait_ms })
            .and_then(|request| self.host.ask("job", request))
            .and_then(|parcel| Ok((parcel.read::<PullAnswer>()?, parcel.clips)));
        let Ok((answer, clips)) = pulled else {
            // The host is gone or speaks otherwise: no further job can be had from it.
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

    /// Hands an answer back. False when the host asks to stop.
    pub fn done(&mut self, job: u64, reply: Result<Reply>) -> bool {
        self.answers().done(job, reply)
    }

    /// The way back for answers, for threads that work on jobs while this one pulls more.
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

/// The way back for answers. Threads of the plugin may each have one.
#[derive(Clone, Copy)]
pub struct Answers<'a> {
    host: &'a dyn Callbacks,
}

impl<'a> Answers<'a> {
    /// Hands an answer back. False when the host asks to stop.
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
        Parcel::of(&note).is_ok_and(|parcel| self.host.emit("reply", parcel))
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

/// The finished samples of a run, read one by one when a task sums up.
pub struct Rows<'a> {
    host: &'a dyn Callbacks,
    page: std::vec::IntoIter<crate::Row>,
    ended: bool,
}

impl<'a> Rows<'a> {
    /// The rows of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Rows {
            host,
            page: Vec::new().into_iter(),
            ended: false,
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<crate::Row>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.page.next() {
                return Some(Ok(row));
            }
            if self.ended {
                return None;
            }
            match self
                .host
                .ask("rows", Parcel::default())
                .and_then(|parcel| parcel.read::<Vec<crate::Row>>())
            {
                Ok(page) => {
                    self.ended = page.is_empty();
                    self.page = page.into_iter();
                }
                Err(error) => {
                    self.ended = true;
                    return Some(Err(error));
                }
            }
        }
    }
}
