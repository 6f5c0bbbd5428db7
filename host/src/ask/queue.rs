//! The host's half of serving: prompts that wait, prompts in flight, and what happens to both when a model dies.
//!
//! Models pull. So the queue bounds what waits, counts what is in flight, keeps each job's deadline, and after a crash
//! hands out the jobs that were in flight again, one at a time, until it knows which one causes the crash.

use plugin_api::client::{NextJob, Serving};
use plugin_api::{Code, Error, Finish, Prompt, Reply, Result};
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The outcome of a prompt.
#[derive(Debug)]
pub struct Answer {
    pub outcome: Result<Reply>,
    pub latency: Duration,
    /// When the first piece of the answer came, if the model streams.
    pub first_token: Option<Duration>,
}

/// A prompt, and what to do with its answer. A job that is cut short by a stop is dropped without one.
pub struct Job {
    pub prompt: Box<Prompt>,
    pub done: Box<dyn FnOnce(Answer) + Send>,
}

/// A job that a model has taken.
struct Flight {
    job: Job,
    seat: usize,
    since: Instant,
    first_token: Option<Duration>,
    alone: bool,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Job>,
    in_flight: HashMap<u64, Flight>,
    /// Jobs that were in flight together when a model died.
    suspects: VecDeque<Job>,
    /// Jobs to give out again that are not suspected of anything.
    again: VecDeque<Job>,
    next_id: u64,
    /// No more jobs will come.
    closed: bool,
    /// Why no job is answered any more.
    failure: Option<Error>,
    /// When a job was last handed out or answered.
    active: Option<Instant>,
}

impl State {
    fn nothing_waits(&self) -> bool {
        self.waiting.is_empty() && self.suspects.is_empty() && self.again.is_empty()
    }
}

/// The queue of one model, however many copies it has.
pub struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    stop: Arc<AtomicBool>,
    at_once: usize,
    /// How many jobs may wait.
    room: usize,
    deadline: Option<Duration>,
    settled: AtomicU64,
}

/// The longest wait between two checks whether to stop.
const GLANCE: Duration = Duration::from_millis(20);
/// An idle model's `serve` ends after this time, so that the model can be asked other things.
const LINGER: Duration = Duration::from_millis(500);

impl Queue {
    /// A queue that hands out at most `at_once` jobs, each with this deadline, and in which `room` jobs may wait.
    pub fn new(at_once: usize, room: usize, deadline: Option<Duration>, stop: Arc<AtomicBool>) -> Self {
        let (state, changed, settled) = Default::default();
        Queue {
            state,
            changed,
            stop,
            at_once: at_once.max(1),
            room: room.max(1),
            deadline,
            settled,
        }
    }

    /// How many jobs have ended, with an answer or with an error.
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Relaxed)
    }

    /// True when nothing waits and nothing more will come.
    pub fn done(&self) -> bool {
        let state = self.lock();
        state.failure.is_some() || (state.closed && state.nothing_waits())
    }

    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Why no job is answered any more, if so.
    pub fn failure(&self) -> Option<Error> {
        self.lock().failure.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waited = self.changed.wait_timeout(state, time.min(GLANCE));
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Takes a job if there is room for it within this time; else gives it back. A job that nobody will answer is
    /// dropped.
    pub fn offer(&self, job: Job, wait: Duration) -> std::result::Result<(), Job> {
        let until = Instant::now() + wait;
        let mut state = self.lock();
        while state.waiting.len() >= self.room && !state.closed && !self.stopped() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(job);
            }
            state = self.wait(state, left);
        }
        self.push(state, job);
        Ok(())
    }

    /// Takes a job whether there is room or not: callers that wait for their answer bound themselves.
    pub fn put(&self, job: Job) {
        self.push(self.lock(), job);
    }

    fn push(&self, mut state: MutexGuard<'_, State>, job: Job) {
        if state.failure.is_none() && !state.closed && !self.stopped() {
            state.waiting.push_back(job);
            self.changed.notify_all();
        }
    }

    /// Announces that no more jobs will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits until there is a job to hand out. False if there will never be one.
    pub fn wait_for_work(&self) -> bool {
        let mut state = self.lock();
        loop {
            if state.failure.is_some() || self.stopped() {
                return false;
            }
            if !state.nothing_waits() {
                return true;
            }
            if state.closed {
                return false;
            }
            state = self.wait(state, GLANCE);
        }
    }

    fn next(&self, seat: usize, since: Instant, wait: Duration) -> NextJob {
        let asked = Instant::now();
        let mut state = self.lock();
        loop {
            if self.stopped() || state.failure.is_some() {
                return NextJob::End;
            }
            let alone = state.in_flight.values().any(|flight| flight.alone);
            let full = alone || state.in_flight.len() >= self.at_once;
            if !full && !state.suspects.is_empty() {
                // Suspects wait until nothing else is in flight, and no other job starts before they had their turn.
                if state.in_flight.is_empty()
                    && let Some(suspect) = state.suspects.pop_front()
                {
                    return self.hand_out(&mut state, suspect, seat, true);
                }
            } else if !full && let Some(job) = state.again.pop_front().or_else(|| state.waiting.pop_front()) {
                // There may be room for another job that waits.
                self.changed.notify_all();
                return self.hand_out(&mut state, job, seat, false);
            }
            let busy = state.in_flight.values().any(|flight| flight.seat == seat);
            let idle = state.nothing_waits() && !busy;
            let active = state.active.map_or(since, |active| active.max(since));
            if idle && (state.closed || active.elapsed() >= LINGER) {
                return NextJob::End;
            }
            let left = wait.saturating_sub(asked.elapsed());
            if left.is_zero() {
                return NextJob::Later;
            }
            state = self.wait(state, left);
        }
    }

    fn hand_out(&self, state: &mut State, job: Job, seat: usize, alone: bool) -> NextJob {
        state.next_id += 1;
        state.active = Some(Instant::now());
        let (id, prompt) = (state.next_id, job.prompt.clone());
        let flight = Flight {
            job,
            seat,
            since: Instant::now(),
            first_token: None,
            alone,
        };
        state.in_flight.insert(id, flight);
        NextJob::Job {
            id,
            prompt,
            deadline: self.deadline,
        }
    }

    fn finish(&self, flight: Flight, outcome: Result<Reply>) {
        self.settled.fetch_add(1, Ordering::Relaxed);
        (flight.job.done)(Answer {
            outcome,
            latency: flight.since.elapsed(),
            first_token: flight.first_token,
        });
    }

    /// The seats whose jobs are past their deadline by more than a model that obeys would need.
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

    /// Settles the jobs that a model left unanswered when its `serve` ended. `why` is none if it ended without an
    /// error.
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
                continue; // dropped, so that the next command asks again
            }
            let late = self.deadline.is_some_and(|deadline| flight.since.elapsed() > deadline);
            match why {
                None => failed.push((flight, Error::msg("the model ended without answering this prompt"))),
                Some(error) if error.code == Code::DEADLINE && !late => state.again.push_back(flight.job),
                // The prompt is not to blame for a service that no longer answers: a later command asks again.
                Some(error) if ends_all(error.code) => state.again.push_back(flight.job),
                Some(error) if single || flight.alone || error.code == Code::DEADLINE => {
                    failed.push((flight, error.clone()))
                }
                Some(_) => state.suspects.push_back(flight.job),
            }
        }
        drop(state);
        for (flight, error) in failed {
            self.finish(flight, Err(error));
        }
        self.changed.notify_all();
    }

    /// Closes the queue and drops all jobs, waiting or in flight, without an answer. `failure` says why, if it is one.
    pub fn abandon(&self, failure: Option<Error>) {
        drop(self.take_all(failure));
        self.changed.notify_all();
    }

    /// The same, but jobs in flight fail with `answer`.
    pub fn give_up(&self, answer: &Error, failure: Error) {
        for flight in self.take_all(Some(failure)).0 {
            self.finish(flight, Err(answer.clone()));
        }
        self.changed.notify_all();
    }

    // Dropped outside of the lock: threads that wait for one of them look here for the reason.
    fn take_all(&self, failure: Option<Error>) -> (Vec<Flight>, [VecDeque<Job>; 3]) {
        let mut state = self.lock();
        state.closed = true;
        if state.failure.is_none() {
            state.failure = failure;
        }
        let flights = state.in_flight.drain().map(|(_, flight)| flight).collect();
        let waiting = std::mem::take(&mut state.waiting);
        let suspects = std::mem::take(&mut state.suspects);
        (flights, [waiting, suspects, std::mem::take(&mut state.again)])
    }
}

/// Whether this error means that the model can answer no prompt at all, unlike a crash.
fn ends_all(code: Code) -> bool {
    let all = [Code::RATE_LIMITED, Code::MISSING, Code::SETTINGS, Code::UNSUPPORTED];
    all.contains(&code)
}

/// One copy's place at the queue.
pub struct Seat<'a> {
    queue: &'a Queue,
    number: usize,
    /// When the copy sat down.
    since: Instant,
    let_go: AtomicBool,
}

impl<'a> Seat<'a> {
    pub fn new(queue: &'a Queue, number: usize) -> Self {
        Seat {
            queue,
            number,
            since: Instant::now(),
            let_go: AtomicBool::new(false),
        }
    }

    /// Whether the copy was told that no job is waiting.
    pub fn let_go(&self) -> bool {
        self.let_go.load(Ordering::Relaxed)
    }
}

impl Serving for Seat<'_> {
    fn give(&self, wait: Duration) -> NextJob {
        let given = self.queue.next(self.number, self.since, wait);
        if matches!(given, NextJob::End) {
            self.let_go.store(true, Ordering::Relaxed);
        }
        given
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        let queue = self.queue;
        // A job that is no longer in flight was abandoned before, when its deadline passed.
        let flight = {
            let mut state = queue.lock();
            state.active = Some(Instant::now());
            state.in_flight.remove(&job)
        };
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
    use std::sync::mpsc::{Receiver, channel};

    struct Bench {
        queue: Queue,
        finished: Receiver<(u64, bool)>,
        stop: Arc<AtomicBool>,
    }

    fn bench(jobs: u64, at_once: usize, deadline: Option<Duration>) -> Bench {
        let stop = Arc::new(AtomicBool::new(false));
        let queue = Queue::new(at_once, 16, deadline, stop.clone());
        let (sender, finished) = channel();
        for number in 0..jobs {
            let sender = sender.clone();
            let done = Box::new(move |answer: Answer| {
                let _ = sender.send((number, answer.outcome.is_ok()));
            });
            queue.put(Job {
                prompt: Box::new(Prompt::plain("x")),
                done,
            });
        }
        Bench { queue, finished, stop }
    }

    impl Bench {
        fn seat(&self) -> Seat<'_> {
            Seat::new(&self.queue, 0)
        }

        fn pull(&self) -> Option<u64> {
            match self.seat().give(Duration::ZERO) {
                NextJob::Job { id, .. } => Some(id),
                _ => None,
            }
        }

        fn results(&self) -> Vec<(u64, bool)> {
            let mut all: Vec<_> = self.finished.try_iter().collect();
            all.sort_unstable();
            all
        }
    }

    #[test]
    fn no_more_than_the_batch_is_at_work() {
        let bench = bench(3, 2, None);
        let (first, second) = (bench.pull().unwrap(), bench.pull().unwrap());
        assert_eq!(bench.pull(), None);
        bench.seat().take(second, Ok(Reply::text("b")));
        let third = bench.pull().unwrap();
        for job in [first, third] {
            bench.seat().take(job, Ok(Reply::text("x")));
        }
        bench.queue.close();
        assert!(matches!(bench.seat().give(Duration::from_secs(9)), NextJob::End));
        assert_eq!(bench.results(), [(0, true), (1, true), (2, true)]);
    }

    #[test]
    fn a_model_with_nothing_to_do_is_let_go() {
        let bench = bench(0, 2, None);
        assert!(matches!(bench.seat().give(Duration::from_secs(9)), NextJob::End));
        assert!(!bench.queue.done(), "more may come");
    }

    #[test]
    fn a_full_queue_gives_a_job_back() {
        let queue = Queue::new(1, 1, None, Arc::default());
        let job = || Job {
            prompt: Box::new(Prompt::plain("x")),
            done: Box::new(|_| ()),
        };
        assert!(queue.offer(job(), Duration::ZERO).is_ok());
        assert!(queue.offer(job(), Duration::from_millis(1)).is_err());
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
    fn what_a_stop_cuts_short_has_no_answer() {
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
        assert!(matches!(bench.seat().give(Duration::ZERO), NextJob::End));
    }

    #[test]
    fn a_model_that_is_given_up_answers_nothing_more() {
        let bench = bench(3, 1, None);
        bench.pull().unwrap();
        let why = Error::new(Code::DEADLINE, "it hangs");
        bench.queue.give_up(&why, why.clone());
        assert_eq!(bench.results(), [(0, false)], "what waits has no answer");
        assert_eq!(bench.queue.failure(), Some(why));
        assert!(bench.queue.done() && bench.pull().is_none());
    }
}
