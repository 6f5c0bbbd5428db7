//! Why a run should stop early: the user interrupted it, its time is over, or its model is abandoned.

use super::Options;
use crate::ask::pool::Pool;
use crate::failure::{Exit, Failure};
use plugin_api::{Code, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The shortest time between two checks.
const GLANCE: Duration = Duration::from_millis(20);

/// Checks now and then whether the run should stop, and remembers why.
pub struct Watchdog<'a> {
    options: &'a Options,
    pool: &'a Pool,
    /// Set for all threads of the run.
    stop: Arc<AtomicBool>,
    glanced: Instant,
    why: Option<Failure>,
}

const GOES_ON: &str = "the same command goes on from here";

/// The user interrupted the command.
pub fn interrupted() -> Failure {
    Failure::new(Exit::Interrupted, "interrupted").help(GOES_ON)
}

/// Whether the command was interrupted or its time is over.
pub fn should_stop(options: &Options) -> Option<Failure> {
    if options.stop.load(Ordering::Relaxed) {
        return Some(interrupted());
    }
    let over = options.until.is_some_and(|until| Instant::now() >= until);
    over.then(|| Failure::new(Exit::Budget, "the time limit is over").help(GOES_ON))
}

impl<'a> Watchdog<'a> {
    pub fn new(options: &'a Options, pool: &'a Pool, stop: Arc<AtomicBool>) -> Self {
        Watchdog {
            options,
            pool,
            stop,
            glanced: Instant::now(),
            why: None,
        }
    }

    /// Checks, unless it just did.
    pub fn glance(&mut self) {
        if self.glanced.elapsed() < GLANCE || self.why.is_some() {
            return;
        }
        self.glanced = Instant::now();
        self.why = should_stop(self.options);
        if self.why.is_some() || self.given_up().is_some() {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    /// Why the run is incomplete, if it is.
    pub fn cut_short(self, whole: bool) -> Option<Failure> {
        // A copy that hangs is left behind, even if all prompts were done.
        let counts = |why: &Error| !whole || why.code == Code::DEADLINE;
        let gave_up = self.given_up().filter(counts).map(Failure::from);
        self.why.or(gave_up)
    }

    /// Why the model no longer answers, or the service that transcribes for it.
    fn given_up(&self) -> Option<Error> {
        let hears = self.options.transcriber.as_ref();
        self.pool.failure().or_else(|| hears.and_then(|it| it.given_up()))
    }
}
