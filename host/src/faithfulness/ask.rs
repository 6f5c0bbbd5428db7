//! Asks a model many prompts through its pool, and passes on each answer as it comes.
//!
//! Prompts are made one after the other as the pool has room for them, so that clips are held no longer than needed.

use crate::ask::pool::{Job, Pool};
use plugin_api::{Prompt, Reply, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// Makes the prompt of a job.
pub type Make<'a> = dyn Fn(usize) -> Result<Prompt> + 'a;
/// Receives an answer. False ends the work.
pub type Take<'a> = dyn FnMut(usize, Result<Reply>) -> bool + 'a;

/// How often a request to stop is checked.
const GLANCE: Duration = Duration::from_millis(20);

/// Asks the jobs 0 to `count`. Ends early when `stop` is set, when `take` says so, or when the model is given up, which
/// is an error.
pub fn ask_all(pool: &Pool, count: usize, make: &Make<'_>, take: &mut Take<'_>, stop: &AtomicBool) -> Result<()> {
    let (sender, answers) = channel();
    let mut at_work = AtWork {
        answers,
        open: 0,
        take,
        ended: false,
    };
    let stopped = || stop.load(Ordering::Relaxed);
    for job in 0..count {
        if stopped() || at_work.ended {
            return Ok(());
        }
        let prompt = match make(job) {
            Ok(prompt) => prompt,
            Err(error) => {
                at_work.tell(job, Err(error));
                continue;
            }
        };
        let sender = sender.clone();
        let mut waiting = Job {
            prompt: Box::new(prompt),
            done: Box::new(move |answer| drop(sender.send((job, answer.outcome)))),
        };
        at_work.open += 1;
        while let Err(back) = pool.offer(waiting, GLANCE) {
            if stopped() || at_work.ended {
                return Ok(());
            }
            if pool.ended() {
                return at_work.drain(pool);
            }
            at_work.hear(Duration::ZERO);
            waiting = back;
        }
        at_work.hear(Duration::ZERO);
    }
    while at_work.open > 0 && !stopped() && !at_work.ended {
        if pool.ended() {
            return at_work.drain(pool);
        }
        at_work.hear(GLANCE);
    }
    Ok(())
}

struct AtWork<'a, 'b> {
    answers: Receiver<(usize, Result<Reply>)>,
    /// Prompts that were handed in and not answered yet.
    open: usize,
    take: &'a mut Take<'b>,
    ended: bool,
}

impl AtWork<'_, '_> {
    fn tell(&mut self, job: usize, outcome: Result<Reply>) {
        self.ended |= !(self.take)(job, outcome);
    }

    /// Passes on all answers that have arrived; waits this long for the first.
    fn hear(&mut self, wait: Duration) {
        let mut next = self.answers.recv_timeout(wait).ok();
        while let Some((job, outcome)) = next {
            self.open -= 1;
            self.tell(job, outcome);
            next = self.answers.try_recv().ok();
        }
    }

    /// Passes on the model's last answers before it ended, and reports why it did.
    fn drain(&mut self, pool: &Pool) -> Result<()> {
        self.hear(Duration::ZERO);
        match pool.failure() {
            Some(why) => Err(why),
            None if self.open == 0 => Ok(()),
            None => Err(plugin_api::Error::msg(
                "the model stopped serving although prompts were left",
            )),
        }
    }
}
