//! Asks a model many prompts, and hears of each answer as it comes.
//!
//! Prompts are made when the model takes them, so that clips are held no longer than needed. A model that dies is asked
//! again, one prompt at a time, until the one that ends it is known; that one gets the failure as its answer.

use plugin_api::client::{Given, ModelClient, Serving};
use plugin_api::{Code, Error, Finish, Prompt, Reply, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Makes the prompt of a job.
pub type Make<'a> = dyn Fn(usize) -> Result<Prompt> + Sync + 'a;
/// Hears of an answer. False ends the work.
pub type Take<'a> = dyn Fn(usize, Result<Reply>) -> bool + Sync + 'a;

struct Desk<'a> {
    state: Mutex<State>,
    make: &'a Make<'a>,
    take: &'a Take<'a>,
    stop: &'a AtomicBool,
    deadline: Option<Duration>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<usize>,
    in_flight: HashMap<u64, usize>,
    next: u64,
    /// One at a time, after a death.
    alone: bool,
    ended: bool,
    settled: usize,
}

/// Asks the jobs 0 to `count`. Ends early when `stop` is set or `take` says so.
pub fn ask_all(
    model: &ModelClient,
    count: usize,
    make: &Make<'_>,
    take: &Take<'_>,
    stop: &AtomicBool,
    deadline: Option<Duration>,
) -> Result<()> {
    let desk = Desk {
        state: Mutex::new(State {
            waiting: (0..count).collect(),
            ..State::default()
        }),
        make,
        take,
        stop,
        deadline,
    };
    let mut idle = 0;
    while desk.has_work() {
        let before = desk.lock().settled;
        let ended = model.serve(&desk);
        if desk.stopped() {
            break;
        }
        let progress = desk.lock().settled > before;
        desk.recover(ended.as_ref().err());
        idle = if progress || desk.lock().settled > before {
            0
        } else {
            idle + 1
        };
        if idle >= 3 {
            return Err(ended
                .err()
                .unwrap_or_else(|| Error::msg("the model stopped serving although prompts were left")));
        }
    }
    Ok(())
}

impl Desk<'_> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || self.lock().ended
    }

    fn has_work(&self) -> bool {
        let state = self.lock();
        let is_over = state.ended || self.stop.load(Ordering::Relaxed);
        !is_over && (!state.waiting.is_empty() || !state.in_flight.is_empty())
    }

    /// Puts back what was in flight when a model ended; what was alone in flight is what ended it.
    fn recover(&self, why: Option<&Error>) {
        let mut state = self.lock();
        let mut left: Vec<usize> = state.in_flight.drain().map(|(_, job)| job).collect();
        left.sort_unstable();
        match (&left[..], why) {
            ([job], Some(why)) if state.alone => {
                let job = *job;
                drop(state);
                self.settle(job, Err(why.clone()));
            }
            _ => {
                state.alone |= why.is_some() && !left.is_empty();
                left.into_iter().rev().for_each(|job| state.waiting.push_front(job));
            }
        }
    }

    fn settle(&self, job: usize, outcome: Result<Reply>) {
        let goes_on = (self.take)(job, outcome);
        let mut state = self.lock();
        state.settled += 1;
        state.ended |= !goes_on;
    }
}

impl Serving for Desk<'_> {
    fn give(&self, wait: Duration) -> Given {
        loop {
            if self.stopped() {
                return Given::End;
            }
            let mut state = self.lock();
            if state.alone && !state.in_flight.is_empty() {
                drop(state);
                std::thread::sleep(wait.min(Duration::from_millis(5)));
                return Given::Later;
            }
            let Some(job) = state.waiting.pop_front() else {
                return if state.in_flight.is_empty() {
                    Given::End
                } else {
                    Given::Later
                };
            };
            let id = state.next;
            state.next += 1;
            state.in_flight.insert(id, job);
            drop(state);
            match (self.make)(job) {
                Ok(prompt) => {
                    return Given::Job {
                        id,
                        prompt: Box::new(prompt),
                        deadline: self.deadline,
                    };
                }
                Err(error) => {
                    self.lock().in_flight.remove(&id);
                    self.settle(job, Err(error));
                }
            }
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        let cut_short = match &reply {
            Ok(reply) => reply.finish == Finish::Cancelled,
            Err(error) => error.code == Code::CANCELLED,
        };
        let taken = self.lock().in_flight.remove(&job);
        if let Some(job) = taken
            && !(cut_short && self.stopped())
        {
            self.settle(job, reply);
        }
        !self.stopped()
    }

    fn stop_asked(&self) -> bool {
        self.stopped()
    }
}
