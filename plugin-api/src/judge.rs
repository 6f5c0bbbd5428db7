//! Judges: they rule on replies.

use crate::adapter::{unknown_method, Adapter};
use crate::call::{Call, Callbacks, PullRequest};
use crate::parcel::{Packed, Parcel};
use crate::{Case, Error, JudgeCard, Result, Verdict};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A judge: it is shown a sample and a reply, and rules.
///
/// It holds no model of its own; one that needs a model asks the host through [`Call::generate`] and names the role in
/// [`JudgeCard::asks`]. A verdict that can't be understood is [`Verdict::unscored`], never a guess.
///
/// ```
/// use plugin_api::{register_judge, Call, Case, Judge, JudgeCard, Result, Verdict};
///
/// struct Exact;
///
/// impl Judge for Exact {
///     fn card(&self) -> JudgeCard {
///         JudgeCard::new("exact", "1")
///     }
///
///     fn judge(&self, case: &Case, _call: &mut Call) -> Result<Verdict> {
///         let equal = case.sample.target == case.reply.text.trim();
///         Ok(Verdict::of(equal, "compared letter by letter"))
///     }
/// }
///
/// register_judge!("exact", "Right when equal to the target", |_settings| Ok(Exact));
/// # fn main() {}
/// ```
pub trait Judge: Send + Sync {
    /// What it says of itself.
    fn card(&self) -> JudgeCard;

    /// Rules on one case.
    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict>;

    /// Rules on cases until there are no more. The default works on [`JudgeCard::batch`] of them at a time, each on a thread
    /// that asks [`Judge::judge`], so that the model behind a role sees as many prompts at once. A judge that can rule on
    /// several cases together writes its own.
    fn serve(&self, cases: &Cases) -> Result<()> {
        let workers = self.card().batch.clamp(1, MOST_AT_A_TIME);
        let panicked = Mutex::new(None);
        std::thread::scope(|scope| {
            for _ in 1..workers {
                scope.spawn(|| one_by_one(self, cases, &panicked));
            }
            one_by_one(self, cases, &panicked);
        });
        let panicked = panicked.into_inner().unwrap_or_else(PoisonError::into_inner);
        panicked.map_or(Ok(()), Err)
    }
}

/// The most threads that the default of [`Judge::serve`] starts, whatever a card says.
const MOST_AT_A_TIME: u32 = 256;

fn one_by_one<J: Judge + ?Sized>(judge: &J, cases: &Cases, panicked: &Mutex<Option<Error>>) {
    while let Some(pending) = cases.next() {
        let ruled = crate::abi::caught("judge", || judge.judge(&pending.case, &mut cases.call(&pending)));
        let ruled = ruled.unwrap_or_else(|panic| {
            // The judge's state can't be trusted any more. The host makes a new one when this call has failed.
            cases.end();
            *panicked.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic.clone());
            Err(panic)
        });
        cases.verdicts().done(pending.id, ruled);
    }
}

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

// What the host answers to a pull. The prompt's clips travel in the same parcel.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct CaseAnswer {
    pub end: bool,
    pub job: Option<u64>,
    pub deadline_ms: Option<u64>,
    pub case: Option<Case>,
}

/// What is handed back for a case. `job` is its id, as for a model's answers.
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
        let pulled = Parcel::of(&PullRequest { wait_ms })
            .and_then(|request| self.host.ask("case", request))
            .and_then(|parcel| Ok((parcel.read::<CaseAnswer>()?, parcel.clips)));
        let Ok((answer, clips)) = pulled else {
            // The host is gone or speaks otherwise: no further case can be had from it.
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

    /// True when no case will come any more.
    pub fn ended(&self) -> bool {
        if self.host.stop_asked() {
            self.end();
        }
        self.ended.load(Ordering::Acquire)
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// The way back for verdicts; threads of the plugin may each have one.
    pub fn verdicts(&self) -> Verdicts<'a> {
        Verdicts { host: self.host }
    }

    /// The call that belongs to a case: its deadline, its stop, its questions to models.
    pub fn call(&self, pending: &Pending) -> Call<'a> {
        Call::of_job(self.host, pending.id, pending.deadline)
    }
}

/// The way back for verdicts.
#[derive(Clone, Copy)]
pub struct Verdicts<'a> {
    host: &'a dyn Callbacks,
}

impl Verdicts<'_> {
    /// Hands a verdict back. False when the host asks to stop.
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
        Parcel::of(&note).is_ok_and(|parcel| self.host.emit("verdict", parcel))
    }
}

/// The methods of a judge by their names on the wire.
pub(crate) struct JudgeAdapter(pub Box<dyn Judge>);

impl Adapter for JudgeAdapter {
    fn call(&self, method: &str, input: Parcel, host: &dyn Callbacks) -> Result<Parcel> {
        match method {
            "card" => Parcel::of(&self.0.card()),
            "judge" => {
                let case = Case::unpack(input)?;
                Parcel::of(&self.0.judge(&case, &mut Call::new(host))?)
            }
            "serve" => {
                self.0.serve(&Cases::new(host))?;
                Ok(Parcel::default())
            }
            _ => Err(unknown_method("judge", method)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{JudgeClient, Judging, NextCase};
    use crate::{Code, Message, Prompt, Reply, Ruling};
    use std::sync::{Arc, Barrier, Mutex};

    /// Asks a model about each case; two cases must be under way at a time before either is answered.
    struct Asks;

    impl Judge for Asks {
        fn card(&self) -> JudgeCard {
            JudgeCard {
                batch: 2,
                asks: vec!["judge".to_owned()],
                ..JudgeCard::new("asks", "1")
            }
        }

        fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
            call.progress(0.5, "asking");
            let reply = call.generate("judge", &Prompt::new([Message::user(&case.reply.text)]))?;
            match reply.text.as_str() {
                "panic" => panic!("the judge is unwell"),
                "fail" => Err(Error::msg("no verdict today")),
                text => Ok(Verdict::of(text == "right", text)),
            }
        }
    }

    struct Court {
        waiting: Mutex<Vec<(u64, &'static str)>>,
        ruled: Mutex<Ruled>,
        heard: Mutex<Vec<(Option<u64>, String)>>,
        together: Barrier,
    }

    impl Judging for Court {
        fn give(&self, _wait: Duration) -> NextCase {
            let Some((id, text)) = self.waiting.lock().unwrap().pop() else {
                return NextCase::End;
            };
            let case = Case {
                reply: Reply::text(text),
                ..Case::default()
            };
            let (case, deadline) = (Box::new(case), None);
            NextCase::Case { id, case, deadline }
        }

        fn take(&self, id: u64, verdict: Result<Verdict>) -> bool {
            self.ruled.lock().unwrap().push((id, verdict));
            true
        }

        fn generate(&self, role: &str, prompt: Prompt) -> Result<Reply> {
            assert_eq!(role, "judge");
            self.together.wait();
            Ok(Reply::text(prompt.last_user_text()))
        }

        fn progress(&self, id: Option<u64>, _share: f64, words: &str) -> bool {
            self.heard.lock().unwrap().push((id, words.to_owned()));
            true
        }
    }

    type Ruled = Vec<(u64, Result<Verdict>)>;

    fn rule(cases: &[(u64, &'static str)]) -> (Result<()>, Ruled, Court) {
        let court = Court {
            waiting: Mutex::new(cases.iter().rev().copied().collect()),
            ruled: Mutex::default(),
            heard: Mutex::default(),
            together: Barrier::new(2),
        };
        let adapter: Arc<dyn Adapter> = Arc::new(JudgeAdapter(Box::new(Asks)));
        let outcome = JudgeClient(adapter).serve(&court);
        let mut ruled = std::mem::take(&mut *court.ruled.lock().unwrap());
        ruled.sort_by_key(|(id, _)| *id);
        (outcome, ruled, court)
    }

    #[test]
    fn as_many_cases_are_under_way_as_the_card_says() {
        let (outcome, ruled, court) = rule(&[(1, "right"), (2, "wrong"), (3, "fail"), (4, "right")]);
        outcome.unwrap();
        let rulings: Vec<_> = ruled
            .iter()
            .map(|(_, verdict)| verdict.as_ref().map(|it| it.ruling))
            .collect();
        assert_eq!(rulings[0], Ok(Ruling::Right));
        assert_eq!(rulings[1], Ok(Ruling::Wrong));
        assert_eq!(rulings[2].as_ref().unwrap_err().message, "no verdict today");
        assert_eq!(rulings[3], Ok(Ruling::Right));
        let mut heard = court.heard.into_inner().unwrap();
        heard.sort();
        assert_eq!(heard[0], (Some(1), "asking".to_owned()));
        assert_eq!(heard.len(), 4);
    }

    #[test]
    fn a_panic_costs_its_case_and_ends_the_judge() {
        let (outcome, ruled, _) = rule(&[(1, "panic"), (2, "right")]);
        assert_eq!(outcome.unwrap_err().code, Code::PANIC);
        assert_eq!(ruled[0].1.as_ref().unwrap_err().code, Code::PANIC);
        assert_eq!(ruled[1].1.as_ref().unwrap().ruling, Ruling::Right);
    }
}
