//! Cases on their way from a host to a judge that serves, and verdicts on their way back.

use crate::model::PullRequest;
use crate::wire::{Callbacks, Envelope};
use crate::{Call, Case, Error, Result, Verdict};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A case that waits for its verdict.
#[derive(Debug, Clone, PartialEq)]
pub struct Pending {
    /// Names the case when it is ruled on.
    pub id: u64,
    /// The case.
    pub case: Case,
    /// When its time is over.
    pub deadline: Option<Instant>,
}

// The host's answer to a pull. The prompt's clips travel in the same envelope.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CaseAnswer {
    pub end: bool,
    pub job: Option<u64>,
    pub deadline_ms: Option<u64>,
    pub case: Option<Case>,
}

/// The result of a case. `job` is its id, as for a model's answers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct VerdictNote {
    pub job: u64,
    pub verdict: Option<Verdict>,
    pub code: u32,
    pub error: Option<Error>,
}

/// Cases, pulled by a judge when it has room for one. Several threads may pull from it.
///
/// ```
/// use plugin_api::{Cases, Result, Verdict};
///
/// fn serve(cases: &Cases) -> Result<()> {
///     while let Some(pending) = cases.next() {
///         let equal = pending.case.sample.target == pending.case.reply.text.trim();
///         cases.verdicts().done(pending.id, Ok(Verdict::of(equal, "compared letter by letter")));
///     }
///     Ok(())
/// }
/// # let _ = serve;
/// ```
pub struct Cases<'a> {
    host: &'a dyn Callbacks,
    ended: AtomicBool,
}

impl<'a> Cases<'a> {
    /// The cases of this host.
    pub fn new(host: &'a dyn Callbacks) -> Self {
        Cases {
            host,
            ended: AtomicBool::new(false),
        }
    }

    /// Waits for the next case. None when there are no more, or the host asked to stop.
    pub fn next(&self) -> Option<Pending> {
        while !self.ended.load(Ordering::Acquire) {
            if let Some(pending) = self.poll(Duration::from_secs(3600)) {
                return Some(pending);
            }
        }
        None
    }

    /// The next case, if one comes within this time. None as well at the end: [`Cases::ended`] tells the two apart.
    pub fn poll(&self, wait: Duration) -> Option<Pending> {
        if self.ended() {
            return None;
        }
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let pulled = Envelope::of(&PullRequest { wait_ms })
            .and_then(|request| self.host.ask("case", request))
            .and_then(|envelope| Ok((envelope.read::<CaseAnswer>()?, envelope.clips)));
        let Ok((answer, clips)) = pulled else {
            // The host is gone or speaks another protocol: no further case can be had from it.
            self.end();
            return None;
        };
        match (answer.job, answer.case) {
            (Some(id), Some(mut case)) => {
                case.put_clips(clips);
                let deadline = answer.deadline_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
                Some(Pending { id, case, deadline })
            }
            _ => {
                if answer.end {
                    self.end();
                }
                None
            }
        }
    }

    /// True when no more cases will come.
    pub fn ended(&self) -> bool {
        if self.host.stop_asked() {
            self.end();
        }
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Returns verdicts; threads of the plugin may each have one.
    pub fn verdicts(&self) -> Verdicts<'a> {
        Verdicts { host: self.host }
    }

    /// The call that belongs to a case: its deadline, its stop, its questions to models.
    pub fn call(&self, pending: &Pending) -> Call<'a> {
        Call::of_job(self.host, pending.id, pending.deadline)
    }
}

/// Returns verdicts to the host.
#[derive(Clone, Copy)]
pub struct Verdicts<'a> {
    host: &'a dyn Callbacks,
}

impl Verdicts<'_> {
    /// Returns a verdict. False when the host asks to stop.
    pub fn done(&self, id: u64, verdict: Result<Verdict>) -> bool {
        let mut note = VerdictNote {
            job: id,
            ..VerdictNote::default()
        };
        match verdict.map_err(Error::redacted) {
            Ok(verdict) => note.verdict = Some(verdict),
            Err(error) => {
                note.code = error.code.0;
                note.error = Some(error);
            }
        }
        Envelope::of(&note).is_ok_and(|envelope| self.host.emit("verdict", envelope))
    }
}
