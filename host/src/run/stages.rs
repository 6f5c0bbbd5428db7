//! The stages before and after the model: samples become prompts on some threads, replies become records on others.

use super::directory::Place;
use super::prepare::{Prepared, Preparing};
use super::queue::Finished;
use super::record::Record;
use super::roles::Roles;
use super::tally::repeats_itself;
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

/// Prepares samples until there are none left. What is known already goes straight to the writer.
#[allow(clippy::too_many_arguments)] // a thread's whole world, called from one place
pub fn prepare_all(
    preparing: &Preparing,
    selection: &[usize],
    known: &HashMap<String, Place>,
    retry_errors: bool,
    cursor: &AtomicUsize,
    stop: &AtomicBool,
    feed: &Sender<Prepared>,
    lines: &Sender<Line>,
    session: (u64, Instant),
) {
    while let Some(index) = selection.get(cursor.fetch_add(1, Ordering::Relaxed)) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let (mut prepared, outcome) = preparing.begin(*index);
        if let Some(place) = known.get(&prepared.record.key)
            && !(place.failed && retry_errors)
        {
            let _ = lines.send(Line::Known(place.offset));
            continue;
        }
        match outcome.and_then(|()| preparing.inputs.settle(&mut prepared)) {
            Ok(()) => {
                let mut waiting = prepared;
                while let Err(SendTimeoutError::Timeout(back)) = feed.send_timeout(waiting, Duration::from_millis(50)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting = back;
                }
            }
            // The ears stopped because they were asked to: unrecorded, so that the next run does it.
            Err(error) if error.code == Code::CANCELLED => return,
            Err(error) => {
                let mut record = prepared.record;
                record.failed(&error);
                stamp(&mut record, session);
                let _ = lines.send(Line::New(Box::new(record)));
            }
        }
    }
}

fn stamp(record: &mut Record, (session, began): (u64, Instant)) {
    record.session = session;
    record.at_ms = milliseconds(began.elapsed());
}

fn milliseconds(time: Duration) -> f64 {
    // Microseconds are enough, and keep the records readable.
    (time.as_secs_f64() * 1e6).round() / 1e3
}

/// Scores what is finished, on the task's side of the boundary, and completes the records. Without a task the scoring is
/// left to a later command.
pub fn score_all(
    task: Option<&TaskClient>,
    finished: &Receiver<Finished>,
    lines: &Sender<Line>,
    roles: &Roles,
    over: &AtomicBool,
    session: (u64, Instant),
) {
    loop {
        let done = match finished.recv_timeout(Duration::from_millis(50)) {
            Ok(done) => done,
            // A model that hangs holds the other end for ever, so the writer's end counts as well.
            Err(RecvTimeoutError::Timeout) if !over.load(Ordering::Relaxed) => continue,
            Err(_) => return,
        };
        let Finished {
            prepared,
            outcome,
            latency,
            first_token,
        } = done;
        let Prepared { mut record, sample, .. } = prepared;
        stamp(&mut record, session);
        record.latency_ms = milliseconds(latency);
        let scored = outcome.and_then(|reply| {
            let score = task.map(|task| task.score(&sample, &reply, roles)).transpose();
            note_oddities(&mut record, reply);
            score
        });
        record.ttft_ms = first_token.map(milliseconds).or(record.ttft_ms);
        match scored {
            Ok(Some(score)) => record.of_score(score),
            Ok(None) => record.unscored_yet(),
            Err(error) => record.failed(&error),
        }
        if lines.send(Line::New(Box::new(record))).is_err() {
            return;
        }
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
