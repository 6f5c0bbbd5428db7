//! An adapter that outlives its failures: after a panic, or when its worker died, the next call restarts it.
//!
//! A caught panic leaves an adapter in an unknown state, so it must not answer any more; a dead worker can't. For a run
//! both are the same: the calls in flight failed, and the next one should find a fresh adapter.

use crate::process::{WorkerControl, WorkerHandle};
use plugin_api::client::is_result;
use plugin_api::{Adapter, Callbacks, Code, Envelope, Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// After this many failures in a row, with nothing done in between, an adapter is abandoned.
const MOST_FAILURES: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// One instance of an adapter.
pub(crate) trait Instance: Adapter {
    /// True if it can no longer answer.
    fn is_over(&self) -> bool;

    /// The worker it lives in, if it does.
    fn worker(&self) -> Option<&dyn WorkerControl>;
}

/// Makes the adapter, for the first time or again.
pub(crate) type Make = Box<dyn Fn() -> Result<Arc<dyn Instance>> + Send + Sync>;

/// An adapter that is made again after it fails.
pub(crate) struct Restarting {
    what: String,
    make: Make,
    /// Locked while the adapter is made, so that calls that come meanwhile wait for it.
    making: Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<dyn Instance>>,
    failures: u32,
    last: Option<Error>,
}

impl Restarting {
    /// Makes the adapter. `what` names it in messages.
    pub(crate) fn new(what: String, make: Make) -> Result<Self> {
        let current = Some(make()?);
        let state = Mutex::new(State {
            current,
            ..State::default()
        });
        Ok(Restarting {
            what,
            make,
            making: Mutex::new(()),
            state,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The adapter, made again if the one before has failed.
    fn usable(&self) -> Result<Arc<dyn Instance>> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = {
            let mut state = self.state();
            if let Some(current) = &state.current
                && !current.is_over()
            {
                return Ok(current.clone());
            }
            state.current = None;
            if state.failures >= MOST_FAILURES {
                return Err(self.given_up(&state));
            }
            state.failures
        };
        if let Some(doublings) = failures.checked_sub(1) {
            std::thread::sleep(FIRST_PAUSE * 2_u32.pow(doublings));
        }
        let made = (self.make)();
        let mut state = self.state();
        match made {
            Ok(instance) => {
                state.current = Some(instance.clone());
                Ok(instance)
            }
            Err(error) => {
                state.failures += 1;
                state.last = Some(error.clone());
                Err(error.context(format!("{} could not be restarted", self.what)))
            }
        }
    }

    fn given_up(&self, state: &State) -> Error {
        let message = format!("{} failed {MOST_FAILURES} times in a row and is given up", self.what);
        match &state.last {
            Some(last) => {
                let mut error = Error::new(last.code, message).cause(last.message.clone());
                error.causes.extend(last.causes.iter().cloned());
                error
            }
            None => Error::msg(message),
        }
    }

    /// Counts a failure: once for each instance, however many calls failed with it.
    fn count(&self, instance: &Arc<dyn Instance>, outcome: &Result<Envelope>, progressed: bool) {
        let mut state = self.state();
        if progressed {
            state.failures = 0;
        }
        let is_current = state
            .current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, instance));
        if !instance.is_over() {
            state.failures = 0;
        } else if is_current {
            state.current = None;
            state.failures += 1;
            state.last = outcome.as_ref().err().cloned();
        }
    }
}

impl Adapter for Restarting {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let watched = Watched {
            host,
            progressed: AtomicBool::new(false),
        };
        let mut instance = self.usable()?;
        // An envelope's sound is shared, so the copy is a few strings.
        let mut outcome = instance.call(method, input.clone(), &watched);
        if matches!(&outcome, Err(error) if error.code == Code::POISONED) {
            // Another call's panic came first, and this call never began.
            self.count(&instance, &outcome, false);
            instance = self.usable()?;
            outcome = instance.call(method, input, &watched);
        }
        self.count(&instance, &outcome, watched.progressed.load(Ordering::Relaxed));
        outcome
    }
}

impl WorkerControl for Restarting {
    fn kill(&self, why: Error) {
        let current = self.state().current.clone();
        if let Some(worker) = current.as_ref().and_then(|instance| instance.worker()) {
            worker.kill(why);
        }
    }

    fn pid(&self) -> Option<u32> {
        self.state().current.as_ref()?.worker()?.pid()
    }

    fn peak_memory_bytes(&self) -> Option<u64> {
        self.state().current.as_ref()?.worker()?.peak_memory_bytes()
    }
}

/// A judge that reports its grader's panic did not panic itself.
fn unlike_its_own(error: Error) -> Error {
    match error.code {
        Code::PANIC | Code::POISONED => error.code(Code::OTHER),
        _ => error,
    }
}

/// Notices whether a long call makes progress: each reply of `serve` is a success.
struct Watched<'a> {
    host: &'a dyn Callbacks,
    progressed: AtomicBool,
}

impl Callbacks for Watched<'_> {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        self.host.ask(what, input).map_err(unlike_its_own)
    }

    fn emit(&self, what: &str, note: Envelope) -> bool {
        if is_result(what) {
            self.progressed.store(true, Ordering::Relaxed);
        }
        self.host.emit(what, note)
    }

    fn stop_asked(&self) -> bool {
        self.host.stop_asked()
    }

    fn ask_now(&self, what: &str, input: &Envelope) -> Option<Result<Envelope>> {
        self.host
            .ask_now(what, input)
            .map(|answer| answer.map_err(unlike_its_own))
    }

    fn lasts(&self) -> bool {
        self.host.lasts()
    }
}

impl Instance for WorkerHandle {
    fn is_over(&self) -> bool {
        WorkerHandle::is_over(self)
    }

    fn worker(&self) -> Option<&dyn WorkerControl> {
        Some(self)
    }
}

/// An adapter in this process. It has failed once it has panicked.
pub(crate) struct InProcess {
    adapter: Arc<dyn Adapter>,
    over: AtomicBool,
}

impl InProcess {
    pub(crate) fn new(adapter: Arc<dyn Adapter>) -> Self {
        InProcess {
            adapter,
            over: AtomicBool::new(false),
        }
    }
}

impl Adapter for InProcess {
    fn call(&self, method: &str, input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
        let outcome = self.adapter.call(method, input, host);
        if matches!(&outcome, Err(error) if [Code::PANIC, Code::POISONED].contains(&error.code)) {
            self.over.store(true, Ordering::Release);
        }
        outcome
    }
}

impl Instance for InProcess {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn worker(&self) -> Option<&dyn WorkerControl> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    /// Panics, as layer 1 reports it, at the method `boom`; is poisoned afterwards.
    #[derive(Default)]
    struct Fragile {
        poisoned: AtomicBool,
    }

    impl Adapter for Fragile {
        fn call(&self, method: &str, _input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
            if self.poisoned.load(Ordering::Relaxed) {
                return Err(Error::new(Code::POISONED, "poisoned"));
            }
            match method {
                "fine" => Ok(Envelope::default()),
                "ask" => host.ask("what panics", Envelope::default()),
                "reply and boom" => {
                    host.emit("reply", Envelope::default());
                    self.call("boom", Envelope::default(), host)
                }
                _ => {
                    self.poisoned.store(true, Ordering::Relaxed);
                    Err(Error::new(Code::PANIC, "panicked"))
                }
            }
        }
    }

    /// A host whose answers come from another adapter, which panics.
    struct PanicsElsewhere;

    impl Callbacks for PanicsElsewhere {
        fn ask(&self, _what: &str, _input: Envelope) -> Result<Envelope> {
            Err(Error::new(Code::PANIC, "panicked elsewhere"))
        }

        fn emit(&self, _what: &str, _note: Envelope) -> bool {
            true
        }

        fn stop_asked(&self) -> bool {
            false
        }
    }

    #[track_caller]
    fn check(methods: &[&str], expected: &[&str], makings: u32) {
        static MADE: AtomicU32 = AtomicU32::new(0);
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        MADE.store(0, Ordering::Relaxed);
        let make = || {
            MADE.fetch_add(1, Ordering::Relaxed);
            let instance: Arc<dyn Instance> = Arc::new(InProcess::new(Arc::new(Fragile::default())));
            Ok(instance)
        };
        let adapter = Restarting::new("model `m`".to_owned(), Box::new(make)).expect("made");
        let call = |method: &&str| match adapter.call(method, Envelope::default(), &PanicsElsewhere) {
            Ok(_) => "fine".to_owned(),
            Err(error) => error.to_string(),
        };
        assert_eq!(methods.iter().map(call).collect::<Vec<_>>(), expected);
        assert_eq!(MADE.load(Ordering::Relaxed), makings);
    }

    #[test]
    fn it_is_made_anew_after_a_panic() {
        check(&["fine", "boom", "fine"], &["fine", "panicked", "fine"], 2);
    }

    #[test]
    fn a_panic_that_it_was_told_of_is_not_its_own() {
        check(&["ask"; 7], &["panicked elsewhere"; 7], 1);
    }

    #[test]
    fn it_is_given_up_after_five_panics_in_a_row() {
        let given_up = "model `m` failed 5 times in a row and is given up: panicked";
        let panics = ["panicked"; 5];
        check(&["boom"; 6], &[&panics[..], &[given_up]].concat(), 5);
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        check(
            &["boom", "boom", "boom", "boom", "fine", "boom", "fine"],
            &[
                "panicked", "panicked", "panicked", "panicked", "fine", "panicked", "fine",
            ],
            6,
        );
        check(&["reply and boom"; 7], &["panicked"; 7], 7);
    }
}
