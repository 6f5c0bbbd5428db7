//! The loop: batches to gradients, gradients to updates, and what happens between steps.

use super::checkpoint::{self, FINAL, Found};
use super::evaluate::{Evaluated, evaluate};
use super::hearing::Hearing;
use super::order::{Order, Steps, batches, batches_by_kind, by_length};
use super::rows::{Named, RowMaker};
use super::schedule::{Schedule, warmup_steps};
use super::settings::{Settings, interval};
use super::state::{Best, Facts, State};
use super::student::Student;
use crate::{Engine, Row, Sums};
use collective::Collective;
use plugin_api::{Code, Error, Every, LearnEvent, Learnt, Lessons, Plan, Result, Split};
use serde_json::{Map, Value, json};
use std::time::Instant;

/// Learns by a plan. This is all that a model's `learn` has to call.
pub fn learn(plan: &Plan, lessons: &Lessons, student: &mut dyn Student) -> Result<Learnt> {
    let settings = Settings::read(plan)?;
    let mut peers = collective::connect(
        &settings.run.processes,
        settings.plan.rank as usize,
        settings.plan.world as usize,
    )?;
    let outcome = Run::begin(settings, lessons, student, peers.as_mut()).and_then(Run::go);
    // All stop together when the host asks one of them to.
    if let Some(error) = outcome.as_ref().err().filter(|error| error.code != Code::CANCELLED) {
        peers.abort(&error.to_string());
    }
    outcome
}

/// The rows of a batch and what they are called.
struct Batch {
    /// Its place among the batches of the step, of all processes.
    place: usize,
    ids: Vec<String>,
    rows: Vec<Row>,
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
    /// Tokens of each row, where rows of similar length go together.
    lengths: Vec<usize>,
    /// Into how many parts a batch is cut, since a whole one did not fit into memory.
    parts: usize,
    began: Instant,
    seconds: Seconds,
    /// This process was asked to stop.
    stop_wanted: bool,
    /// All processes know that one was, and stop behind the same step.
    stopped: bool,
    /// The model was written whole by an earlier call and nothing is left to learn, so it stays as it is.
    complete: bool,
}

/// Where the time went.
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
                "evaluations are wanted, but there are no rows to evaluate on",
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
        // The weights of the tower are part of what the model is, which the host knows by their content.
        let tower = facts.hearing.map(|tower| format!("{tower} {}", run.model_identity));
        let hearing = Hearing::new(run.hearing_cache.as_deref(), tower.as_deref(), run.hearing_cache_bytes);
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
            complete: false,
            settings,
        };
        begun.tell_facts();
        begun.resume(found)?;
        Ok(begun)
    }

    /// Goes on from a checkpoint, if there is one, and says how far it is.
    fn resume(&mut self, found: Option<Found>) -> Result<()> {
        if let Some(found) = found {
            let (step, total) = (found.state.step, self.steps.total);
            // A finished model is kept without the states of its optimiser, and needs none.
            self.complete = step >= total && !found.has_states();
            if !self.complete {
                found.restore(self.engine.as_mut())?;
            }
            self.state = found.state;
            self.tell(LearnEvent {
                split: "resumed".to_owned(),
                words: match step >= total {
                    true => format!("step {step} of {total}: nothing is left to learn"),
                    false => format!("going on at step {step} of {total} from `{}`", found.folder.display()),
                },
                ..LearnEvent::default()
            });
        }
        // What was logged after the checkpoint is logged again.
        let history: Vec<Value> = self.state.history.iter().cloned().map(Value::Object).collect();
        let mut metrics = Map::new();
        metrics.insert("history".to_owned(), Value::Array(history));
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

    fn go(mut self) -> Result<Learnt> {
        let (begin, per_epoch) = (self.state.step, self.steps.per_epoch);
        let wants_start = self.settings.run.eval_on_start && self.settings.plan.eval_every != Every::Never;
        if begin == 0 && wants_start {
            self.evaluate(0.0)?;
        }
        let mut stop_early = false;
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
                if self.stopped && self.state.step < self.steps.total && !stop_early {
                    return Err(self.interrupted(at));
                }
                if stop_early || self.state.step >= self.steps.total {
                    break;
                }
            }
        }
        self.finish(stop_early)
    }

    /// One step of the optimiser.
    fn step(&mut self, batches: &[Vec<u32>], epoch: f64) -> Result<()> {
        let mut clock = Instant::now();
        let mine = self.fetch(batches)?;
        let tokens: u64 = mine
            .iter()
            .flat_map(|batch| &batch.rows)
            .map(|row| row.ids.len() as u64)
            .sum();
        let items: u64 = mine.iter().flat_map(|batch| &batch.rows).map(Row::learnt).sum();
        let wanted = self.stop_wanted || self.lessons.stop_asked();
        let [items, tokens, stop] = self.shared([items, tokens, u64::from(wanted)])?;
        self.stopped |= stop > 0;
        self.seconds.data += lap(&mut clock);
        let rate = self.settings.plan.learning_rate * self.schedule.factor(self.state.step);
        let running = &mut self.state.running;
        running.tokens += tokens;
        running.flos += 6.0 * tokens as f64 * self.engine.facts().values as f64;
        self.state.step += 1;
        if items == 0 {
            self.note(format!(
                "step {} has no learnt token and changes nothing",
                self.state.step
            ));
            return Ok(());
        }
        let sums = self.learn_batches(&mine, items)?;
        self.seconds.learn += lap(&mut clock);
        let loss = self.summed(&mine, &sums, batches.len())? / items as f64;
        if self.peers.world() > 1 {
            self.peers.all_reduce(self.engine.gradient())?;
        }
        self.seconds.reduce += lap(&mut clock);
        if !loss.is_finite() {
            return Err(self.no_number("loss", &mine));
        }
        let report = self.engine.step(rate)?;
        if !report.grad_norm.is_finite() {
            return Err(self.no_number("gradient", &mine));
        }
        self.seconds.update += lap(&mut clock);
        let running = &mut self.state.running;
        running.loss += loss;
        running.steps += 1;
        running.learnt += items;
        running.total_loss += loss;
        running.total_steps += 1;
        running.total_learnt += items;
        let metrics = json!({ "grad_norm": report.grad_norm, "learning_rate": rate, "items": items });
        let spent = self.began.elapsed().as_secs_f64() - self.seconds.eval - self.seconds.save;
        let here = self.state.running.tokens as f64;
        self.tell(LearnEvent {
            split: "step".to_owned(),
            epoch: Some(epoch),
            loss: Some(loss),
            learning_rate: Some(rate),
            tokens_per_second: Some(here / (self.state.running.seconds + spent).max(1e-9)),
            metrics: metrics.as_object().cloned().unwrap_or_default(),
            ..LearnEvent::default()
        });
        if self.logs_now() {
            self.log(epoch, report.grad_norm, rate, items);
        }
        Ok(())
    }

    /// The batches of a step that this process takes: those whose place is its rank, and every `world`-th after it.
    fn fetch(&mut self, batches: &[Vec<u32>]) -> Result<Vec<Batch>> {
        let (rank, world) = (self.peers.rank(), self.peers.world());
        let mine = batches.iter().enumerate().skip(rank).step_by(world);
        let mut fetched = Vec::new();
        for (place, numbers) in mine {
            let mut batch = Batch {
                place,
                ids: Vec::new(),
                rows: Vec::new(),
            };
            for number in numbers {
                let (student, engine) = (&mut *self.student, self.engine.as_mut());
                let Named { id, row } =
                    self.maker
                        .row(student, engine, self.lessons, Split::Train, u64::from(*number))?;
                batch.ids.push(id);
                batch.rows.push(row);
            }
            fetched.push(batch);
        }
        Ok(fetched)
    }

    /// Adds up the gradients of batches. Where a batch does not fit into memory, all are done again in smaller parts.
    fn learn_batches(&mut self, batches: &[Batch], items: u64) -> Result<Vec<f64>> {
        loop {
            let attempt: Result<Vec<f64>> = batches
                .iter()
                .map(|batch| self.learn_batch(&batch.rows, items))
                .collect();
            let longest = batches.iter().map(|batch| batch.rows.len()).max().unwrap_or_default();
            match attempt {
                Err(error) if error.code == Code::MEMORY && self.parts < longest => {
                    self.engine.forget();
                    self.parts *= 2;
                    self.note(format!(
                        "a batch does not fit into memory; from here on each is taken in {} parts, with the same gradient",
                        self.parts
                    ));
                }
                other => return other,
            }
        }
    }

    fn learn_batch(&mut self, rows: &[Row], items: u64) -> Result<f64> {
        let mut sums = Sums::default();
        for part in rows.chunks(rows.len().div_ceil(self.parts).max(1)) {
            sums += self.engine.learn(part, items)?;
        }
        Ok(sums.loss)
    }

    /// Sums counts over all processes.
    fn shared<const N: usize>(&mut self, counts: [u64; N]) -> Result<[u64; N]> {
        if self.peers.world() == 1 {
            return Ok(counts);
        }
        let bytes: Vec<u8> = counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        let mut sums = [0; N];
        for bytes in self.peers.gather(&bytes)? {
            for (sum, word) in sums.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *sum += u64::from_le_bytes(*word);
            }
        }
        Ok(sums)
    }

    /// The sum of the batches' losses in the order of the batches, whichever process had which.
    fn summed(&mut self, mine: &[Batch], losses: &[f64], count: usize) -> Result<f64> {
        let mut bytes = Vec::new();
        for (batch, loss) in mine.iter().zip(losses) {
            bytes.extend((batch.place as u64).to_le_bytes());
            bytes.extend(loss.to_le_bytes());
        }
        let mut all = vec![0.0; count];
        for bytes in self.peers.gather(&bytes)? {
            for pair in bytes.as_chunks::<8>().0.as_chunks::<2>().0 {
                if let Some(loss) = all.get_mut(u64::from_le_bytes(pair[0]) as usize) {
                    *loss = f64::from_le_bytes(pair[1]);
                }
            }
        }
        Ok(all.iter().sum())
    }

    /// The error of a loss or gradient that is no number, with the rows that it comes from.
    fn no_number(&mut self, what: &str, mine: &[Batch]) -> Error {
        let mut bad = Vec::new();
        for batch in mine {
            let each = self.engine.evaluate(&batch.rows).unwrap_or_default();
            let infinite = batch.ids.iter().zip(&each).filter(|(_, sums)| !sums.loss.is_finite());
            bad.extend(infinite.map(|(id, _)| id.clone()));
        }
        let rows = match bad.is_empty() {
            true => mine.iter().flat_map(|batch| batch.ids.clone()).collect(),
            false => bad,
        };
        let shown: Vec<String> = rows.iter().take(16).map(|id| format!("`{id}`")).collect();
        let step = self.state.step;
        let message = format!(
            "the {what} of step {step} is no number; its rows are {}",
            shown.join(", ")
        );
        let kept = checkpoint::newest(&self.settings.plan.out);
        let kept = kept.map_or("nothing was saved yet".to_owned(), |folder| {
            format!("`{}` is kept", folder.display())
        });
        Error::msg(message).help(format!(
            "{kept}; a smaller learning rate or a look at these rows may help"
        ))
    }

    fn logs_now(&self) -> bool {
        let step = self.state.step;
        self.logging.is_some_and(|every| step.is_multiple_of(every))
            || (step == 1 && self.settings.run.logging_first_step)
    }

    fn log(&mut self, epoch: f64, grad_norm: f64, rate: f64, items: u64) {
        let running = &mut self.state.running;
        if running.steps == 0 {
            return;
        }
        let loss = running.loss / running.steps as f64;
        let metrics = json!({
            "loss": loss, "grad_norm": grad_norm, "learning_rate": rate, "epoch": epoch, "items": items,
            "learnt_tokens": running.learnt, "num_input_tokens_seen": running.tokens,
        });
        (running.loss, running.steps, running.learnt) = (0.0, 0, 0);
        self.record("train", metrics);
    }

    /// Keeps a log line and passes it on.
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

    /// Logs, evaluates and saves when it is time. True when the run should end before its last step.
    fn between_steps(&mut self, epoch: f64, epoch_ends: bool) -> Result<bool> {
        let (step, last) = (self.state.step, self.state.step >= self.steps.total);
        let due = |every: Every, between: Option<u64>| match every {
            Every::Never => false,
            Every::Epoch => epoch_ends,
            Every::Steps(_) => last || between.is_some_and(|between| step.is_multiple_of(between)),
        };
        let delay = self.settings.run.eval_delay;
        let delayed = match self.settings.plan.eval_every {
            Every::Steps(_) => (step as f64) < delay,
            _ => epoch < delay,
        };
        let (mut improved, mut stop) = (false, false);
        if due(self.settings.plan.eval_every, self.eval) && !delayed {
            let evaluated = self.evaluate(epoch)?;
            (improved, stop) = self.judge(&evaluated)?;
        }
        let wanted = match self.settings.run.save_on_best {
            true => improved,
            false => due(self.settings.plan.save_every, self.save),
        };
        if wanted {
            self.save(epoch)?;
        }
        Ok(stop)
    }

    fn evaluate(&mut self, epoch: f64) -> Result<Map<String, Value>> {
        let began = Instant::now();
        let size = self.settings.run.per_device_eval_batch_size;
        let (student, engine) = (&mut *self.student, self.engine.as_mut());
        let Evaluated {
            loss,
            by_batch,
            rows,
            batches,
            items,
        } = evaluate(&mut self.maker, student, engine, self.lessons, self.peers, size)?;
        let seconds = began.elapsed().as_secs_f64().max(1e-9);
        self.seconds.eval += seconds;
        let metrics = json!({
            "eval_loss": loss, "eval_loss_by_batch": by_batch, "eval_learnt_tokens": items, "eval_runtime": seconds,
            "eval_samples_per_second": rows as f64 / seconds, "eval_steps_per_second": batches as f64 / seconds,
            "epoch": epoch,
        });
        self.record("eval", metrics.clone());
        Ok(metrics.as_object().cloned().unwrap_or_default())
    }

    /// Whether an evaluation is the best so far, and whether it is time to give up.
    fn judge(&mut self, evaluated: &Map<String, Value>) -> Result<(bool, bool)> {
        let (name, greater) = self.settings.metric();
        let Some(value) = evaluated.get(&name).and_then(Value::as_f64) else {
            let known: Vec<_> = evaluated
                .keys()
                .filter(|key| key.starts_with("eval_"))
                .cloned()
                .collect();
            let error = Error::new(Code::SETTINGS, format!("no evaluation has the metric `{name}`"));
            return Err(error.help(format!("`metric_for_best_model` is one of `{}`", known.join("`, `"))));
        };
        let run = &self.settings.run;
        let best = self.state.best.as_ref().map(|best| best.metric);
        let better = |by: f64| {
            best.is_none_or(|best| {
                let gain = if greater { value - best } else { best - value };
                gain > by.max(0.0)
            })
        };
        let (improved, enough) = (better(0.0), better(run.early_stopping_threshold));
        self.state.no_better = if enough { 0 } else { self.state.no_better + 1 };
        if improved {
            self.state.best = Some(Best {
                metric: value,
                step: self.state.step,
            });
        }
        let patience = run.early_stopping_patience;
        let stop = patience > 0 && self.state.no_better >= patience;
        if stop {
            self.note(format!(
                "`{name}` was no better in {patience} evaluations; the run ends here"
            ));
        }
        Ok((improved, stop))
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

    fn save(&mut self, epoch: f64) -> Result<()> {
        let began = Instant::now();
        if self.settings.writes() {
            let folder = checkpoint::write(
                self.engine.as_ref(),
                &*self.student,
                &self.settings,
                &self.saved(),
                &self.facts(epoch),
            )?;
            let out = &self.settings.plan.out;
            let best = self.state.best.as_ref().map(|best| best.step);
            let limit = self.settings.run.save_total_limit;
            for step in checkpoint::surplus(&checkpoint::steps(out), best, limit) {
                checkpoint::discard(out, step)?;
            }
            self.tell(LearnEvent {
                split: "saved".to_owned(),
                epoch: Some(epoch),
                saved: Some(folder),
                ..LearnEvent::default()
            });
        }
        self.peers.barrier()?;
        self.seconds.save += began.elapsed().as_secs_f64();
        Ok(())
    }

    /// The state as a checkpoint keeps it.
    fn saved(&self) -> State {
        let mut state = self.state.clone();
        state.running.seconds += self.began.elapsed().as_secs_f64();
        state
    }

    fn interrupted(&mut self, epoch: f64) -> Error {
        let (step, total) = (self.state.step, self.steps.total);
        let saved = match checkpoint::steps(&self.settings.plan.out).contains(&step) {
            true => Ok(()),
            false => self.save(epoch),
        };
        match saved {
            Ok(()) => {
                let error = Error::new(
                    Code::CANCELLED,
                    format!("interrupted at step {step} of {total}, which is saved"),
                );
                error.help("the same command goes on from there")
            }
            Err(error) => error.context(format!("interrupted at step {step} of {total}")),
        }
    }

    fn finish(mut self, stopped_early: bool) -> Result<Learnt> {
        let (step, per_epoch) = (self.state.step, self.steps.per_epoch);
        let epoch = step as f64 / per_epoch as f64;
        let done_before = self
            .state
            .history
            .last()
            .is_some_and(|last| last.contains_key("train_loss"));
        let seconds = self.state.running.seconds + self.began.elapsed().as_secs_f64();
        let running = self.state.running;
        let train_loss = running.total_loss / running.total_steps.max(1) as f64;
        let samples = self.lessons.len()? as f64 * epoch;
        let summary = json!({
            "train_runtime": seconds, "train_samples_per_second": samples / seconds.max(1e-9),
            "train_steps_per_second": step as f64 / seconds.max(1e-9), "total_flos": running.flos,
            "train_loss": train_loss, "epoch": epoch,
        });
        if !done_before {
            self.record("train", summary.clone());
        }
        let out = self.settings.plan.out.clone();
        let target = out.join(FINAL);
        let best = self
            .state
            .best
            .clone()
            .filter(|_| self.settings.run.load_best_model_at_end);
        if let Some(best) = best.as_ref().filter(|best| best.step != step || stopped_early) {
            let folder = checkpoint::folder(&out, best.step);
            if folder.is_dir() {
                checkpoint::read(&folder)?.restore(self.engine.as_mut())?;
            }
        }
        if self.settings.writes() && !self.complete {
            let facts = self.facts(epoch);
            checkpoint::write_model(
                self.engine.as_ref(),
                &*self.student,
                &self.settings,
                &self.saved(),
                &facts,
            )?;
            if let (Some(best), 1) = (&best, self.settings.run.save_total_limit) {
                let others = checkpoint::steps(&out).into_iter().filter(|step| *step != best.step);
                others
                    .into_iter()
                    .try_for_each(|step| checkpoint::discard(&out, step))?;
            }
        }
        self.peers.barrier()?;
        let mut metrics = summary.as_object().cloned().unwrap_or_default();
        let Seconds {
            data,
            learn,
            reduce,
            update,
            eval,
            save,
        } = self.seconds;
        metrics.insert(
            "seconds".to_owned(),
            json!({
                "data": data, "learn": learn, "reduce": reduce, "update": update, "eval": eval, "save": save,
            }),
        );
        metrics.insert("tokens".to_owned(), running.tokens.into());
        metrics.insert("learnt_tokens".to_owned(), running.total_learnt.into());
        metrics.insert("peak_memory_bytes".to_owned(), json!(peak_memory()));
        metrics.insert("best_metric".to_owned(), json!(best.as_ref().map(|best| best.metric)));
        metrics.insert(
            "best_global_step".to_owned(),
            json!(best.as_ref().map(|best| best.step)),
        );
        Ok(Learnt {
            path: target,
            steps: step,
            loss: Some(train_loss),
            metrics,
        })
    }

    fn note(&mut self, words: String) {
        self.tell(LearnEvent {
            split: "note".to_owned(),
            words,
            ..LearnEvent::default()
        });
    }

    /// Passes an event on. A host that wants no more is heeded after the step.
    fn tell(&mut self, mut event: LearnEvent) {
        event.step = self.state.step;
        event.steps = Some(self.steps.total);
        self.stop_wanted |= !self.lessons.event(&event);
    }
}

/// The batches of an epoch, in the order in which steps take them.
fn epoch_batches(settings: &Settings, rows: usize, heard: &[bool], lengths: &[usize], epoch: u64) -> Vec<Vec<u32>> {
    let (run, size) = (&settings.run, settings.plan.batch_size as usize);
    let seed = settings.order_seed();
    if run.batch_by_kind && heard.contains(&true) && heard.contains(&false) {
        return batches_by_kind(heard, size, run.order, seed, epoch);
    }
    let mut order = run.order.rows(rows, seed, epoch);
    if run.group_by_length && run.order != Order::Given {
        order = by_length(order, lengths, size * settings.plan.accumulate as usize);
    }
    batches(&order, size, run.dataloader_drop_last)
}

/// For each row, whether it has a clip.
fn kinds(lessons: &Lessons, rows: u64) -> Result<Vec<bool>> {
    let heard = |row| Ok(lessons.glance(Split::Train, row)?.is_some_and(|(_, clips)| clips > 0));
    (0..rows).map(heard).collect()
}

/// Tokens of each row.
fn lengths(
    maker: &mut RowMaker,
    student: &mut dyn Student,
    engine: &mut dyn Engine,
    lessons: &Lessons,
    rows: u64,
) -> Result<Vec<usize>> {
    let length = |row| Ok(maker.row(student, engine, lessons, Split::Train, row)?.row.ids.len());
    (0..rows).map(length).collect()
}

/// Seconds since the last lap.
fn lap(clock: &mut Instant) -> f64 {
    let seconds = clock.elapsed().as_secs_f64();
    *clock = Instant::now();
    seconds
}

/// The most memory that this process ever held.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
