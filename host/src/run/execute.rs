//! The threads of a run and what flows between them.

use super::directory::{RecordReader, RunDirectory};
use super::prepare::{Prepared, Preparing};
use super::progress::Progress;
use super::queue::{Finished, Queue, Seat};
use super::record::{Record, RecordedError, hash_json};
use super::results::{self, Setting, Summary};
use super::select::select;
use super::tally::{Tally, repeats_itself};
use super::{Instance, Model, Options, Outcome, Task, report};
use crate::audio::Clips;
use crate::failure::{Exit, Failure, Result};
use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};
use plugin_api::client::{Pages, TaskClient};
use plugin_api::{Code, Error, Metric, Reply, Row, Silent};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a model gets beyond its deadline before its worker is killed, or it is given up.
const GRACE: Duration = Duration::from_millis(500);
/// How long a model may take to notice that it should stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// A model that dies this often in a row without settling a single sample is given up.
const FRUITLESS_DEATHS: u32 = 3;
/// Decoded sound that is kept for samples that share a clip.
const CLIP_CACHE: usize = 512 << 20;

/// What reaches the writer.
enum Line {
    /// A record from an earlier session, at this place of the file.
    Known(u64),
    /// A record that is new.
    New(Box<Record>),
}

/// Runs one model on one task.
pub fn execute(model: &Model, task: &Task, options: &Options) -> Result<Outcome> {
    let selection = select(&task.client, &task.name, options.limit, &options.sample_ids)?;
    let identity = json!({ "model": model.resolved.identity, "task": task_identity(task), "seed": options.seed });
    let identity_hash = hash_json(&identity);
    let name = format!("{}-{}-{}", model.name, task.name, &identity_hash[..8]);
    let run = RunDirectory::open(&options.out.join(name), options.fresh)?;
    crate::log::to_file(&run.path.join("log.jsonl"))?;
    write_run_toml(&run, &identity, options)?;
    let known = run.known()?;
    let began = Instant::now();
    let mut session = Session::new(&run, model, task, options, selection.len())?;
    session.work(&selection, &known, &identity_hash)?;
    let Session { tally, cut_short, .. } = session;
    finish(
        model, task, options, &run, &selection, identity, tally, cut_short, began,
    )
}

/// A task's identity goes by its version and not by its plugin's bytes: rebuilding it changes no score.
fn task_identity(task: &Task) -> Value {
    let mut identity = task.resolved.identity.clone();
    if let Some(map) = identity.as_object_mut() {
        map.remove("plugin_sha256");
        map.remove("plugin_version");
        map.insert("version".to_owned(), json!(task.card.version));
    }
    identity
}

fn write_run_toml(run: &RunDirectory, identity: &Value, options: &Options) -> Result<()> {
    let mut repeat = options.repeat.clone();
    if let Some(map) = repeat.as_object_mut() {
        map.insert("host_version".to_owned(), json!(env!("CARGO_PKG_VERSION")));
        map.insert("resolved".to_owned(), identity.clone());
    }
    let text = toml::to_string_pretty(&without_nulls(repeat)).unwrap_or_default();
    let head = "# Everything that this run was made with. `host run --config run.toml` repeats it.\n";
    run.write_file("run.toml", format!("{head}{text}").as_bytes())
}

/// TOML has no null.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(k, v)| (k, without_nulls(v)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().filter(|v| !v.is_null()).map(without_nulls).collect()),
        other => other,
    }
}

/// One stretch of work on a run.
struct Session<'a> {
    run: &'a RunDirectory,
    model: &'a Model,
    task: &'a Task,
    options: &'a Options,
    progress: Option<Progress>,
    tally: Tally,
    expected: usize,
    started: u64,
    cut_short: Option<Failure>,
}

impl<'a> Session<'a> {
    fn new(
        run: &'a RunDirectory,
        model: &'a Model,
        task: &'a Task,
        options: &'a Options,
        expected: usize,
    ) -> Result<Self> {
        let name = format!("{} on {}", model.name, task.name);
        let progress = Some(Progress::samples(&name, expected as u64, options.quiet));
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let started = since.map_or(0, |time| u64::try_from(time.as_millis()).unwrap_or(0));
        Ok(Session {
            run,
            model,
            task,
            options,
            progress,
            tally: Tally::default(),
            expected,
            started,
            cut_short: None,
        })
    }

    fn work(
        &mut self,
        selection: &[usize],
        known: &HashMap<String, super::directory::Place>,
        identity: &str,
    ) -> Result<()> {
        let (model, task, options) = (self.model, self.task, self.options);
        let each = options.batch_size.unwrap_or(model.card.batch.max(1) as usize);
        let at_once = each.saturating_mul(model.instances.len());
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // Twice what is at work: enough that no model waits for a prompt, little enough to stay bounded.
        let (feed, incoming) = bounded::<Prepared>((at_once.saturating_mul(2)).clamp(16, 1024));
        let (outgoing, finished) = bounded::<Finished>(1024);
        let (lines, written) = bounded::<Line>(1024);
        let (stop, over) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
        let queue = Arc::new(Queue::new(incoming, outgoing, stop.clone(), at_once, model.deadline));
        let clips = Clips::new(CLIP_CACHE);
        let preparing = Preparing {
            task: &task.client,
            model: &model.card,
            clips: &clips,
            identity,
            plugin_hash: Some(model.resolved.plugin.sha256()),
            seed: options.seed,
        };
        let cursor = AtomicUsize::new(0);
        let began = Instant::now();
        let started = self.started;
        std::thread::scope(|scope| -> Result<()> {
            for _ in 0..cores.min(4) {
                let (feed, lines) = (feed.clone(), lines.clone());
                let (preparing, cursor, stop) = (&preparing, &cursor, stop.as_ref());
                let retry = options.retry_errors;
                scope.spawn(move || {
                    prepare_all(
                        preparing,
                        selection,
                        known,
                        retry,
                        cursor,
                        stop,
                        &feed,
                        &lines,
                        (started, began),
                    );
                });
            }
            drop(feed);
            for _ in 0..2 {
                let (finished, lines, client, over) = (finished.clone(), lines.clone(), &task.client, &over);
                scope.spawn(move || score_all(client, &finished, &lines, over, (started, began)));
            }
            drop((finished, lines));
            let seats = seat_all(model, &queue);
            let outcome = self.write_all(&written, queue, seats, &stop);
            // Whatever ended the writer ends the others too.
            stop.store(true, Ordering::Relaxed);
            over.store(true, Ordering::Relaxed);
            drop(written);
            outcome
        })
    }

    /// The writer: appends what comes, and meanwhile watches deadlines, Ctrl-C and the time limit.
    fn write_all(
        &mut self,
        written: &Receiver<Line>,
        queue: Arc<Queue>,
        seats: Vec<Seated>,
        stop: &AtomicBool,
    ) -> Result<()> {
        let mut appender = self.run.appender()?;
        let mut reader: Option<RecordReader> = None;
        let mut queue = Some(queue);
        let mut stopped_since: Option<Instant> = None;
        let mut glanced = Instant::now();
        loop {
            match written.recv_timeout(Duration::from_millis(20)) {
                Ok(Line::New(record)) => {
                    appender.append(&record)?;
                    self.tally.add(&record);
                    self.show(true);
                }
                Ok(Line::Known(offset)) => {
                    let reader = match &mut reader {
                        Some(reader) => reader,
                        None => reader.insert(RecordReader::open(&self.run.samples())?),
                    };
                    self.tally.add(&reader.read_at(offset)?);
                    self.show(false);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if glanced.elapsed() < Duration::from_millis(20) {
                continue;
            }
            glanced = Instant::now();
            if stopped_since.is_none()
                && let Some(why) = self.reason_to_stop()
            {
                self.cut_short = Some(why);
                stop.store(true, Ordering::Relaxed);
                stopped_since = Some(Instant::now());
            }
            let Some(held) = &queue else { continue };
            if seats.iter().all(Seated::ended) {
                // Done, or every seat gave its model up; then nobody pulls what is still being prepared.
                stop.store(true, Ordering::Relaxed);
                queue = None; // the last sender of finished samples: the scorers end, and then this loop
                continue;
            }
            let hung = stopped_since.is_some_and(|since| since.elapsed() > STOP_GRACE);
            let overdue = held.overdue(GRACE);
            if !self.interrupt(held, &seats, &overdue, hung) {
                // A thread of this process can't be ended, so its samples are settled and it is left behind.
                stop.store(true, Ordering::Relaxed);
                let limit = self
                    .model
                    .deadline
                    .map(|time| format!(" of {time:?}"))
                    .unwrap_or_default();
                if !hung {
                    held.give_up(&Error::new(
                        Code::DEADLINE,
                        format!("no answer within the deadline{limit}"),
                    ));
                    let message = format!(
                        "model `{}` ignored its deadline{limit} and can't be stopped",
                        self.model.name
                    );
                    let help = "give its plugin `isolation = \"process\"` in the registry: a worker can be killed";
                    self.cut_short = Some(Failure::new(Exit::Budget, message).help(help));
                }
                while let Ok(line) = written.recv_timeout(Duration::from_millis(300)) {
                    if let Line::New(record) = line {
                        appender.append(&record)?;
                        self.tally.add(&record);
                    }
                }
                break;
            }
        }
        if self.cut_short.is_none() && self.tally.finished < self.expected as u64 {
            self.cut_short = seats.iter().find_map(Seated::failure);
        }
        appender.sync();
        if let Some(progress) = self.progress.take() {
            progress.end();
        }
        Ok(())
    }

    /// Kills workers that are overdue or don't stop. False when a model of this process would have to be killed.
    fn interrupt(&self, queue: &Queue, seats: &[Seated], overdue: &[usize], hung: bool) -> bool {
        for seat in seats
            .iter()
            .filter(|seat| hung && !seat.ended() || overdue.contains(&seat.number))
        {
            let Some(control) = &self.model.instances[seat.number].control else {
                return false;
            };
            control.kill(match (hung, queue.stopped(), self.model.deadline) {
                (false, false, Some(deadline)) => Error::new(
                    Code::DEADLINE,
                    format!("no answer within {deadline:?}, so its worker was ended"),
                ),
                _ => Error::new(
                    Code::CANCELLED,
                    "it did not stop when asked to, so its worker was ended",
                ),
            });
        }
        true
    }

    fn reason_to_stop(&self) -> Option<Failure> {
        if self.options.stop.load(Ordering::Relaxed) {
            return Some(Failure::new(Exit::Interrupted, "interrupted").help("the same command goes on from here"));
        }
        let over = self.options.until.is_some_and(|until| Instant::now() >= until);
        over.then(|| Failure::new(Exit::Budget, "the time limit is over").help("the same command goes on from here"))
    }

    fn show(&self, new: bool) {
        let Some(progress) = &self.progress else { return };
        if new {
            progress.tick()
        } else {
            progress.skip()
        }
        let main = self
            .task
            .card
            .metrics
            .first()
            .and_then(|metric| Some((&metric.name, self.tally.estimate(&metric.name)?.value)));
        let score = main
            .map(|(name, value)| format!("{name} {value:.3}"))
            .unwrap_or_default();
        let failed = if self.tally.failed == 0 {
            String::new()
        } else {
            format!(", {} failed", self.tally.failed)
        };
        progress.say(format!("{score}{failed}"));
    }
}

/// Prepares samples until there are none left. What is known already goes straight to the writer.
#[allow(clippy::too_many_arguments)] // a thread's whole world, called from one place
fn prepare_all(
    preparing: &Preparing,
    selection: &[usize],
    known: &HashMap<String, super::directory::Place>,
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
        match outcome.and_then(|()| preparing.finish(&mut prepared)) {
            Ok(()) => {
                let mut waiting = prepared;
                while let Err(SendTimeoutError::Timeout(back)) = feed.send_timeout(waiting, Duration::from_millis(50)) {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    waiting = back;
                }
            }
            Err(error) => {
                let mut record = prepared.record;
                record.error = Some(RecordedError::from(&error));
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

/// Scores what is finished, on the task's side of the boundary, and completes the records.
fn score_all(
    task: &TaskClient,
    finished: &Receiver<Finished>,
    lines: &Sender<Line>,
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
            let score = task.score(&sample, &reply, &Silent);
            note_oddities(&mut record, reply);
            score
        });
        record.ttft_ms = first_token.map(milliseconds).or(record.ttft_ms);
        match scored {
            Ok(score) => record.of_score(score),
            Err(error) => record.error = Some(RecordedError::from(&error)),
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

/// A model at work, on a thread that may have to be left behind.
struct Seated {
    number: usize,
    thread: JoinHandle<()>,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Seated {
    fn ended(&self) -> bool {
        self.thread.is_finished()
    }

    fn failure(&self) -> Option<Failure> {
        self.failure.lock().ok()?.clone()
    }
}

fn seat_all(model: &Model, queue: &Arc<Queue>) -> Vec<Seated> {
    let seat = |(number, instance): (usize, &Instance)| {
        let failure = Arc::new(Mutex::new(None));
        let (queue, client, name, said) = (
            queue.clone(),
            instance.client.clone(),
            model.name.clone(),
            failure.clone(),
        );
        let thread = std::thread::spawn(move || {
            if let Err(why) = serve(&queue, &client, number) {
                let failure = Failure::from(why.context(format!("model `{name}` can't go on")));
                *said.lock().unwrap_or_else(|poison| poison.into_inner()) = Some(failure);
            }
        });
        Seated {
            number,
            thread,
            failure,
        }
    };
    model.instances.iter().enumerate().map(seat).collect()
}

/// Lets a model serve until there is nothing left, through as many deaths as settle at least one sample each.
fn serve(queue: &Queue, client: &plugin_api::client::ModelClient, number: usize) -> plugin_api::Result<()> {
    let mut fruitless = 0;
    loop {
        let before = queue.settled();
        let ended = client.serve(&Seat { queue, number });
        queue.left_behind(number, ended.as_ref().err());
        match ended {
            Ok(()) if queue.done() => return Ok(()),
            _ if queue.stopped() => return Ok(()),
            ended => {
                fruitless = if queue.settled() > before { 0 } else { fruitless + 1 };
                if fruitless >= FRUITLESS_DEATHS {
                    let idle = || Error::msg("it stopped serving although prompts were left");
                    return Err(ended.err().unwrap_or_else(idle));
                }
            }
        }
    }
}

/// Rows for a task that sums up by itself, read back a page at a time.
struct RowPages<'a> {
    places: &'a [u64],
    next: AtomicUsize,
    reader: Mutex<RecordReader>,
}

impl Pages for RowPages<'_> {
    fn page(&self) -> plugin_api::Result<Vec<Row>> {
        const PAGE: usize = 256;
        let mut reader = self.reader.lock().unwrap_or_else(|poison| poison.into_inner());
        let mut rows = Vec::new();
        while rows.len() < PAGE {
            let Some(place) = self.places.get(self.next.fetch_add(1, Ordering::Relaxed)) else {
                break;
            };
            let record = reader.read_at(*place).map_err(|failure| failure.error)?;
            if record.error.is_none() {
                rows.push(Row {
                    sample: record.sample(),
                    score: record.score(),
                });
            }
        }
        Ok(rows)
    }
}

/// A task's own sums over the records at these places, when it has some.
pub fn own_metrics(task: &TaskClient, samples: &Path, places: &[u64]) -> Result<Option<Vec<Metric>>> {
    let pages = RowPages {
        places,
        next: AtomicUsize::new(0),
        reader: Mutex::new(RecordReader::open(samples)?),
    };
    match task.metrics(&pages) {
        Ok(metrics) => Ok(Some(metrics)),
        Err(error) if error.code == Code::UNSUPPORTED => Ok(None),
        Err(error) => Err(Failure::from(error.context("the task can't sum up"))),
    }
}

#[allow(clippy::too_many_arguments)] // the end of one function, cut off for its length
fn finish(
    model: &Model,
    task: &Task,
    options: &Options,
    run: &RunDirectory,
    selection: &[usize],
    identity: Value,
    mut tally: Tally,
    cut_short: Option<Failure>,
    began: Instant,
) -> Result<Outcome> {
    let places = selected_places(run, selection)?;
    let own = if tally.finished > tally.failed {
        own_metrics(&task.client, &run.samples(), &places)?
    } else {
        None
    };
    let mut summary = Summary {
        model: model.name.clone(),
        task: task.card.name.clone(),
        version: task.card.version.clone(),
        filter: task.card.filter.clone().unwrap_or_else(|| "none".to_owned()),
        shots: task.card.shots,
        metrics: results::metrics(&task.card, &tally, own),
        suspicions: tally.suspicions(),
        marks: marks(&tally, options, selection.len()),
    };
    summary
        .metrics
        .retain(|metric| metric.count > 0 || !metric.value.is_nan());
    let setting = Setting {
        card: &task.card,
        identity: &identity,
        samples: task.client.count()?,
        selected: selection.len(),
        batch_size: options
            .batch_size
            .map_or_else(|| "auto".to_owned(), |size| size.to_string()),
        limit: options.limit_text.clone(),
        seed: options.seed,
        device: model.card.device.as_deref(),
        precision: model.card.precision.as_deref(),
        seconds: began.elapsed().as_secs_f64(),
    };
    let results = results::results(&summary, &tally, &setting);
    let seconds = tally.inference_seconds();
    let timing = results::timing(&mut tally, seconds, &peaks(model, cut_short.is_some()));
    run.write_file("results.json", pretty(&results).as_bytes())?;
    run.write_file("timing.json", pretty(&timing).as_bytes())?;
    run.write_file("report.html", report::html(&summary, &results, &timing).as_bytes())?;
    Ok(Outcome {
        summary,
        results,
        directory: run.path.clone(),
        finished: tally.finished,
        failed: tally.failed,
        selected: selection.len(),
        places,
        cut_short,
    })
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

/// Where the records of the selected samples lie, in the order of the data. Of several of one sample the last counts.
fn selected_places(run: &RunDirectory, selection: &[usize]) -> Result<Vec<u64>> {
    let mut by_index: HashMap<u64, u64> = HashMap::new();
    super::directory::for_each_place(&run.samples(), |doc_id, offset| {
        by_index.insert(doc_id, offset);
    })?;
    Ok(selection
        .iter()
        .filter_map(|index| by_index.get(&(*index as u64)).copied())
        .collect())
}

fn marks(tally: &Tally, options: &Options, selected: usize) -> Vec<String> {
    use super::record::Input;
    let mut marks = Vec::new();
    if options.demo {
        marks.push("DEMO: tiny random weights and hand-made samples; the numbers mean nothing".to_owned());
    }
    for (input, what) in [
        (Input::Blind, "input: blind: a notice stood in for the clips of"),
        (
            Input::Words,
            "input: words: the data set's own words stood in for the clips of",
        ),
    ] {
        if let Some(count) = tally.inputs.get(&input) {
            marks.push(format!("{what} {count} samples"));
        }
    }
    if tally.failed > 0 {
        let example = tally
            .errors
            .values()
            .max_by_key(|(count, _)| *count)
            .map(|(_, example)| example.as_str());
        marks.push(format!(
            "{} of {} samples failed, e.g. {}",
            tally.failed,
            tally.finished,
            example.unwrap_or_default()
        ));
    }
    if tally.no_answer > 0 {
        marks.push(format!(
            "{} replies named no answer and count as wrong",
            tally.no_answer
        ));
    }
    if tally.unscored > 0 {
        marks.push(format!(
            "{} replies could not be scored and are left out",
            tally.unscored
        ));
    }
    if tally.finished < selected as u64 {
        marks.push(format!("incomplete: {} of {selected} samples are done", tally.finished));
    }
    marks
}

/// Peak memory of this process and, where the model has some, of its workers and its device.
fn peaks(model: &Model, cut_short: bool) -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let host = line
        .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse::<u64>().ok())
        .map(|kb| kb * 1024);
    let workers: Vec<u64> = model
        .instances
        .iter()
        .filter_map(|instance| instance.control.as_ref()?.peak_memory_bytes())
        .collect();
    // A model that was cut short may still hold its lock.
    let device = if cut_short {
        None
    } else {
        model.instances[0].client.memory().ok()
    };
    json!({ "host": host, "workers": workers, "device": device.map(|memory| memory.device_peak_bytes).filter(|bytes| *bytes > 0) })
}
