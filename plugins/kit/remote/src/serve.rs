//! Serves prompts concurrently, with a thread for each, as many as the service allows.

use crate::watch::{Stop, Watch};
use crossbeam_channel::{Receiver, Sender, unbounded};
use plugin_api::{Call, Code, Error, Job, Jobs, Prompt, Pulled, Reply, Result};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long to wait for answers in progress when the host wants to stop. The host gives a model five seconds.
const LAST_ANSWERS: Duration = Duration::from_secs(4);
const GLANCE: Duration = Duration::from_millis(20);
const STACK: usize = 1 << 20;

/// Answers prompts, several at a time.
pub trait Answerer: Send + Sync + 'static {
    fn answer(&self, prompt: &Prompt, watch: &mut Watch<'_>) -> std::result::Result<Reply, Stop>;

    /// How many prompts may be in progress now.
    fn allowed(&self) -> usize;
}

/// Answers one prompt, for [`plugin_api::Model::reply`].
pub fn reply(answerer: &impl Answerer, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
    let watched = *call;
    let stop = || watched.stop_asked();
    let mut token = |text: &str| call.token(text);
    let mut watch = Watch {
        deadline: None,
        stop: &stop,
        token: &mut token,
    };
    answerer.answer(prompt, &mut watch).map_err(|stop| stop.error)
}

/// The number of this repetition of a prompt: the setting `repeat`, which judges set.
pub fn repeat_of(prompt: &Prompt) -> u64 {
    let sampling = prompt.sampling();
    sampling
        .and_then(|sampling| sampling.other.get("repeat")?.as_u64())
        .unwrap_or(0)
}

struct Order {
    job: Job,
    refused: Arc<AtomicBool>,
}

enum News {
    Token(u64, String),
    Done(u64, Box<std::result::Result<Reply, Stop>>),
}

/// Serves a host's jobs until there are no more, or until no call can succeed. Then the reason is the error, and the
/// other prompts stay unanswered, so that a later run asks them.
///
/// Threads are not joined: a thread that still waits for an answer when the host stops may yet write it to the ledger.
pub fn serve<A: Answerer>(answerer: &Arc<A>, jobs: &mut Jobs) -> Result<()> {
    let (orders, waiting) = unbounded::<Order>();
    let (tell, news) = unbounded::<News>();
    let (stopped, idle) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut at_work: HashMap<u64, (Call<'_>, Arc<AtomicBool>)> = HashMap::new();
    let (mut over, mut ended, mut stopped_since) = (None::<Error>, false, None::<Instant>);
    loop {
        if stopped_since.is_none() && jobs.stop_asked() {
            stopped.store(true, Ordering::Relaxed);
            stopped_since = Some(Instant::now());
        }
        let closing = ended || over.is_some() || stopped_since.is_some();
        if !closing && at_work.len() < answerer.allowed() {
            let wait = if at_work.is_empty() {
                Duration::from_millis(100)
            } else {
                Duration::ZERO
            };
            match jobs.poll(wait) {
                Pulled::Job(job) => {
                    let refused = Arc::new(AtomicBool::new(false));
                    at_work.insert(job.id, (jobs.call(&job), refused.clone()));
                    if idle.load(Ordering::SeqCst) == 0 {
                        hire(answerer, &waiting, &tell, &stopped, &idle)?;
                    } else {
                        idle.fetch_sub(1, Ordering::SeqCst);
                    }
                    let _ = orders.send(Order { job: *job, refused });
                    while let Ok(one) = news.try_recv() {
                        take(one, jobs, &mut at_work, &mut over);
                    }
                    continue;
                }
                Pulled::Later => {}
                Pulled::End => ended = true,
            }
        }
        if at_work.is_empty() {
            if ended || over.is_some() || stopped_since.is_some() {
                return over.map_or(Ok(()), Err);
            }
            continue;
        }
        if stopped_since.is_some_and(|since| since.elapsed() > LAST_ANSWERS) {
            return Ok(());
        }
        let full = closing || at_work.len() >= answerer.allowed();
        if let Ok(one) = news.recv_timeout(if full { GLANCE } else { GLANCE / 10 }) {
            take(one, jobs, &mut at_work, &mut over);
        }
    }
}

fn take<'a>(
    news: News,
    jobs: &mut Jobs<'a>,
    at_work: &mut HashMap<u64, (Call<'a>, Arc<AtomicBool>)>,
    over: &mut Option<Error>,
) {
    match news {
        News::Token(job, text) => {
            if let Some((call, refused)) = at_work.get_mut(&job)
                && !call.token(&text)
            {
                refused.store(true, Ordering::Relaxed);
            }
        }
        News::Done(job, outcome) => {
            at_work.remove(&job);
            let outcome = match *outcome {
                Ok(reply) => Ok(reply),
                Err(Stop { error, ends: true }) => {
                    over.get_or_insert(error);
                    return;
                }
                Err(Stop { error, .. }) => Err(error),
            };
            jobs.done(job, outcome);
        }
    }
}

/// Starts one more thread, which takes orders until the channel closes.
fn hire<A: Answerer>(
    answerer: &Arc<A>,
    waiting: &Receiver<Order>,
    tell: &Sender<News>,
    stopped: &Arc<AtomicBool>,
    idle: &Arc<AtomicUsize>,
) -> Result<()> {
    let (answerer, waiting, tell, stopped, idle) = (
        answerer.clone(),
        waiting.clone(),
        tell.clone(),
        stopped.clone(),
        idle.clone(),
    );
    let work = move || {
        while let Ok(Order { job, refused }) = waiting.recv() {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                answer(answerer.as_ref(), &job, &refused, &stopped, &tell)
            }));
            let panicked = |_| Err(Error::new(Code::PANIC, "the model's client panicked").into());
            idle.fetch_add(1, Ordering::SeqCst);
            if tell
                .send(News::Done(job.id, Box::new(outcome.unwrap_or_else(panicked))))
                .is_err()
            {
                return;
            }
        }
    };
    let started = std::thread::Builder::new()
        .name("remote".to_owned())
        .stack_size(STACK)
        .spawn(work);
    started
        .map(drop)
        .map_err(|why| Error::msg("cannot start another thread").cause(why.to_string()))
}

fn answer<A: Answerer>(
    answerer: &A,
    job: &Job,
    refused: &AtomicBool,
    stopped: &AtomicBool,
    tell: &Sender<News>,
) -> std::result::Result<Reply, Stop> {
    let stop = || stopped.load(Ordering::Relaxed);
    let mut token = |text: &str| {
        let _ = tell.send(News::Token(job.id, text.to_owned()));
        !refused.load(Ordering::Relaxed)
    };
    let mut watch = Watch {
        deadline: job.deadline,
        stop: &stop,
        token: &mut token,
    };
    answerer.answer(&job.prompt, &mut watch)
}
