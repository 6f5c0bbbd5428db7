//! The host's side of the vocabulary: typed calls to an adapter, wherever it runs.
//!
//! It lives here and not in the host, so that each envelope is written and read in one crate and its two ends
//! can't drift apart. Plugin authors need none of it, except in their tests.

use crate::adapter::Adapter;
use crate::call::{Callbacks, ProgressNote, PullAnswer, PullRequest, ReplyNote, TokenNote};
use crate::estimate::TrainingRequest;
use crate::files::{Piece, WriteRequest};
use crate::judge::{CaseAnswer, VerdictNote};
pub use crate::lessons::Teacher;
use crate::lessons::TeacherCallbacks;
use crate::model::{LoraRequest, WorkRequest};
use crate::parcel::{Packed, Parcel};
use crate::task::{Asked, IndexRequest, Next, NextAnswer, NextRequest, ScoreRequest};
use crate::{
    Case, Code, Error, Estimate, FileAnswers, FileScores, FilesCard, JudgeCard, Learnt, Lesson, LessonTokens, Memory,
    Message, Metric, ModelCard, Plan, Prompt, PromptTokens, Reply, Result, Row, Sample, Score, Silent, TaskCard,
    TrainingEstimate, Verdict, Workload,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What a host gives out when a model pulls.
#[derive(Debug)]
pub enum Given {
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
    /// The next prompt, waiting for it at most so long.
    fn give(&self, wait: Duration) -> Given;

    /// Takes an answer. False asks the model to stop.
    fn take(&self, job: u64, reply: Result<Reply>) -> bool;

    /// Takes a piece of an answer. False asks the model to stop this job.
    fn token(&self, _job: Option<u64>, _text: &str) -> bool {
        true
    }

    /// True when the model should come to an end.
    fn stop_asked(&self) -> bool {
        false
    }
}

struct ServingCallbacks<'a>(&'a dyn Serving);

impl Callbacks for ServingCallbacks<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        if what != "job" {
            return Silent.ask(what, input);
        }
        let request: PullRequest = input.read()?;
        let mut clips = Vec::new();
        let answer = match self.0.give(Duration::from_millis(request.wait_ms)) {
            Given::Job {
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
            Given::Later => PullAnswer::default(),
            Given::End => PullAnswer {
                end: true,
                ..PullAnswer::default()
            },
        };
        Ok(Parcel {
            clips,
            ..Parcel::of(&answer)?
        })
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        match what {
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
}

/// A model, called by a host.
#[derive(Clone)]
pub struct ModelClient(pub Arc<dyn Adapter>);

impl ModelClient {
    /// [`crate::Model::card`]
    pub fn card(&self) -> Result<ModelCard> {
        self.0.call("card", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::Model::reply`]
    pub fn reply(&self, prompt: &Prompt, host: &dyn Callbacks) -> Result<Reply> {
        self.0.call("reply", prompt.clone().pack()?, host)?.read()
    }

    /// [`crate::Model::serve`]
    pub fn serve(&self, serving: &dyn Serving) -> Result<()> {
        self.0
            .call("serve", Parcel::default(), &ServingCallbacks(serving))
            .map(drop)
    }

    /// [`crate::Model::tokens`]
    pub fn tokens(&self, prompt: &Prompt) -> Result<PromptTokens> {
        self.0.call("tokens", prompt.clone().pack()?, &Silent)?.read()
    }

    /// [`crate::Model::lesson_tokens`]
    pub fn lesson_tokens(&self, lesson: &Lesson) -> Result<LessonTokens> {
        self.0.call("lesson_tokens", lesson.clone().pack()?, &Silent)?.read()
    }

    /// [`crate::Model::learn`]; `host` answers `lesson` and takes `learn` events.
    pub fn learn(&self, plan: &Plan, teacher: &dyn Teacher) -> Result<Learnt> {
        self.0
            .call("learn", Parcel::of(plan)?, &TeacherCallbacks(teacher))?
            .read()
    }

    /// [`crate::Model::add_lora`]
    pub fn add_lora(&self, name: &str, folder: &Path) -> Result<()> {
        let request = LoraRequest {
            name: name.to_owned(),
            folder: folder.to_owned(),
        };
        self.0.call("add_lora", Parcel::of(&request)?, &Silent).map(drop)
    }

    /// [`crate::Model::memory`]
    pub fn memory(&self) -> Result<Memory> {
        self.0.call("memory", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::Model::trace`]
    pub fn trace(&self, request: &Value) -> Result<Value> {
        self.0.call("trace", Parcel::of(request)?, &Silent)?.read()
    }

    /// [`crate::Model::work`]; `host` takes `progress`.
    pub fn work(&self, verb: &str, request: &Value, host: &dyn Callbacks) -> Result<Value> {
        let request = WorkRequest {
            verb: verb.to_owned(),
            request: request.clone(),
        };
        self.0.call("work", Parcel::of(&request)?, host)?.read()
    }
}

/// The callbacks of a host that gives out lessons, for those who call a model's loop without its plugin: tests.
pub fn teaching(teacher: &dyn Teacher) -> impl Callbacks + '_ {
    TeacherCallbacks(teacher)
}

/// A task, called by a host.
#[derive(Clone)]
pub struct TaskClient(pub Arc<dyn Adapter>);

impl TaskClient {
    /// [`crate::Task::card`]
    pub fn card(&self) -> Result<TaskCard> {
        self.0.call("card", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::Task::len`]
    pub fn count(&self) -> Result<usize> {
        self.0.call("len", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::Task::sample`]
    pub fn sample(&self, index: usize) -> Result<Sample> {
        Sample::unpack(self.0.call("sample", Parcel::of(&IndexRequest { index })?, &Silent)?)
    }

    /// [`crate::Task::prompt`]; the sample's encoded audio stays here.
    pub fn prompt(&self, sample: &Sample) -> Result<Prompt> {
        Prompt::unpack(self.0.call("prompt", Parcel::of(sample)?, &Silent)?)
    }

    /// [`crate::Task::ask`]
    pub fn ask(&self, index: usize) -> Result<(Sample, Prompt)> {
        let asked = self.0.call("ask", Parcel::of(&IndexRequest { index })?, &Silent)?;
        Asked::unpack(asked).map(|asked| (asked.sample, asked.prompt))
    }

    /// [`crate::Task::next`]
    pub fn next(&self, sample: &Sample, said: &[Message]) -> Result<Next> {
        let sample = Sample {
            blobs: Vec::new(),
            ..sample.clone()
        };
        let said = said.to_vec();
        let request = NextRequest { sample, said };
        let answer = NextAnswer::unpack(self.0.call("next", Parcel::of(&request)?, &Silent)?)?;
        Ok(answer.prompt.map_or(Next::Done, |prompt| Next::Ask(Box::new(prompt))))
    }

    /// [`crate::Task::score`]
    pub fn score(&self, sample: &Sample, reply: &Reply, host: &dyn Callbacks) -> Result<Score> {
        let sample = Sample {
            blobs: Vec::new(),
            ..sample.clone()
        };
        let request = ScoreRequest {
            sample,
            reply: reply.clone(),
        };
        self.0.call("score", Parcel::of(&request)?, host)?.read()
    }

    /// [`crate::Task::metrics`]; `pages` hands out the rows, an empty page at their end.
    pub fn metrics(&self, pages: &dyn Pages) -> Result<Vec<Metric>> {
        self.0.call("metrics", Parcel::default(), &PageCallbacks(pages))?.read()
    }

    /// [`crate::Task::lesson`]
    pub fn lesson(&self, sample: &Sample) -> Result<Lesson> {
        Lesson::unpack(self.0.call("lesson", Parcel::of(sample)?, &Silent)?)
    }

    /// [`crate::Task::prepared`]
    pub fn prepared(&self, sample: &Sample) -> Result<Value> {
        self.0.call("prepared", Parcel::of(sample)?, &Silent)?.read()
    }
}

/// What says how much memory a model would take, called by a host.
#[derive(Clone)]
pub struct EstimateClient(pub Arc<dyn Adapter>);

impl EstimateClient {
    /// [`crate::register_estimate!`]
    pub fn estimate(&self) -> Result<Estimate> {
        self.0.call("estimate", Parcel::default(), &Silent)?.read()
    }

    /// The same of training by this plan, with these batches.
    pub fn training(&self, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
        let request = TrainingRequest {
            plan: plan.clone(),
            work: work.clone(),
        };
        self.0.call("training", Parcel::of(&request)?, &Silent)?.read()
    }
}

/// A task's files, called by a host.
#[derive(Clone)]
pub struct FilesClient(pub Arc<dyn Adapter>);

impl FilesClient {
    /// [`crate::TaskFiles::card`]
    pub fn card(&self) -> Result<FilesCard> {
        self.0.call("card", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::TaskFiles::score`]
    pub fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        self.0.call("score", Parcel::of(answers)?, &Silent)?.read()
    }

    /// [`crate::TaskFiles::export`]; `pages` hands out the rows, `write` takes the text of the named files. When it returns
    /// false, no more comes.
    pub fn export(&self, format: &str, pages: &dyn Pages, write: &(dyn Fn(&str, &str) -> bool + Sync)) -> Result<()> {
        let request = WriteRequest {
            format: format.to_owned(),
            ..WriteRequest::default()
        };
        let host = WriteCallbacks { pages, write };
        self.0.call("export", Parcel::of(&request)?, &host).map(drop)
    }

    /// [`crate::TaskFiles::convert`]
    pub fn convert(
        &self,
        conversion: &str,
        files: &[PathBuf],
        write: &(dyn Fn(&str, &str) -> bool + Sync),
    ) -> Result<()> {
        let request = WriteRequest {
            format: conversion.to_owned(),
            files: files.to_vec(),
        };
        let host = WriteCallbacks { pages: &NoPages, write };
        self.0.call("convert", Parcel::of(&request)?, &host).map(drop)
    }
}

struct NoPages;

impl Pages for NoPages {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(Vec::new())
    }
}

struct WriteCallbacks<'a> {
    pages: &'a dyn Pages,
    write: &'a (dyn Fn(&str, &str) -> bool + Sync),
}

impl Callbacks for WriteCallbacks<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        PageCallbacks(self.pages).ask(what, input)
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        match (what, note.read::<Piece>()) {
            ("write", Ok(piece)) => (self.write)(&piece.file, &piece.text),
            ("write", Err(_)) => false,
            _ => true,
        }
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

/// A host that hands out finished rows, a page at a time.
pub trait Pages: Send + Sync {
    /// The next page; empty at the end.
    fn page(&self) -> Result<Vec<Row>>;
}

struct PageCallbacks<'a>(&'a dyn Pages);

impl Callbacks for PageCallbacks<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        match what {
            "rows" => Parcel::of(&self.0.page()?),
            _ => Silent.ask(what, input),
        }
    }

    fn emit(&self, _what: &str, _note: Parcel) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

/// What a host gives out when a judge pulls.
#[derive(Debug)]
pub enum NextCase {
    /// A case to rule on, and the time it may take.
    Case {
        /// Names the case when it is ruled on.
        id: u64,
        /// The case.
        case: Box<Case>,
        /// The time it may take.
        deadline: Option<Duration>,
    },
    /// None within the time asked for.
    Later,
    /// None any more.
    End,
}

/// A host that gives out cases and takes verdicts.
pub trait Judging: Send + Sync {
    /// The next case, waiting for it at most so long.
    fn give(&self, wait: Duration) -> NextCase;

    /// Takes a verdict. False asks the judge to stop.
    fn take(&self, id: u64, verdict: Result<Verdict>) -> bool;

    /// Answers a prompt in this role. The default answers none.
    fn generate(&self, role: &str, _prompt: Prompt) -> Result<Reply> {
        Silent.ask(&format!("generate:{role}"), Parcel::default())?.read()
    }

    /// Hears how far the judge is with a case, or with all of them when none is named.
    fn progress(&self, _id: Option<u64>, _share: f64, _words: &str) -> bool {
        true
    }

    /// True when the judge should come to an end.
    fn stop_asked(&self) -> bool {
        false
    }
}

struct JudgingCallbacks<'a>(&'a dyn Judging);

/// The longest that a judge's pull is left waiting. It asks again, and a judge whose process died is noticed meanwhile.
const LONGEST_WAIT: Duration = Duration::from_millis(100);

impl Callbacks for JudgingCallbacks<'_> {
    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        if let Some(role) = what.strip_prefix("generate:") {
            return Parcel::of(&self.0.generate(role, Prompt::unpack(input)?)?);
        }
        if what != "case" {
            return Silent.ask(what, input);
        }
        let request: PullRequest = input.read()?;
        let mut clips = Vec::new();
        let answer = match self.0.give(Duration::from_millis(request.wait_ms).min(LONGEST_WAIT)) {
            NextCase::Case { id, mut case, deadline } => {
                clips = case.take_clips();
                CaseAnswer {
                    job: Some(id),
                    case: Some(*case),
                    deadline_ms: deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
                    ..CaseAnswer::default()
                }
            }
            NextCase::Later => CaseAnswer::default(),
            NextCase::End => CaseAnswer {
                end: true,
                ..CaseAnswer::default()
            },
        };
        Ok(Parcel {
            clips,
            ..Parcel::of(&answer)?
        })
    }

    fn emit(&self, what: &str, note: Parcel) -> bool {
        match what {
            "verdict" => note.read::<VerdictNote>().is_ok_and(|note| {
                let failed = || Error::new(Code::ENVELOPE, "the judge sent neither a verdict nor an error");
                let verdict = match (note.verdict, note.error) {
                    (Some(verdict), _) => Ok(verdict),
                    (None, error) => Err(error.map_or_else(failed, |error| error.code(Code(note.code)))),
                };
                self.0.take(note.job, verdict)
            }),
            "progress" => note
                .read::<ProgressNote>()
                .is_ok_and(|note| self.0.progress(note.job, note.share, &note.words)),
            _ => !self.0.stop_asked(),
        }
    }

    fn stop_asked(&self) -> bool {
        self.0.stop_asked()
    }
}

/// A judge, called by a host.
#[derive(Clone)]
pub struct JudgeClient(pub Arc<dyn Adapter>);

impl JudgeClient {
    /// [`crate::Judge::card`]
    pub fn card(&self) -> Result<JudgeCard> {
        self.0.call("card", Parcel::default(), &Silent)?.read()
    }

    /// [`crate::Judge::serve`]
    pub fn serve(&self, judging: &dyn Judging) -> Result<()> {
        let host = JudgingCallbacks(judging);
        self.0.call("serve", Parcel::default(), &host).map(drop)
    }

    /// [`crate::Judge::judge`]
    pub fn judge(&self, case: &Case, host: &dyn Callbacks) -> Result<Verdict> {
        self.0.call("judge", case.clone().pack()?, host)?.read()
    }
}
