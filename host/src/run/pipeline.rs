//! The threads of a run and what flows between them: some build prompts and hand them to the model's pool, some score
//! replies into records, and one writes.

use super::context::RunContext;
use super::progress::Progress;
use super::prompts::{Prompts, WorkItem};
use super::store::directory::Place;
use super::store::record::Record;
use super::store::{Records, Scores};
use super::tally::{Tally, repeats_itself};
use super::watchdog::Watchdog;
use crate::ask::pool::{Answer, Job, Pool};
use crate::ask::roles::Roles;
use crate::ask::transcriber::Transcriber;
use crate::failure::{Failure, Result};
use crate::score::by_task::score;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use plugin_api::client::TaskClient;
use plugin_api::{Code, Reply};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a run's threads work on.
pub struct Work<'a> {
    pub context: &'a RunContext<'a>,
    pub pool: &'a Pool,
    /// Set when every thread must stop; the pool checks it as well.
    pub stop: Arc<AtomicBool>,
    /// What earlier commands recorded.
    pub known: &'a HashMap<String, Place>,
    /// What earlier commands scored later.
    pub scores: &'a Scores,
    /// The hash of the task as a scorer.
    pub scorer: &'a str,
    /// How many records there will be.
    pub expected: usize,
}

/// Asks all prompts that have no record yet, and records the answers. Returns the sums over all records, and why some
/// are missing, if any.
pub fn run(work: &Work, prompts: &dyn Prompts) -> Result<(Tally, Option<Failure>)> {
    let options = work.context.options;
    let (outgoing, finished) = bounded::<Finished>(1024);
    let (lines, written) = bounded::<Line>(1024);
    let over = AtomicBool::new(false);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let stretch = Stretch {
        session: since.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0)),
        began: Instant::now(),
    };
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    // A thread that waits for the transcriber needs no core, and the transcriber batches what several threads ask.
    let transcriber = work.context.transcriber.map(|it| it.at_once()).transpose()?;
    let builders = cores.min(4).max(transcriber.unwrap_or(0));
    let building = Building {
        prompts,
        pool: work.pool,
        known: work.known,
        retry_errors: options.retry_errors,
        transcriber: work.context.transcriber,
        cursor: AtomicUsize::new(0),
        left: AtomicUsize::new(builders),
        stop: &work.stop,
        stretch,
    };
    let scoring = Scoring {
        task: (!options.predict_only).then_some(&work.context.task.client),
        scorer: work.scorer,
        roles: &options.roles,
        over: &over,
        stretch,
    };
    let mut writer = Writer::new(work);
    let written = std::thread::scope(|scope| {
        let (building, scoring) = (&building, &scoring);
        for _ in 0..builders {
            let (outgoing, lines) = (outgoing.clone(), lines.clone());
            scope.spawn(move || building.build_all(&outgoing, &lines));
        }
        // A thread that waits for a grader needs no core either.
        for _ in 0..options.roles.at_once().max(2) {
            let (finished, lines) = (finished.clone(), lines.clone());
            scope.spawn(move || scoring.score_all(&finished, &lines));
        }
        drop((outgoing, finished, lines));
        let outcome = writer.write_all(&written);
        // When the writer ends, for whatever reason, the others end too.
        if outcome.is_err() {
            work.stop.store(true, Ordering::Relaxed);
        }
        over.store(true, Ordering::Relaxed);
        drop(written);
        outcome
    });
    work.pool.close();
    written?;
    let whole = writer.tally.finished >= work.expected as u64;
    Ok((writer.tally, writer.watchdog.cut_short(whole)))
}

/// A finished prompt: its record, and its outcome.
struct Finished {
    record: Record,
    answer: Answer,
}

/// What reaches the writer.
enum Line {
    /// A record from an earlier session, at this place of the file.
    Known(u64),
    /// A record that is new.
    New(Box<Record>),
}

/// A session of work: when it began, in milliseconds since 1970 and on this machine's monotonic clock.
#[derive(Clone, Copy)]
struct Stretch {
    session: u64,
    began: Instant,
}

/// What the threads that build prompts share.
struct Building<'a> {
    prompts: &'a dyn Prompts,
    pool: &'a Pool,
    known: &'a HashMap<String, Place>,
    retry_errors: bool,
    transcriber: Option<&'a Transcriber>,
    /// The next place of the prompts.
    cursor: AtomicUsize,
    /// Threads that are still building.
    left: AtomicUsize,
    stop: &'a AtomicBool,
    stretch: Stretch,
}

impl Building<'_> {
    /// Builds prompts until none are left. Items with a record go straight to the writer.
    fn build_all(&self, finished: &Sender<Finished>, lines: &Sender<Line>) {
        'all: while let Some(items) = self.prompts.at(self.cursor.fetch_add(1, Ordering::Relaxed)) {
            for (item, outcome) in items {
                if self.stop.load(Ordering::Relaxed) || !self.pass_on(item, outcome, finished, lines) {
                    break 'all;
                }
            }
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.pool.close();
        }
    }

    /// False when this thread should end.
    fn pass_on(
        &self,
        mut item: WorkItem,
        outcome: plugin_api::Result<()>,
        finished: &Sender<Finished>,
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
                let WorkItem { record, prompt, .. } = item;
                let finished = finished.clone();
                // The receiver outlives the pool's users, except when the run is being abandoned; then nobody asks.
                let done = Box::new(move |answer| drop(finished.send(Finished { record, answer })));
                let prompt = Box::new(prompt);
                let mut waiting = Job { prompt, done };
                while let Err(back) = self.pool.offer(waiting, Duration::from_millis(50)) {
                    if self.stop.load(Ordering::Relaxed) {
                        return false;
                    }
                    waiting = back;
                }
            }
            // The transcriber was asked to stop: no record, so that the next command does this item.
            Err(error) if error.code == Code::CANCELLED => return false,
            // The same if no transcriber is left.
            Err(_) if self.transcriber.is_some_and(|it| it.given_up().is_some()) => return false,
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
struct Scoring<'a> {
    /// None leaves scoring to a later command.
    task: Option<&'a TaskClient>,
    scorer: &'a str,
    roles: &'a Roles,
    /// Set when the writer has ended.
    over: &'a AtomicBool,
    stretch: Stretch,
}

impl Scoring<'_> {
    /// Scores what is finished, on the task's side of the boundary, and completes the records.
    fn score_all(&self, finished: &Receiver<Finished>, lines: &Sender<Line>) {
        loop {
            let done = match finished.recv_timeout(Duration::from_millis(50)) {
                Ok(done) => done,
                // A model that hangs holds the other end for ever, so the writer's end is checked as well.
                Err(RecvTimeoutError::Timeout) if !self.over.load(Ordering::Relaxed) => continue,
                Err(_) => return,
            };
            if lines.send(Line::New(Box::new(self.record(done)))).is_err() {
                return;
            }
        }
    }

    fn record(&self, done: Finished) -> Record {
        let Finished { mut record, answer } = done;
        stamp(&mut record, self.stretch);
        record.latency_ms = milliseconds(answer.latency);
        match answer.outcome {
            Ok(reply) => note_oddities(&mut record, reply),
            Err(error) => record.failed(&error),
        }
        record.ttft_ms = answer.first_token.map(milliseconds).or(record.ttft_ms);
        if let (Some(task), None) = (self.task, &record.error)
            // If scoring was interrupted, the answer is kept and the next command scores it.
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

/// Appends records, sums them up, and checks now and then whether the run should stop.
struct Writer<'a> {
    work: &'a Work<'a>,
    watchdog: Watchdog<'a>,
    tally: Tally,
    progress: Progress,
    /// When the running score was last shown.
    said: Option<Instant>,
}

impl<'a> Writer<'a> {
    fn new(work: &'a Work<'a>) -> Self {
        let context = work.context;
        let name = format!("{} on {}", context.model.name, context.task.name);
        Writer {
            work,
            watchdog: Watchdog::new(context.options, work.pool, work.stop.clone()),
            tally: Tally::of_chains(context.options.chains),
            progress: Progress::samples(&name, work.expected as u64, context.options.quiet),
            said: None,
        }
    }

    fn write_all(&mut self, written: &Receiver<Line>) -> Result<()> {
        let directory = &self.work.context.directory;
        let mut appender = directory.appender()?;
        let mut reader: Option<Records> = None;
        loop {
            match written.recv_timeout(Duration::from_millis(20)) {
                Ok(Line::New(record)) => {
                    appender.append(&record.line())?;
                    self.tally.add(&record);
                    self.show(true);
                }
                Ok(Line::Known(offset)) => {
                    let reader = match &mut reader {
                        Some(reader) => reader,
                        None => reader.insert(Records::open(directory, self.work.scores)?),
                    };
                    self.tally.add(&reader.read_at(offset)?);
                    self.show(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.watchdog.glance();
        }
        appender.sync();
        self.progress.end();
        Ok(())
    }

    fn show(&mut self, new: bool) {
        match new {
            true => self.progress.tick(),
            false => self.progress.skip(),
        }
        // Nobody reads faster than this, and with many samples, summing and printing after each would be most of the
        // writer's work.
        if self
            .said
            .is_some_and(|said| said.elapsed() < Duration::from_millis(100))
        {
            return;
        }
        self.said = Some(Instant::now());
        let metrics = &self.work.context.task.card.metrics;
        let main = metrics
            .first()
            .and_then(|metric| Some((&metric.name, self.tally.estimate(&metric.name)?.value)));
        let score = main
            .map(|(name, value)| format!("{name} {value:.3}"))
            .unwrap_or_default();
        let failed = match self.tally.failed {
            0 => String::new(),
            count => format!(", {count} failed"),
        };
        self.progress.say(format!("{score}{failed}"));
    }
}
