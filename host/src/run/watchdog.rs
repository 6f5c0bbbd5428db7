//! Why a run should stop before its end: somebody interrupted it, its time is over, or its model is given up.

use super::Options;
use crate::ask::pool::Pool;
use crate::failure::{Exit, Failure};
use plugin_api::{Code, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Nothing is looked at more often than this.
const GLANCE: Duration = Duration::from_millis(20);

/// Looks now and then whether the run should stop, and remembers why.
pub struct Watchdog<'a> {
    options: &'a Options,
    pool: &'a Pool,
    /// Tells everybody who works on the run.
    stop: Arc<AtomicBool>,
    glanced: Instant,
    why: Option<Failure>,
}

const GOES_ON: &str = "the same command goes on from here";

/// Somebody interrupted the command.
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

    /// Looks, unless it just did.
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

    /// Why the run is not whole, when it isn't.
    pub fn cut_short(self, whole: bool) -> Option<Failure> {
        // A copy that hangs is left behind, whether or not there was more to ask.
        let counts = |why: &Error| !whole || why.code == Code::DEADLINE;
        let gave_up = self.given_up().filter(counts).map(Failure::from);
        self.why.or(gave_up)
    }

    /// Why the model answers nothing any more, or the service that hears for it.
    fn given_up(&self) -> Option<Error> {
        let hears = self.options.transcriber.as_ref();
        self.pool.failure().or_else(|| hears.and_then(|it| it.given_up()))
    }
}
