//! The loop of a run: how it starts or resumes, and its steps.

mod between_steps;
mod epoch;
mod finish;
mod generate;
mod one_step;
mod together;

use super::checkpoint::{self, Found};
use super::order::Steps;
use super::rows::RowMaker;
use super::schedule::{Schedule, warmup_steps};
use super::settings::{Settings, interval};
use super::state::{Facts, State};
use super::student::Student;
use super::tower_cache::TowerCache;
use crate::Engine;
use collective::Collective;
use epoch::{epoch_batches, kinds, lengths};
use plugin_api::{Code, Error, Every, LearnEvent, Learnt, Lessons, Plan, Result, Split};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Trains by a plan. A model's `learn` only has to call this.
pub fn learn(plan: &Plan, lessons: &Lessons, student: &mut dyn Student) -> Result<Learnt> {
    let settings = Settings::read(plan)?;
    let mut peers = collective::connect(
        &settings.run.processes,
        settings.plan.rank as usize,
        settings.plan.world as usize,
    )?;
    let (outcome, all_know) = match Run::begin(settings, lessons, student, peers.as_mut()) {
        Ok(mut run) => (run.go(), run.all_know),
        Err(error) => (Err(error), false),
    };
    // All processes stop together when the host stops one of them.
    let alone = |error: &&Error| error.code != Code::CANCELLED && !all_know;
    if let Some(error) = outcome.as_ref().err().filter(alone) {
        peers.abort(&error.to_string());
    }
    outcome
}

struct Run<'a> {
    settings: Settings,
    lessons: &'a Lessons<'a>,
    student: &'a mut dyn Student,
    engine: Box<dyn Engine>,
    peers: &'a mut dyn Collective,
    maker: RowMaker,
    state: State,
    steps: Steps,
    schedule: Schedule,
    logging: Option<u64>,
    eval: Option<u64>,
    save: Option<u64>,
    /// Rows with a clip, where batches are of one kind.
    heard: Vec<bool>,
    /// Tokens of each row, if rows of similar length are grouped.
    lengths: Vec<usize>,
    /// Into how many parts each batch is split, because whole ones did not fit into memory.
    parts: usize,
    began: Instant,
    seconds: Seconds,
    /// This process was asked to stop.
    stop_wanted: bool,
    /// All processes know that one was asked to stop, and stop after the same step.
    stopped: bool,
    /// All processes got the same error from their last exchange, and end without being told.
    all_know: bool,
    /// An earlier call already wrote the final model, so it is left unchanged.
    complete: bool,
}

/// Time by activity.
#[derive(Debug, Clone, Copy, Default)]
struct Seconds {
    data: f64,
    learn: f64,
    reduce: f64,
    update: f64,
    eval: f64,
    save: f64,
}

impl<'a> Run<'a> {
    fn begin(
        settings: Settings,
        lessons: &'a Lessons<'a>,
        student: &'a mut dyn Student,
        peers: &'a mut dyn Collective,
    ) -> Result<Run<'a>> {
        let (plan, run) = (&settings.plan, &settings.run);
        let rows = lessons.len()?;
        if rows == 0 {
            return Err(Error::new(Code::DATA, "there is no row to learn from"));
        }
        if plan.eval_every != Every::Never && lessons.count(Split::HeldOut)? == 0 {
            let error = Error::new(
                Code::SETTINGS,
                "evaluation is enabled, but there are no rows to evaluate on",
            );
            return Err(error.help("give `--eval-rows FILE`, or `--eval-strategy no`"));
        }
        if settings.writes() {
            std::fs::create_dir_all(&plan.out).map_err(|why| checkpoint::unwritable(&plan.out, &why))?;
            checkpoint::clean(&plan.out)?;
        }
        let found = plan.resume.as_deref().map(checkpoint::read).transpose()?;
        if let Some(found) = &found {
            found.check(&settings)?;
        }
        let mut engine = student.engine(&settings.engine)?;
        let facts = engine.facts();
        // The weights of the tower are part of the model's identity, by which the host recognises their content.
        let tower = facts.hearing.map(|tower| format!("{tower} {}", run.model_identity));
        let hearing = TowerCache::new(run.hearing_cache.as_deref(), tower.as_deref(), run.hearing_cache_bytes);
        let mut maker = RowMaker {
            run: run.clone(),
            hearing,
        };
        let heard = match run.batch_by_kind {
            true => kinds(lessons, rows)?,
            false => Vec::new(),
        };
        let lengths = match run.group_by_length {
            true => lengths(&mut maker, student, engine.as_mut(), lessons, rows)?,
            false => Vec::new(),
        };
        let count = epoch_batches(&settings, rows as usize, &heard, &lengths, 0).len() as u64;
        let together = u64::from(plan.accumulate) * u64::from(plan.world);
        let steps = Steps::new(count, together, plan.epochs, plan.max_steps);
        if steps.total == 0 {
            return Err(Error::new(Code::SETTINGS, "there is no whole batch to learn from")
                .help("`dataloader_drop_last` leaves out batches that are not full; take a smaller batch"));
        }
        let warmup = match run.warmup_steps > 0.0 {
            true => run.warmup_steps,
            false => run.warmup_ratio,
        };
        let schedule = Schedule::new(
            &run.lr_scheduler_type,
            warmup_steps(warmup, steps.total),
            steps.total,
            plan.learning_rate,
            &run.lr_scheduler_kwargs,
        )?;
        let every = |every| match every {
            Every::Steps(steps_between) => interval(steps_between, steps.total),
            _ => None,
        };
        let mut begun = Run {
            logging: match run.logging_strategy.as_str() {
                "steps" => interval(run.logging_steps, steps.total),
                _ => None,
            },
            eval: every(plan.eval_every),
            save: every(plan.save_every),
            state: State::default(),
            engine,
            student,
            lessons,
            peers,
            maker,
            steps,
            schedule,
            heard,
            lengths,
            parts: 1,
            began: Instant::now(),
            seconds: Seconds::default(),
            stop_wanted: false,
            stopped: false,
            all_know: false,
            complete: false,
            settings,
        };
        begun.tell_facts();
        begun.resume(found)?;
        Ok(begun)
    }

    /// Resumes from a checkpoint, if there is one, and reports the step.
    fn resume(&mut self, found: Option<Found>) -> Result<()> {
        if let Some(found) = found {
            let (step, total) = (found.state.step, self.steps.total);
            // A finished model is kept without optimiser states, and needs none.
            self.complete = step >= total && !found.has_states();
            if !self.complete {
                found.restore(self.engine.as_mut())?;
            }
            self.state = found.state;
            self.tell(LearnEvent {
                split: "resumed".to_owned(),
                words: match step >= total && self.state.evaluation_due.is_none() {
                    true => format!("step {step} of {total}: training is complete"),
                    false => format!("going on at step {step} of {total} from `{}`", found.folder.display()),
                },
                ..LearnEvent::default()
            });
        }
        // Log lines after the checkpoint will be logged again.
        let history: Vec<Value> = self.state.history.iter().cloned().map(Value::Object).collect();
        let mut metrics = Map::new();
        metrics.insert("history".to_owned(), Value::Array(history));
        let due = self.state.evaluation_due.or(self.state.generations_due);
        metrics.insert("generations_due".to_owned(), due.is_some().into());
        self.tell(LearnEvent {
            split: "history".to_owned(),
            metrics,
            ..LearnEvent::default()
        });
        Ok(())
    }

    fn tell_facts(&mut self) {
        let facts = self.engine.facts();
        let learnt: usize = facts
            .parameters
            .iter()
            .map(|one| one.shape.iter().product::<usize>())
            .sum();
        let metrics = json!({
            "learnt_parameters": learnt, "parameters": facts.values, "precision": facts.precision,
            "targets": facts.targets, "steps": self.steps.total, "steps_per_epoch": self.steps.per_epoch,
            "predicted_bytes": facts.memory.weights + facts.memory.gradients + facts.memory.states,
        });
        self.tell(LearnEvent {
            split: "facts".to_owned(),
            metrics: metrics.as_object().cloned().unwrap_or_default(),
            ..LearnEvent::default()
        });
    }

    fn go(&mut self) -> Result<Learnt> {
        let (begin, per_epoch) = (self.state.step, self.steps.per_epoch);
        let wants_start = self.settings.run.eval_on_start && self.settings.plan.eval_every != Every::Never;
        let mut stop_early = false;
        if let Some(epoch) = self.state.evaluation_due {
            stop_early = self.between_steps(epoch, begin.is_multiple_of(per_epoch))?;
        } else if let Some(epoch) = self.state.generations_due {
            self.generate(epoch, true)?;
        } else if begin == 0 && wants_start {
            self.evaluate(0.0)?;
            self.generate(0.0, true)?;
        }
        if let Some(epoch) = self.state.generations_due {
            return Err(self.interrupted(epoch));
        }
        while self.state.step < self.steps.total && !stop_early {
            let epoch = self.state.step / per_epoch;
            let rows = self.lessons.len()? as usize;
            let batches = epoch_batches(&self.settings, rows, &self.heard, &self.lengths, epoch);
            let together = self.settings.plan.accumulate as usize * self.peers.world();
            let first = (self.state.step % per_epoch) as usize;
            for (place, some) in batches.chunks(together).enumerate().skip(first) {
                let done = (place * together + some.len()) as f64;
                let at = epoch as f64 + done / batches.len() as f64;
                self.step(some, at)?;
                self.stopped |= self.peers.world() == 1 && (self.stop_wanted || self.lessons.stop_asked());
                let epoch_ends = (place + 1) as u64 == per_epoch;
                stop_early = self.between_steps(at, epoch_ends)?;
                let unfinished = self.state.step < self.steps.total && !stop_early;
                if self.stopped && unfinished || self.state.generations_due.is_some() {
                    return Err(self.interrupted(at));
                }
                if stop_early || self.state.step >= self.steps.total {
                    break;
                }
            }
        }
        self.finish(stop_early)
    }

    /// Stores a log line and passes it on.
    fn record(&mut self, split: &str, metrics: Value) {
        let mut metrics = metrics.as_object().cloned().unwrap_or_default();
        metrics.insert("step".to_owned(), self.state.step.into());
        self.state.history.push(metrics.clone());
        self.tell(LearnEvent {
            split: split.to_owned(),
            epoch: metrics.get("epoch").and_then(Value::as_f64),
            loss: metrics.get("loss").or(metrics.get("eval_loss")).and_then(Value::as_f64),
            metrics,
            ..LearnEvent::default()
        });
    }

    fn facts(&self, epoch: f64) -> Facts {
        let plan = &self.settings.plan;
        Facts {
            total: self.steps.total,
            epochs: match plan.max_steps {
                0 => plan.epochs.ceil() as u64,
                steps => steps.div_ceil(self.steps.per_epoch),
            },
            epoch,
            batch_size: plan.batch_size,
            logging: self.logging.unwrap_or_default(),
            eval: self.eval.unwrap_or_default(),
            save: self.save.unwrap_or_default(),
        }
    }

    /// The state that a checkpoint stores.
    fn saved(&self) -> State {
        let mut state = self.state.clone();
        state.running.seconds += self.began.elapsed().as_secs_f64();
        state
    }

    fn note(&mut self, words: String) {
        self.tell(LearnEvent {
            split: "note".to_owned(),
            words,
            ..LearnEvent::default()
        });
    }

    /// Passes an event on. If the host wants to stop, that takes effect after the step.
    fn tell(&mut self, mut event: LearnEvent) {
        event.step = self.state.step;
        event.steps = Some(self.steps.total);
        self.stop_wanted |= !self.lessons.event(&event);
    }
}
