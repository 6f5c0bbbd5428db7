//! The host's half of serving: prompts that wait, prompts at work, and what becomes of both when something dies.
//!
//! Models pull. So the queue bounds what is prepared ahead, counts what is at work, keeps each job's deadline, and after
//! a crash gives the jobs that were in flight out again, one at a time, until the one that kills is known.

use super::prompts::WorkItem;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use plugin_api::client::{Given, Serving};
use plugin_api::{Code, Error, Finish, Reply, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A sample that is done: with a reply, or with the reason why there is none.
#[derive(Debug)]
pub struct Finished {
    pub item: WorkItem,
    pub outcome: Result<Reply>,
    pub latency: Duration,
    /// When the first piece of the answer came, if the model streams.
    pub first_token: Option<Duration>,
}

/// A job that a model has taken.
#[derive(Debug)]
struct Flight {
    item: WorkItem,
    seat: usize,
    since: Instant,
    first_token: Option<Duration>,
    alone: bool,
}

#[derive(Debug, Default)]
struct State {
    in_flight: HashMap<u64, Flight>,
    /// Jobs that were in flight together when a model died.
    suspects: VecDeque<WorkItem>,
    /// Jobs to give out again that are not suspected of anything.
    again: VecDeque<WorkItem>,
    next_id: u64,
    /// Everything that was to be prepared has come.
    ended: bool,
}

/// The queue of one run.
#[derive(Debug)]
pub struct Queue {
    incoming: Receiver<WorkItem>,
    outgoing: Sender<Finished>,
    state: Mutex<State>,
    changed: Condvar,
    stop: Arc<AtomicBool>,
    at_once: usize,
    deadline: Option<Duration>,
    settled: AtomicU64,
}

/// Nothing waits longer than this without looking whether it should stop.
const GLANCE: Duration = Duration::from_millis(20);

impl Queue {
    /// A queue that gives out at most `at_once` jobs, each with this deadline.
    pub fn new(
        incoming: Receiver<WorkItem>,
        outgoing: Sender<Finished>,
        stop: Arc<AtomicBool>,
        at_once: usize,
        deadline: Option<Duration>,
    ) -> Self {
        let (state, changed, settled) = Default::default();
        Queue {
            incoming,
            outgoing,
            state,
            changed,
            stop,
            at_once: at_once.max(1),
            deadline,
            settled,
        }
    }

    /// How many jobs came to an end, with an answer or with an error.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// True when nothing waits and nothing more will come.
    pub fn done(&self) -> bool {
        let state = self.lock();
        state.ended && state.suspects.is_empty() && state.again.is_empty()
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self, seat: usize, wait: Duration) -> Given {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        loop {
            if self.stopped() {
                return Given::End;
            }
            let alone = state.in_flight.values().any(|flight| flight.alone);
            let full = alone || state.in_flight.len() >= self.at_once;
            if !full && !state.suspects.is_empty() {
                if state.in_flight.is_empty()
                    && let Some(suspect) = state.suspects.pop_front()
                {
                    return self.hand_out(&mut state, suspect, seat, true);
                }
                // Suspects wait until nothing else is in flight, and nothing else is begun before they had their turn.
            } else if !full {
                if let Some(item) = state.again.pop_front() {
                    return self.hand_out(&mut state, item, seat, false);
                }
                let left = until.saturating_duration_since(Instant::now()).min(GLANCE);
                drop(state);
                let pulled = self.incoming.recv_timeout(left);
                state = self.lock();
                match pulled {
                    Ok(item) => return self.hand_out(&mut state, item, seat, false),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => {
                        state.ended = true;
                        if state.again.is_empty() && state.suspects.is_empty() {
                            return Given::End;
                        }
                        continue;
                    }
                }
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Given::Later;
            }
            let waited = self.changed.wait_timeout(state, left.min(GLANCE));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn hand_out(&self, state: &mut State, item: WorkItem, seat: usize, alone: bool) -> Given {
        state.next_id += 1;
        let (id, prompt) = (state.next_id, Box::new(item.prompt.clone()));
        let flight = Flight {
            item,
            seat,
            since: Instant::now(),
            first_token: None,
            alone,
        };
        state.in_flight.insert(id, flight);
        Given::Job {
            id,
            prompt,
            deadline: self.deadline,
        }
    }

    fn finish(&self, flight: Flight, outcome: Result<Reply>) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        let latency = flight.since.elapsed();
        let finished = Finished {
            item: flight.item,
            outcome,
            latency,
            first_token: flight.first_token,
        };
        // The receiver outlives the queue's users, except when the run is being given up; then nobody asks.
        let _ = self.outgoing.send(finished);
    }

    /// Jobs past their deadline by more than a model that obeys would need.
    pub fn overdue(&self, grace: Duration) -> Vec<usize> {
        let Some(deadline) = self.deadline else {
            return Vec::new();
        };
        let state = self.lock();
        let late = state
            .in_flight
            .values()
            .filter(|flight| flight.since.elapsed() > deadline + grace);
        late.map(|flight| flight.seat).collect()
    }

    /// Settles what a model left unanswered when its `serve` came to an end. `why` is none when it ended in peace.
    pub fn left_behind(&self, seat: usize, why: Option<&Error>) {
        let mut state = self.lock();
        let ids: Vec<u64> = state
            .in_flight
            .iter()
            .filter(|(_, flight)| flight.seat == seat)
            .map(|(id, _)| *id)
            .collect();
        let mut left: Vec<(u64, Flight)> = ids
            .into_iter()
            .filter_map(|id| Some((id, state.in_flight.remove(&id)?)))
            .collect();
        left.sort_by_key(|(id, _)| *id);
        let single = left.len() == 1;
        let mut failed = Vec::new();
        for (_, flight) in left {
            if self.stopped() {
                continue; // unrecorded, so that the next run does it
            }
            let late = self.deadline.is_some_and(|deadline| flight.since.elapsed() > deadline);
            match why {
                None => failed.push((flight, Error::msg("the model ended without answering this prompt"))),
                Some(error) if error.code == Code::DEADLINE && !late => state.again.push_back(flight.item),
                Some(error) if single || flight.alone || error.code == Code::DEADLINE => {
                    failed.push((flight, error.clone()))
                }
                Some(_) => state.suspects.push_back(flight.item),
            }
        }
        drop(state);
        for (flight, error) in failed {
            self.finish(flight, Err(error));
        }
        self.changed.notify_all();
    }

    /// Ends everything that is in flight or waits with this error, when no model is left to answer.
    pub fn give_up(&self, why: &Error) {
        let mut state = self.lock();
        let flights: Vec<Flight> = state.in_flight.drain().map(|(_, flight)| flight).collect();
        state.suspects.clear();
        state.again.clear();
        drop(state);
        for flight in flights {
            self.finish(flight, Err(why.clone()));
        }
    }
}

/// One model's place at the queue.
pub struct Seat<'a> {
    pub queue: &'a Queue,
    pub number: usize,
}

impl Serving for Seat<'_> {
    fn give(&self, wait: Duration) -> Given {
        self.queue.next(self.number, wait)
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        let queue = self.queue;
        // One that is not in flight any more was given up before: its deadline was over.
        let flight = queue.lock().in_flight.remove(&job);
        queue.changed.notify_all();
        let cut_short = match &reply {
            Ok(reply) => reply.finish == Finish::Cancelled,
            Err(error) => error.code == Code::CANCELLED,
        };
        if let Some(flight) = flight
            && !(cut_short && queue.stopped())
        {
            queue.finish(flight, reply);
        }
        !queue.stopped()
    }

    fn token(&self, job: Option<u64>, _text: &str) -> bool {
        let mut state = self.queue.lock();
        if let Some(flight) = job.and_then(|job| state.in_flight.get_mut(&job)) {
            flight.first_token.get_or_insert_with(|| flight.since.elapsed());
        }
        !self.queue.stopped()
    }

    fn stop_asked(&self) -> bool {
        self.queue.stopped()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    struct Bench {
        queue: Queue,
        feed: Option<Sender<WorkItem>>,
        finished: Receiver<Finished>,
        stop: Arc<AtomicBool>,
    }

    fn bench(jobs: u64, at_once: usize, deadline: Option<Duration>) -> Bench {
        let (feed, incoming) = unbounded();
        let (outgoing, finished) = unbounded();
        for position in 0..jobs {
            let mut item = WorkItem::default();
            item.record.doc_id = position;
            feed.send(item).unwrap();
        }
        let stop = Arc::new(AtomicBool::new(false));
        let queue = Queue::new(incoming, outgoing, stop.clone(), at_once, deadline);
        Bench {
            queue,
            feed: Some(feed),
            finished,
            stop,
        }
    }

    impl Bench {
        fn seat(&self) -> Seat<'_> {
            Seat {
                queue: &self.queue,
                number: 0,
            }
        }

        fn pull(&self) -> Option<u64> {
            match self.seat().give(Duration::ZERO) {
                Given::Job { id, .. } => Some(id),
                _ => None,
            }
        }

        fn results(&self) -> Vec<(u64, bool)> {
            let mut all: Vec<_> = self
                .finished
                .try_iter()
                .map(|it| (it.item.record.doc_id, it.outcome.is_ok()))
                .collect();
            all.sort_unstable();
            all
        }
    }

    #[test]
    fn no_more_than_the_batch_is_at_work() {
        let mut bench = bench(3, 2, None);
        let (first, second) = (bench.pull().unwrap(), bench.pull().unwrap());
        assert_eq!(bench.pull(), None);
        bench.seat().take(second, Ok(Reply::text("b")));
        let third = bench.pull().unwrap();
        for job in [first, third] {
            bench.seat().take(job, Ok(Reply::text("x")));
        }
        bench.feed = None;
        assert!(matches!(bench.seat().give(Duration::from_secs(9)), Given::End));
        assert_eq!(bench.results(), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn after_a_crash_the_jobs_in_flight_are_tried_one_by_one() {
        let bench = bench(3, 3, None);
        let died = Error::new(Code::DIED, "died of signal 11");
        for _ in 0..3 {
            bench.pull().unwrap();
        }
        bench.queue.left_behind(0, Some(&died));
        assert_eq!(bench.results(), []);
        // Alone, the first answers, the second kills again and is to blame, the third answers.
        let first = bench.pull().unwrap();
        assert_eq!(bench.pull(), None, "a suspect is alone at work");
        bench.seat().take(first, Ok(Reply::text("a")));
        bench.pull().unwrap();
        bench.queue.left_behind(0, Some(&died));
        let third = bench.pull().unwrap();
        bench.seat().take(third, Ok(Reply::text("c")));
        assert_eq!(bench.results(), [(0, true), (1, false), (2, true)]);
    }

    #[test]
    fn a_job_past_its_deadline_fails_and_the_others_are_given_out_again() {
        let bench = bench(2, 2, Some(Duration::from_millis(5)));
        bench.pull().unwrap();
        std::thread::sleep(Duration::from_millis(10));
        bench.pull().unwrap();
        assert_eq!(bench.queue.overdue(Duration::ZERO), [0]);
        bench
            .queue
            .left_behind(0, Some(&Error::new(Code::DEADLINE, "no answer in 5 ms")));
        assert_eq!(bench.results(), [(0, false)]);
        assert!(bench.pull().is_some());
    }

    #[test]
    fn what_a_stop_cuts_short_is_not_recorded() {
        let bench = bench(2, 2, None);
        let (first, second) = (bench.pull().unwrap(), bench.pull().unwrap());
        bench.stop.store(true, Ordering::Relaxed);
        bench.seat().take(
            first,
            Ok(Reply {
                finish: Finish::Cancelled,
                ..Reply::default()
            }),
        );
        bench.seat().take(second, Ok(Reply::text("whole")));
        assert_eq!(bench.results(), [(1, true)]);
        assert!(matches!(bench.seat().give(Duration::ZERO), Given::End));
    }
}
