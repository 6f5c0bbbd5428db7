//! Calls to a model, and the host's end of `serve`.

use super::LONGEST_WAIT;
use crate::call::TokenNote;
use crate::model::{CommandRequest, LoraRequest, PullAnswer, PullRequest, ReplyNote, TrainingRequest};
use crate::training::{Teacher, TeacherCallbacks};
use crate::wire::{verb, Adapter, Callbacks, Envelope, Packed};
use crate::{
    Code, Error, Estimate, Learnt, Lesson, LessonTokens, Memory, ModelCard, NoCallbacks, Plan, Prompt, PromptTokens,
    Reply, Result, TrainingEstimate, Workload,
};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// What a host gives out when a model pulls.
#[derive(Debug)]
pub enum NextJob {
    /// A prompt to answer, and the time it may take.
    Job {
        /// Names the job when it is answered.
        id: u64,
        /// The prompt.
        prompt: Box<Prompt>,
        /// The time it may take.
        deadline: Option<Duration>,
    },
    /// None within the time asked for.
    Later,
    /// None any more.
    End,
}

/// A host that gives out prompts and takes answers.
pub trait Serving: Send + Sync {
    /// The next prompt, waiting at most this long.
    fn give(&self, wait: Duration) -> NextJob;

    /// Takes an answer. False asks the model to stop.
    fn take(&self, job: u64, reply: Result<Reply>) -> bool;

    /// Takes a piece of an answer. False asks the model to stop this job.
    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        true
    }

    /// True when the model should end.
    fn stop_asked(&self) -> bool {
        false
    }
}

struct ServingCallbacks<'a>(&'a dyn Serving);

impl ServingCallbacks<'_> {
    /// What is handed out within this time, and whether there is nothing at the moment.
    fn job(&self, wait: Duration) -> (bool, Result<Envelope>) {
        let mut later = false;
        let mut clips = Vec::new();
        let answer = match self.0.give(wait) {
            NextJob::Job {
                id,
                mut prompt,
                deadline,
            } => {
                clips = std::mem::take(&mut prompt.clips);
                let deadline_ms = deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
                PullAnswer {
                    job: Some(id),
                    prompt: Some(*prompt),
                    deadline_ms,
                    ..PullAnswer::default()
                }
            }
            NextJob::Later => {
                later = true;
                PullAnswer::default()
            }
            NextJob::End => PullAnswer {
                end: true,
                ..PullAnswer::default()
            },
        };
        let envelope = Envelope::of(&answer).map(|envelope| Envelope { clips, ..envelope });
        (later, envelope)
    }
}

impl Callbacks for ServingCallbacks<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        if what != "job" {
            return NoCallbacks.ask(what, input);
        }
        let request: PullRequest = input.read()?;
        self.job(Duration::from_millis(request.wait_ms).min(LONGEST_WAIT)).1
    }

    fn ask_now(&self, what: &str, input: &Envelope) -> Option<Result<Envelope>> {
        if what != "job" {
            return Some(NoCallbacks.ask(what, Envelope::default()));
        }
        let waits = input.read::<PullRequest>().is_ok_and(|request| request.wait_ms > 0);
        match self.job(Duration::ZERO) {
            (true, _) if waits => None,
            (_, answer) => Some(answer),
        }
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        match verb(what) {
            "reply" => match note.read::<ReplyNote>() {
                Ok(note) => {
                    let failed = || Error::new(Code::ENVELOPE, "the model sent neither a reply nor an error");
                    let reply = match (note.reply, note.error) {
                        (Some(reply), _) => Ok(reply),
                        (None, error) => Err(error.map_or_else(failed, |error| error.code(Code(note.code)))),
                    };
                    self.0.take(note.job, reply)
                }
                Err(_) => false,
            },
            "token" => note
                .read::<TokenNote>()
                .is_ok_and(|note| self.0.token(note.job, &note.text)),
            _ => !self.0.stop_asked(),
        }
    }

    fn stop_asked(&self) -> bool {
        self.0.stop_asked()
    }

    fn lasts(&self) -> bool {
        true
    }
}

/// A model, called by a host.
#[derive(Clone)]
pub struct ModelClient(pub Arc<dyn Adapter>);

impl ModelClient {
    /// [`crate::Model::card`]
    pub fn card(&self) -> Result<ModelCard> {
        self.0.call("card", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::Model::reply`]
    pub fn reply(&self, prompt: &Prompt, host: &dyn Callbacks) -> Result<Reply> {
        self.0.call("reply", prompt.clone().pack()?, host)?.read()
    }

    /// [`crate::Model::serve`]
    pub fn serve(&self, serving: &dyn Serving) -> Result<()> {
        self.0
            .call("serve", Envelope::default(), &ServingCallbacks(serving))
            .map(drop)
    }

    /// [`crate::Model::tokens`]
    pub fn tokens(&self, prompt: &Prompt) -> Result<PromptTokens> {
        self.0.call("tokens", prompt.clone().pack()?, &NoCallbacks)?.read()
    }

    /// [`crate::Model::lesson_tokens`]
    pub fn lesson_tokens(&self, lesson: &Lesson) -> Result<LessonTokens> {
        self.0
            .call("lesson_tokens", lesson.clone().pack()?, &NoCallbacks)?
            .read()
    }

    /// [`crate::Model::learn`]; `host` answers `lesson` and takes `learn` events.
    pub fn learn(&self, plan: &Plan, teacher: &dyn Teacher) -> Result<Learnt> {
        self.0
            .call("learn", Envelope::of(plan)?, &TeacherCallbacks(teacher))?
            .read()
    }

    /// [`crate::Model::add_lora`]
    pub fn add_lora(&self, name: &str, folder: &Path) -> Result<()> {
        let request = LoraRequest {
            name: name.to_owned(),
            folder: folder.to_owned(),
        };
        self.0.call("add_lora", Envelope::of(&request)?, &NoCallbacks).map(drop)
    }

    /// [`crate::Model::memory`]
    pub fn memory(&self) -> Result<Memory> {
        self.0.call("memory", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::Model::replay`]
    pub fn replay(&self, case: &Value) -> Result<Value> {
        self.0.call("replay", Envelope::of(case)?, &NoCallbacks)?.read()
    }

    /// [`crate::Model::run_command`]; `host` takes `progress`.
    pub fn run_command(&self, command: &str, request: &Value, host: &dyn Callbacks) -> Result<Value> {
        let request = CommandRequest {
            command: command.to_owned(),
            request: request.clone(),
        };
        self.0.call("run_command", Envelope::of(&request)?, host)?.read()
    }
}

/// The callbacks of a host that hands out lessons, for tests that call a model's training loop without its plugin.
pub fn teaching(teacher: &dyn Teacher) -> impl Callbacks + '_ {
    TeacherCallbacks(teacher)
}

/// A model's memory estimate, called by a host.
#[derive(Clone)]
pub struct EstimateClient(pub Arc<dyn Adapter>);

impl EstimateClient {
    /// [`crate::register_estimate!`]
    pub fn estimate(&self) -> Result<Estimate> {
        self.0.call("estimate", Envelope::default(), &NoCallbacks)?.read()
    }

    /// The memory of training by this plan, with these batches.
    pub fn training(&self, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
        let request = TrainingRequest {
            plan: plan.clone(),
            work: work.clone(),
        };
        self.0.call("training", Envelope::of(&request)?, &NoCallbacks)?.read()
    }
}
