//! The threads of a run and what flows between them.

use super::clips::ClipResolver;
use super::conclude::finish;
use super::ears::Ears;
use super::hearing_test::{self, HearingTest};
use super::pipeline::{Building, Line, Scoring as ScoringReplies, Stretch};
use super::progress::Progress;
use super::prompts::{PromptBuilder, Prompts, SelectedPrompts, WorkItem};
use super::queue::{Finished, Queue};
use super::seats::{Seated, seat_all};
use super::select::select;
use super::store::directory::{Place, RunDirectory, read_if_there};
use super::store::hash::hash_json;
use super::store::scores::Scorer;
use super::store::{Records, Scores};
use super::tally::Tally;
use super::{Model, Options, Outcome, Task};
use crate::audio::Clips;
use crate::catalog::Resolved;
use crate::failure::{Exit, Failure, Result};
use crate::score::by_task::Scoring;
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};
use plugin_api::{Code, Error, LoraUse, TaskCard};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// What a model gets beyond its deadline before its worker is killed, or it is given up.
const GRACE: Duration = Duration::from_millis(500);
/// How long a model may take to notice that it should stop.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Decoded sound that is kept for samples that share a clip.
const CLIP_CACHE: usize = 512 << 20;

/// Runs one model on one task.
pub fn execute(model: &Model, task: &Task, options: &Options) -> Result<Outcome> {
    let selection = select(&task.client, &task.name, options.limit, &options.sample_ids)?;
    let ears = ears_in_use(model, task, options)?;
    let identity = identity(model, task, ears, options);
    let identity_hash = hash_json(&identity);
    let name = format!("{}-{}-{}", model.name, task.name, &identity_hash[..8]);
    let run = RunDirectory::open(&options.out.join(name), options.fresh)?;
    crate::log::to_file(&run.path.join("log.jsonl"))?;
    write_run_toml(&run, &identity, options)?;
    let (scorer_hash, graders) = (hash_json(&identity["task"]), options.roles.graders());
    let scorer = Scorer {
        name: &task.card.name,
        hash: &scorer_hash,
        graders: &graders,
    };
    let known = run.known(&scorer)?;
    let scoring = Scoring {
        task: &task.client,
        scorer,
        fresh: false,
        retry_errors: options.retry_errors,
        roles: &options.roles,
    };
    let wants = |place: &&Place| place.unscored || (place.score_failed && options.retry_errors);
    let waiting: Vec<u64> = match options.predict_only {
        true => Vec::new(),
        false => known.values().filter(wants).map(|place| place.offset).collect(),
    };
    let scores = scoring.run(&run, &waiting)?;
    let began = Instant::now();
    let clips = Clips::new(CLIP_CACHE);
    let builder = PromptBuilder {
        task: &task.client,
        task_name: &task.card.name,
        clips: ClipResolver {
            model: &model.card,
            ears,
            clips: &clips,
        },
        identity: &identity_hash,
        plugin_hash: Some(model.resolved.plugin.sha256()),
        template_hash: task.card.other.get("template_hash").and_then(Value::as_str),
        seed: options.seed,
        chains: options.chains,
        lora: &options.lora,
    };
    let hearing = hearing(&run, model, task, &builder, &selection, &known, options)?;
    let prompts = SelectedPrompts {
        builder: &builder,
        selection: &selection,
    };
    let expected = selection.len() * options.chains.max(1) as usize;
    let mut session = Session::new(&run, model, task, options, &scores, &scorer_hash, expected)?;
    let heard_at_once = ears.map(Ears::at_once).transpose()?.unwrap_or(0);
    session.work(&prompts, &known, heard_at_once)?;
    let Session { tally, cut_short, .. } = session;
    finish(
        model, task, options, &run, &selection, identity, tally, scores, hearing, cut_short, began,
    )
}

/// Everything that the records of a run depend on and that is the same for all of its samples.
fn identity(model: &Model, task: &Task, ears: Option<&Ears>, options: &Options) -> Value {
    let mut identity = json!({
        "model": model.resolved.identity, "task": task_identity(&task.resolved, &task.card), "seed": options.seed,
    });
    if let Some(ears) = ears {
        identity["ears"] = ears.identity();
    }
    if options.lora != LoraUse::AsLoaded {
        identity["lora"] = json!(options.lora);
    }
    if let Some(class) = &model.card.kernel_class {
        identity["kernels"] = json!(class);
    }
    identity
}

/// The ears, when this model needs them for this task. Else they are no part of the run, whatever the flags say.
fn ears_in_use<'a>(model: &Model, task: &Task, options: &'a Options) -> Result<Option<&'a Ears>> {
    let ears = options.ears.as_deref();
    let Some(ears) = ears.filter(|_| task.card.has_clips && !model.card.hears()) else {
        return Ok(None);
    };
    ears.load()
        .map_err(|error| Failure::from(error.context("the model of `--ears` can't be used")))?;
    Ok(Some(ears))
}

/// Whether the model hears, if this run turns on it. What was found is kept, so that it is tested once a run.
fn hearing(
    run: &RunDirectory,
    model: &Model,
    task: &Task,
    builder: &PromptBuilder,
    selection: &[usize],
    known: &HashMap<String, Place>,
    options: &Options,
) -> Result<Option<HearingTest>> {
    const FILE: &str = "hearing.json";
    if !(model.card.hears() && task.card.has_clips) {
        return Ok(None);
    }
    let kept = read_if_there(&run.path.join(FILE)).and_then(|text| serde_json::from_str(&text).ok());
    if kept.is_some() {
        return Ok(kept);
    }
    if !options.hearing_test {
        return Ok(Some(HearingTest::not_tested("left out by `--skip-hearing-test`")));
    }
    if known.len() >= selection.len() {
        return Ok(Some(HearingTest::not_tested("all was recorded before without a test")));
    }
    let found = hearing_test::test(model, builder, selection, options)?;
    if let Some(found) = &found {
        let text = serde_json::to_string(found).unwrap_or_default();
        run.write_file(FILE, format!("{text}\n").as_bytes())?;
    }
    Ok(found)
}

/// What a task's scores depend on.
pub fn task_identity(resolved: &Resolved, card: &TaskCard) -> Value {
    resolved.scorer_identity(&card.version)
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
    scores: &'a Scores,
    scorer: &'a str,
    progress: Option<Progress>,
    /// When the running score was last shown.
    said: Option<Instant>,
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
        scores: &'a Scores,
        scorer: &'a str,
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
            scores,
            scorer,
            progress,
            said: None,
            tally: Tally::of_chains(options.chains),
            expected,
            started,
            cut_short: None,
        })
    }

    fn work(&mut self, prompts: &dyn Prompts, known: &HashMap<String, Place>, heard_at_once: usize) -> Result<()> {
        let (model, task, options) = (self.model, self.task, self.options);
        let each = options.batch_size.unwrap_or(model.card.batch.max(1) as usize);
        let at_once = each.saturating_mul(model.instances.len());
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        // Twice what is at work: enough that no model waits for a prompt, little enough to stay bounded.
        let (feed, incoming) = bounded::<WorkItem>((at_once.saturating_mul(2)).clamp(16, 1024));
        let (outgoing, finished) = bounded::<Finished>(1024);
        let (lines, written) = bounded::<Line>(1024);
        let (stop, over) = (Arc::new(AtomicBool::new(false)), AtomicBool::new(false));
        let queue = Arc::new(Queue::new(incoming, outgoing, stop.clone(), at_once, model.deadline));
        let stretch = Stretch {
            session: self.started,
            began: Instant::now(),
        };
        let building = Building {
            prompts,
            known,
            retry_errors: options.retry_errors,
            cursor: AtomicUsize::new(0),
            stop: &stop,
            stretch,
        };
        let scoring = ScoringReplies {
            task: (!options.predict_only).then_some(&task.client),
            scorer: self.scorer,
            roles: &options.roles,
            over: &over,
            stretch,
        };
        std::thread::scope(|scope| -> Result<()> {
            let (building, scoring) = (&building, &scoring);
            // Who waits for the ears needs no core, and they work on what several threads want together.
            for _ in 0..cores.min(4).max(heard_at_once) {
                let (feed, lines) = (feed.clone(), lines.clone());
                scope.spawn(move || building.build_all(&feed, &lines));
            }
            drop(feed);
            for _ in 0..2.max(options.roles.at_once()) {
                let (finished, lines) = (finished.clone(), lines.clone());
                scope.spawn(move || scoring.score_all(&finished, &lines));
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
        let mut reader: Option<Records> = None;
        let mut queue = Some(queue);
        let mut stopped_since: Option<Instant> = None;
        let mut glanced = Instant::now();
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
                        None => reader.insert(Records::open(self.run, self.scores)?),
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
                    let time = self.model.deadline.unwrap_or_default();
                    self.cut_short = Some(hearing_test::unstoppable(&self.model.name, time));
                }
                while let Ok(line) = written.recv_timeout(Duration::from_millis(300)) {
                    if let Line::New(record) = line {
                        appender.append(&record.line())?;
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

    fn show(&mut self, new: bool) {
        let Some(progress) = &self.progress else { return };
        if new {
            progress.tick()
        } else {
            progress.skip()
        }
        // Nobody reads faster than this, and for many samples a sum and a text each would be most of the writer's work.
        if self
            .said
            .is_some_and(|said| said.elapsed() < Duration::from_millis(100))
        {
            return;
        }
        self.said = Some(Instant::now());
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
