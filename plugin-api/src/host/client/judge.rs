//! Calls to a judge, and the host's end of `serve`.

use super::LONGEST_WAIT;
use crate::call::ProgressNote;
use crate::judge::{CaseAnswer, VerdictNote};
use crate::model::PullRequest;
use crate::wire::{verb, Adapter, Callbacks, Envelope, Packed};
use crate::{Case, Code, Error, JudgeCard, NoCallbacks, Prompt, Reply, Result, Verdict};
use serde::Deserialize;
use std::sync::Arc;
use std::time::Duration;

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
    /// The next case, waiting at most this long.
    fn give(&self, wait: Duration) -> NextCase;

    /// Takes a verdict. False asks the judge to stop.
    fn take(&self, id: u64, verdict: Result<Verdict>) -> bool;

    /// Answers a prompt in this role, which is asked for a case where one is named. The default answers none.
    fn generate(&self, _id: Option<u64>, role: &str, _prompt: Prompt) -> Result<Reply> {
        NoCallbacks
            .ask(&format!("generate:{role}"), Envelope::default())?
            .read()
    }

    /// Reports the judge's progress with a case, or with all of them if none is named.
    fn progress(&self, _id: Option<u64>, _share: f64, _words: &str) -> bool {
        true
    }

    /// True when the judge should end.
    fn stop_asked(&self) -> bool {
        false
    }
}

// The case for which a model is asked; older plugins don't name one.
#[derive(Deserialize)]
struct JobOf {
    #[serde(default)]
    job: Option<u64>,
}

struct JudgingCallbacks<'a>(&'a dyn Judging);

impl Callbacks for JudgingCallbacks<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        if let Some(role) = what.strip_prefix("generate:") {
            let JobOf { job } = input.read()?;
            return Envelope::of(&self.0.generate(job, role, Prompt::unpack(input)?)?);
        }
        if what != "case" {
            return NoCallbacks.ask(what, input);
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
        Ok(Envelope {
            clips,
            ..Envelope::of(&answer)?
        })
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        match verb(what) {
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

    fn lasts(&self) -> bool {
        true
    }
}

/// A judge, called by a host.
#[derive(Clone)]
pub struct JudgeClient(pub Arc<dyn Adapter>);

impl JudgeClient {
    /// [`crate::Judge::card`]
    pub fn card(&self) -> Result<JudgeCard> {
        self.0.call("card", Envelope::default(), &NoCallbacks)?.read()
    }

    /// [`crate::Judge::serve`]
    pub fn serve(&self, judging: &dyn Judging) -> Result<()> {
        let host = JudgingCallbacks(judging);
        self.0.call("serve", Envelope::default(), &host).map(drop)
    }

    /// [`crate::Judge::judge`]
    pub fn judge(&self, case: &Case, host: &dyn Callbacks) -> Result<Verdict> {
        self.0.call("judge", case.clone().pack()?, host)?.read()
    }
}
