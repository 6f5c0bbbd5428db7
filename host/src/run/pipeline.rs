//! What stands before and after the model: some threads build prompts, others score replies into records.

use super::prompts::{Prompts, WorkItem};
use super::queue::Finished;
use super::roles::Roles;
use super::store::directory::Place;
use super::store::record::Record;
use super::tally::repeats_itself;
use crate::score::by_task::score;
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender};
use plugin_api::client::TaskClient;
use plugin_api::{Code, Reply};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What reaches the writer.
pub enum Line {
    /// A record from an earlier session, at this place of the file.
    Known(u64),
    /// A record that is new.
    New(Box<Record>),
}

/// A stretch of work: when it began, in milliseconds since 1970 and on this machine's own clock.
#[derive(Clone, Copy)]
pub struct Stretch {
    pub session: u64,
    pub began: Instant,
}

/// What the threads that build prompts share.
pub struct Building<'a> {
    pub prompts: &'a dyn Prompts,
    /// What earlier commands recorded.
    pub known: &'a HashMap<String, Place>,
    pub retry_errors: bool,
    /// The next place of the prompts.
    pub cursor: AtomicUsize,
    pub stop: &'a AtomicBool,
    pub stretch: Stretch,
}

impl Building<'_> {
    /// Builds prompts until there are none left. What is known already goes straight to the writer.
    pub fn build_all(&self, feed: &Sender<WorkItem>, lines: &Sender<Line>) {
        while let Some(items) = self.prompts.at(self.cursor.fetch_add(1, Ordering::Relaxed)) {
            for (item, outcome) in items {
                if self.stop.load(Ordering::Relaxed) || !self.pass_on(item, outcome, feed, lines) {
                    return;
                }
            }
        }
    }

    /// False when this thread should end.
    fn pass_on(
        &self,
        mut item: WorkItem,
        outcome: plugin_api::Result<()>,
        feed: &Sender<WorkItem>,
        lines: &Sender<Line>,
    ) -> bool {
        if let Some(place) = self.known.get(&item.record.key)
            && !(place.failed && self.retry_errors)
        {
            let _ = lines.send(Line::Known(place.offset));
            return true;
        }
        match outcome.and_then(|()| self.prompts.resolve(&mut item)) {
            Ok(()) => {
                let mut waiting = item;
                while let Err(SendTimeoutError::Timeout(back)) = feed.send_timeout(waiting, Duration::from_millis(50)) {
                    if self.stop.load(Ordering::Relaxed) {
                        return false;
                    }
                    waiting = back;
                }
            }
            // The transcriber stopped because it was asked to: unrecorded, so that the next command does it.
            Err(error) if error.code == Code::CANCELLED => return false,
            Err(error) => {
                let mut record = item.record;
                record.failed(&error);
                stamp(&mut record, self.stretch);
                let _ = lines.send(Line::New(Box::new(record)));
            }
        }
        true
    }
}

fn stamp(record: &mut Record, stretch: Stretch) {
    record.session = stretch.session;
    record.at_ms = milliseconds(stretch.began.elapsed());
}

fn milliseconds(time: Duration) -> f64 {
    // Microseconds are enough, and keep the records readable.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// What the threads that score replies share.
pub struct Scoring<'a> {
    /// None leaves the scoring to a later command.
    pub task: Option<&'a TaskClient>,
    /// The task as a hash.
    pub scorer: &'a str,
    pub roles: &'a Roles,
    /// Set when the writer has ended.
    pub over: &'a AtomicBool,
    pub stretch: Stretch,
}

impl Scoring<'_> {
    /// Scores what is finished, on the task's side of the boundary, and completes the records.
    pub fn score_all(&self, finished: &Receiver<Finished>, lines: &Sender<Line>) {
        loop {
            let done = match finished.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => done,
                // A model that hangs holds the other end for ever, so the writer's end counts as well.
                Err(RecvTimeoutError::Timeout) if !self.over.load(Ordering::Relaxed) => continue,
                Err(_) => return,
            };
            if lines.send(Line::New(Box::new(self.record(done)))).is_err() {
                return;
            }
        }
    }

    fn record(&self, done: Finished) -> Record {
        let mut record = done.item.record;
        stamp(&mut record, self.stretch);
        record.latency_ms = milliseconds(done.latency);
        match done.outcome {
            Ok(reply) => note_oddities(&mut record, reply),
            Err(error) => record.failed(&error),
        }
        record.ttft_ms = done.first_token.map(milliseconds).or(record.ttft_ms);
        if let (Some(task), None) = (self.task, &record.error)
            // Cut short while it scored, the answer is kept and scored by the next command.
            && let Some(entry) = score(task, self.scorer, &record, self.roles)
        {
            record.score_by_task(entry);
        }
        record
    }
}

fn note_oddities(record: &mut Record, reply: Reply) {
    let nan = reply.options.iter().any(|option| option.loglik.is_nan());
    let repeats = repeats_itself(&reply.text);
    record.of_reply(reply);
    for (odd, flag) in [(nan, "nan-logits"), (repeats, "repetition")] {
        if odd && !record.flags.iter().any(|known| known == flag) {
            record.flags.push(flag.to_owned());
        }
    }
}
