//! One judge that serves every thread with a case.
//!
//! The judge serves: it pulls cases when it has room for them and hands verdicts back, so a judge that rules on several
//! cases together gets them together. The decision a newcomer would question: a case that was under way when the judge
//! failed is shown to it again, alone. Otherwise nobody could tell which of several cases made it fail, and the others
//! must not suffer for it.

use super::roles::{Noted, Roles};
use crate::run::store::score::Graders;
use plugin_api::client::{JudgeClient, Judging, NextCase};
use plugin_api::{Callbacks, Case, Code, Error, Prompt, Reply, Result, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often a waiting thread checks whether the command should stop.
const GLANCE: Duration = Duration::from_millis(50);
/// The time that a judge gets beyond its deadline.
const GRACE: Duration = Duration::from_millis(500);
/// A judge that hangs this often without a verdict in between is abandoned.
const FRUITLESS_HANGS: u32 = 3;

/// A judge that serves until this is dropped.
pub struct JudgeServer {
    shared: Arc<Shared>,
}

struct Shared {
    client: JudgeClient,
    roles: Roles,
    deadline: Option<Duration>,
    state: Mutex<State>,
    /// A case waits, or the judge is to be released. Threads that wait for a verdict are woken through their own case:
    /// there are many.
    changed: Condvar,
    /// Held while one case is shown alone.
    alone: Mutex<()>,
}

#[derive(Default)]
struct State {
    cases: BTreeMap<u64, UnderWay>,
    last: u64,
    closed: bool,
    /// How often the judge has hung since its last verdict.
    hangs: u32,
    /// Cases that are still to be shown alone. Until then the judge gets no other case, which one of them could break.
    suspects: usize,
}

/// A case between the thread that has it and the judge.
struct UnderWay {
    stage: Stage,
    /// The roles whose models were asked about it.
    asked: BTreeSet<String>,
    /// Wakes the thread that has it.
    over: Arc<Condvar>,
}

enum Stage {
    Waiting(Box<Case>),
    /// When the judge took it.
    Given(Instant),
    Ruled(Box<Result<Verdict>>),
    /// The judge failed while it had this case.
    Dropped,
}

impl JudgeServer {
    /// Starts as many calls of a judge, each with `batch` cases at a time, as it takes to have `at_once` cases under
    /// way.
    pub fn start(
        client: &JudgeClient,
        roles: &Roles,
        batch: u32,
        at_once: usize,
        deadline: Option<Duration>,
    ) -> JudgeServer {
        let shared = Arc::new(Shared {
            client: client.clone(),
            roles: roles.clone(),
            deadline,
            state: Mutex::default(),
            changed: Condvar::new(),
            alone: Mutex::default(),
        });
        for _ in 0..at_once.div_ceil(batch.max(1) as usize).max(1) {
            shared.start_serving();
        }
        JudgeServer { shared }
    }

    /// The verdict on a case, and the models that were asked about it.
    pub fn judge(&self, case: Case) -> (Result<Verdict>, Graders) {
        let shared = &self.shared;
        let again = case.clone();
        let id = shared.put(case);
        let UnderWay { stage, asked, .. } = shared.wait_for(id);
        let graders = shared.roles.graders_of(&asked);
        match stage {
            Stage::Ruled(verdict) => (*verdict, graders),
            Stage::Dropped => shared.alone(&again),
            Stage::Waiting(_) | Stage::Given(_) => (Err(cancelled()), graders),
        }
    }
}

impl Drop for JudgeServer {
    /// Releases the judge without waiting for it, since it may hang.
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }
}

/// Unlocks the state until something changes, or for a moment.
fn wait<'a>(changed: &Condvar, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
    let waited = changed.wait_timeout(state, most.min(GLANCE));
    waited.unwrap_or_else(PoisonError::into_inner).0
}

fn cancelled() -> Error {
    Error::new(Code::CANCELLED, "stopped because the host asked for it")
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, most: Duration) -> MutexGuard<'a, State> {
        wait(&self.changed, state, most)
    }

    fn put(&self, case: Case) -> u64 {
        let mut state = self.lock();
        state.last += 1;
        let id = state.last;
        let under_way = UnderWay {
            stage: Stage::Waiting(Box::new(case)),
            asked: BTreeSet::new(),
            over: Arc::default(),
        };
        state.cases.insert(id, under_way);
        self.changed.notify_one();
        id
    }

    /// Takes a case back when it has a verdict, is late, or is no longer wanted.
    fn wait_for(self: &Arc<Shared>, id: u64) -> UnderWay {
        let mut state = self.lock();
        let over = state
            .cases
            .get(&id)
            .map(|under_way| under_way.over.clone())
            .unwrap_or_default();
        loop {
            let given_up = state.hangs >= FRUITLESS_HANGS;
            let stopped = self.roles.stop_asked();
            if let Some(under_way) = state.cases.get_mut(&id) {
                let too_late = |since: &Instant| self.deadline.is_some_and(|time| since.elapsed() >= time + GRACE);
                let is_over = match &under_way.stage {
                    Stage::Ruled(_) | Stage::Dropped => true,
                    Stage::Waiting(_) if given_up => {
                        let error = Error::new(Code::DEADLINE, "the judge hangs and was given up");
                        under_way.stage = Stage::Ruled(Box::new(Err(error)));
                        true
                    }
                    Stage::Given(since) if too_late(since) => {
                        let error = Error::new(Code::DEADLINE, "the judge did not rule within its plugin's deadline");
                        under_way.stage = Stage::Ruled(Box::new(Err(error)));
                        state.hangs += 1;
                        // The call that has this case may never pull another.
                        self.start_serving();
                        true
                    }
                    Stage::Waiting(_) | Stage::Given(_) => stopped,
                };
                if is_over && let Some(under_way) = state.cases.remove(&id) {
                    return under_way;
                }
            }
            state = wait(&over, state, GLANCE);
        }
    }

    /// Shows the judge a single case.
    fn alone(&self, case: &Case) -> (Result<Verdict>, Graders) {
        let noted = Noted::new(&self.roles);
        let verdict = {
            let _one = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
            self.client.judge(case, &noted)
        };
        self.lock().suspects -= 1;
        self.changed.notify_all();
        (verdict, noted.graders())
    }

    fn start_serving(self: &Arc<Shared>) {
        let shared = self.clone();
        std::thread::spawn(move || shared.serve());
    }

    /// Lets the judge serve until no more cases come, and restarts it after each failure.
    fn serve(&self) {
        loop {
            let seat = Seat {
                shared: self,
                given: Mutex::default(),
            };
            let ended = self.client.serve(&seat);
            let given = seat.given.into_inner().unwrap_or_else(PoisonError::into_inner);
            let mut state = self.lock();
            // The cases that it took without a verdict; and, if it cannot even start, the cases that wait for it.
            let cannot_begin = ended.is_err() && given.is_empty();
            let State { cases, suspects, .. } = &mut *state;
            for (id, under_way) in cases {
                let is_left = match under_way.stage {
                    Stage::Given(_) => given.contains(id),
                    Stage::Waiting(_) => cannot_begin,
                    Stage::Ruled(_) | Stage::Dropped => false,
                };
                if is_left {
                    under_way.stage = Stage::Dropped;
                    under_way.over.notify_all();
                    *suspects += 1;
                }
            }
            self.changed.notify_all();
            // It may have returned although more cases will come: then it is called again when one waits.
            while !state.closed && !state.cases.values().any(|it| matches!(it.stage, Stage::Waiting(_))) {
                state = self.wait(state, GLANCE);
            }
            if state.closed || self.roles.stop_asked() {
                return;
            }
        }
    }
}

/// One call of the judge's loop.
struct Seat<'a> {
    shared: &'a Shared,
    /// The cases that this call took.
    given: Mutex<BTreeSet<u64>>,
}

impl Seat<'_> {
    fn given(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Judging for Seat<'_> {
    fn give(&self, wait: Duration) -> NextCase {
        let until = Instant::now() + wait;
        let mut state = self.shared.lock();
        loop {
            if state.closed || self.stop_asked() {
                return NextCase::End;
            }
            let is_waiting = |it: &&mut UnderWay| matches!(it.stage, Stage::Waiting(_));
            let may_give = state.suspects == 0;
            let next = state.cases.iter_mut().find(|(_, it)| may_give && is_waiting(it));
            if let Some((&id, under_way)) = next
                && let Stage::Waiting(case) = std::mem::replace(&mut under_way.stage, Stage::Given(Instant::now()))
            {
                self.given().insert(id);
                let deadline = self.shared.deadline;
                return NextCase::Case { id, case, deadline };
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return NextCase::Later;
            }
            state = self.shared.wait(state, left);
        }
    }

    fn take(&self, id: u64, verdict: Result<Verdict>) -> bool {
        let mut state = self.shared.lock();
        state.hangs = 0;
        if let Some(under_way) = state.cases.get_mut(&id) {
            under_way.stage = Stage::Ruled(Box::new(verdict));
            under_way.over.notify_all();
        }
        !self.stop_asked()
    }

    fn generate(&self, id: Option<u64>, role: &str, prompt: Prompt) -> Result<Reply> {
        {
            let mut state = self.shared.lock();
            let given = self.given();
            // A plugin that does not say for which case it asks may mean any that it has.
            let is_meant = |of: &u64| id.map_or_else(|| given.contains(of), |id| id == *of);
            for (_, under_way) in state.cases.iter_mut().filter(|(of, _)| is_meant(of)) {
                under_way.asked.insert(role.to_owned());
            }
        }
        self.shared.roles.generate(role, prompt)
    }

    fn stop_asked(&self) -> bool {
        self.shared.roles.stop_asked()
    }
}
