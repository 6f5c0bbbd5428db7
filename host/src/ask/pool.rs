//! A model that serves everyone who asks it.
//!
//! Every copy of the model has a thread and a seat at one queue, and serves as long as prompts come. A watchdog kills
//! workers that are past a deadline. A copy in this process cannot be killed, so when it hangs the pool is abandoned:
//! prompts in flight fail, later callers get the reason, and the thread is left behind.

pub use super::queue::{Answer, Job};
use super::queue::{Queue, Seat};
use crate::plugin::WorkerControl;
use plugin_api::client::ModelClient;
use plugin_api::{Code, Error, Finish, ModelCard, Prompt, Reply, Result};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The time that a model gets beyond its deadline before its worker is killed or the model is abandoned.
const GRACE: Duration = Duration::from_millis(500);
/// How long a model may take to notice that it should stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// The shortest time between two checks.
const GLANCE: Duration = Duration::from_millis(20);
/// A copy that dies this often in a row without finishing a single prompt is abandoned.
const FRUITLESS_DEATHS: u32 = 3;
/// The deadline of graders and transcribers whose plugin has none: nobody watches them, and a hang must end at some
/// point.
pub const HELPERS_DEADLINE: Duration = Duration::from_secs(30 * 60);

/// The class of a model's kernels, if it tells: within one class a prompt always gives the same bits.
pub fn kernels_of(card: &ModelCard) -> Option<Value> {
    let named = card.kernel_class.as_ref().map(|class| json!(class));
    named.or_else(|| card.other.get("kernels").cloned())
}

/// One copy of a model.
#[derive(Clone)]
pub struct Copy {
    pub client: ModelClient,
    /// Its worker, when it lives in one.
    pub control: Option<Arc<dyn WorkerControl>>,
}

/// The settings of a pool.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Prompts in flight at once, over all copies.
    pub at_once: usize,
    /// Prompts that may wait before [`Pool::offer`] gives one back.
    pub room: usize,
    /// The time each answer may take.
    pub deadline: Option<Duration>,
}

impl Limits {
    /// The settings that fit a model's card: as many prompts at a time as all copies together work on, unless given.
    pub fn of(card: &ModelCard, copies: usize, batch: Option<usize>, deadline: Option<Duration>) -> Limits {
        // A service states how many prompts it wants in flight.
        let own = card.concurrency.unwrap_or(card.batch).max(1) as usize;
        let each = batch.unwrap_or(own);
        let at_once = each.saturating_mul(copies);
        Limits {
            at_once,
            // Twice what is in flight: enough that no model waits for a prompt, little enough to stay bounded.
            room: at_once.saturating_mul(2).clamp(16, 1024),
            deadline,
        }
    }
}

/// A model that any number of threads may ask.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    name: String,
    queue: Queue,
    copies: Vec<Copy>,
    stop: Arc<AtomicBool>,
    deadline: Option<Duration>,
    /// Copies that are still serving.
    serving: AtomicU32,
    /// Why the last copy ended.
    last_end: Mutex<Option<Error>>,
}

impl Pool {
    /// Starts to serve. `stop` ends it, and drops unanswered prompts.
    pub fn start(name: &str, copies: Vec<Copy>, limits: &Limits, stop: Arc<AtomicBool>) -> Pool {
        let count = copies.len();
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            queue: Queue::new(limits.at_once, limits.room, limits.deadline, stop.clone()),
            copies,
            stop,
            deadline: limits.deadline,
            serving: AtomicU32::new(u32::try_from(count).unwrap_or(u32::MAX)),
            last_end: Mutex::default(),
        });
        let serve = |number| {
            let shared = shared.clone();
            std::thread::spawn(move || shared.serve(number))
        };
        let threads: Vec<_> = (0..count).map(serve).collect();
        let watched = shared.clone();
        std::thread::spawn(move || watched.watch());
        Pool { shared, threads }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Hands a job in when there is room for it within this time; else gives it back.
    pub fn offer(&self, job: Job, wait: Duration) -> std::result::Result<(), Job> {
        self.shared.queue.offer(job, wait)
    }

    /// Asks, and waits for the answer.
    pub fn ask(&self, prompt: Prompt, stop_asked: &dyn Fn() -> bool) -> Result<Reply> {
        let (sender, answered) = channel();
        let done = Box::new(move |answer: Answer| drop(sender.send(answer.outcome)));
        let prompt = Box::new(prompt);
        self.shared.queue.put(Job { prompt, done });
        let cancelled = || Error::new(Code::CANCELLED, "stopped because the host asked for it");
        loop {
            match answered.recv_timeout(GLANCE) {
                Ok(Ok(reply)) if reply.finish == Finish::Cancelled => return Err(cancelled()),
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) if !stop_asked() => {}
                Err(RecvTimeoutError::Timeout) => return Err(cancelled()),
                // Dropped without an answer: the model was abandoned, or everything is to stop.
                Err(RecvTimeoutError::Disconnected) => return Err(self.failure().unwrap_or_else(cancelled)),
            }
        }
    }

    /// Announces that no more prompts will come; those that wait are still answered.
    pub fn close(&self) {
        self.shared.queue.close();
    }

    /// Why the model no longer answers, if it doesn't.
    pub fn failure(&self) -> Option<Error> {
        self.shared.queue.failure()
    }

    /// True when no copy serves any more, or the pool was abandoned.
    pub fn ended(&self) -> bool {
        self.failure().is_some() || self.threads.iter().all(JoinHandle::is_finished)
    }

    /// The most memory that the copies' workers held.
    pub fn peak_memory_bytes(&self) -> Vec<u64> {
        let controls = self.shared.copies.iter().filter_map(|copy| copy.control.as_ref());
        controls.filter_map(|control| control.peak_memory_bytes()).collect()
    }
}

impl Drop for Pool {
    /// Releases the copies when they are done, without waiting for them, since one may hang.
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    /// Lets a copy serve until no prompts are left, restarting it after a crash while it still finishes prompts.
    fn serve(&self, number: usize) {
        let mut fruitless = 0;
        let mut why = None;
        while self.queue.wait_for_work() {
            let before = self.queue.settled();
            let seat = Seat::new(&self.queue, number);
            let ended = self.copies[number].client.serve(&seat);
            self.queue.left_behind(number, ended.as_ref().err());
            if ended.is_ok() && seat.let_go() {
                fruitless = 0;
                continue;
            }
            fruitless = if self.queue.settled() > before {
                0
            } else {
                fruitless + 1
            };
            if fruitless >= FRUITLESS_DEATHS {
                let idle = || Error::msg("it stopped serving although prompts were left");
                why = Some(ended.err().unwrap_or_else(idle));
                break;
            }
        }
        if let Some(why) = why {
            let why = why.context(format!("model `{}` can't go on", self.name));
            *self.last_end.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
        }
        if self.serving.fetch_sub(1, Ordering::AcqRel) == 1 {
            // No copy is left to answer the prompts that wait.
            let why = self.last_end.lock().unwrap_or_else(PoisonError::into_inner).take();
            self.queue.abandon(why.filter(|_| !self.queue.done()));
        }
    }

    /// Kills workers that are past a deadline or don't stop, until all copies have ended.
    fn watch(&self) {
        let mut stopped_since: Option<Instant> = None;
        while self.serving.load(Ordering::Acquire) > 0 && self.queue.failure().is_none() {
            std::thread::sleep(GLANCE);
            if self.stop.load(Ordering::Relaxed) {
                let since = stopped_since.get_or_insert_with(Instant::now);
                if since.elapsed() > STOP_GRACE {
                    let why = Error::new(
                        Code::CANCELLED,
                        "it did not stop when asked to, so its worker was ended",
                    );
                    let killed = (0..self.copies.len())
                        .filter(|number| self.kill(*number, why.clone()))
                        .count();
                    if killed < self.copies.len() {
                        self.queue.abandon(Some(why));
                    }
                    return;
                }
            }
            for number in self.queue.overdue(GRACE) {
                let deadline = self.deadline.unwrap_or_default();
                let message = format!("no answer within {deadline:?}, so its worker was ended");
                let help = "if it needs longer, raise the plugin's `deadline` in the registry";
                if !self.kill(number, Error::new(Code::DEADLINE, message).help(help)) {
                    let late = Error::new(Code::DEADLINE, format!("no answer within the deadline of {deadline:?}"));
                    self.queue.give_up(&late, unstoppable(&self.name, deadline));
                    return;
                }
            }
        }
    }

    /// False when the copy lives in this process and can't be ended.
    fn kill(&self, number: usize, why: Error) -> bool {
        match self.copies.get(number).and_then(|copy| copy.control.as_ref()) {
            Some(control) => {
                control.kill(why);
                true
            }
            None => false,
        }
    }
}

/// The error for a model in this process that hangs.
fn unstoppable(model: &str, deadline: Duration) -> Error {
    let message = format!("model `{model}` ignored its deadline of {deadline:?} and can't be stopped");
    let help = "give its plugin `isolation = \"process\"` in the registry: a worker can be killed";
    Error::new(Code::DEADLINE, message).help(help)
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Adapter, Callbacks, Envelope, Jobs, Pulled};

    /// A model that answers once it has a number of prompts, and hangs on one of them.
    struct Choir(usize);

    impl Adapter for Choir {
        fn call(&self, method: &str, _input: Envelope, host: &dyn Callbacks) -> Result<Envelope> {
            assert_eq!(method, "serve", "a pool asks in no other way");
            let (mut jobs, mut held) = (Jobs::new(host), Vec::new());
            loop {
                match jobs.poll(Duration::from_millis(1)) {
                    Pulled::Job(job) if job.prompt.last_user_text() == "hang" => {
                        std::thread::sleep(Duration::from_secs(60));
                    }
                    Pulled::Job(job) => held.push(job),
                    Pulled::Later => {}
                    Pulled::End => return Envelope::of(&()),
                }
                if held.len() == self.0 {
                    for job in held.drain(..) {
                        let text = format!("{} of {}", job.prompt.last_user_text(), self.0);
                        jobs.done(job.id, Ok(Reply::text(text)));
                    }
                }
            }
        }
    }

    fn pool(choir: Choir, deadline: Option<Duration>) -> Pool {
        let limits = Limits {
            at_once: 8,
            room: 16,
            deadline,
        };
        let copy = Copy {
            client: ModelClient(Arc::new(choir)),
            control: None,
        };
        Pool::start("choir", vec![copy], &limits, Arc::default())
    }

    /// Asks all of it at once.
    fn ask(pool: &Pool, texts: &[&str]) -> Vec<String> {
        std::thread::scope(|scope| {
            let one = |text: &str| pool.ask(Prompt::plain(text), &|| false);
            let asked: Vec<_> = texts.iter().map(|text| scope.spawn(move || one(text))).collect();
            let words = |reply: Result<Reply>| reply.map_or_else(|error| error.message, |reply| reply.text);
            asked.into_iter().map(|it| words(it.join().unwrap())).collect()
        })
    }

    #[test]
    fn what_several_ask_is_at_work_together() {
        let pool = pool(Choir(3), None);
        assert_eq!(ask(&pool, &["a", "b", "c"]), ["a of 3", "b of 3", "c of 3"]);
        // After a pause in which nobody asked, too.
        std::thread::sleep(Duration::from_millis(700));
        assert_eq!(ask(&pool, &["a", "b", "c"]), ["a of 3", "b of 3", "c of 3"]);
    }

    #[test]
    fn a_stop_ends_the_waiting() {
        let pool = pool(Choir(9), None);
        let error = pool.ask(Prompt::plain("a"), &|| true).unwrap_err();
        assert_eq!(error.code, Code::CANCELLED);
    }

    #[test]
    fn a_model_that_hangs_here_is_given_up_and_nobody_waits_for_it() {
        let deadline = Duration::from_millis(50);
        let pool = pool(Choir(1), Some(deadline));
        let began = Instant::now();
        assert_eq!(ask(&pool, &["hang"]), ["no answer within the deadline of 50ms"]);
        let later = pool.ask(Prompt::plain("a"), &|| false).unwrap_err();
        assert!(later.message.contains("ignored its deadline"), "{later}");
        assert!(began.elapsed() < Duration::from_secs(30) && pool.ended());
    }
}
