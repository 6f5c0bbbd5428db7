//! One step of the optimiser: computes gradients of batches, and updates the weights.

use super::Run;
use crate::run::checkpoint;
use crate::run::rows::Named;
use crate::{Row, Sums};
use plugin_api::{Code, Error, LearnEvent, Result, Split};
use serde_json::json;
use std::time::Instant;

/// The rows of a batch with their names.
struct Batch {
    /// Its place among the batches of the step, over all processes.
    place: usize,
    ids: Vec<String>,
    rows: Vec<Row>,
}

impl Run<'_> {
    pub(super) fn step(&mut self, batches: &[Vec<u32>], epoch: f64) -> Result<()> {
        let mut clock = Instant::now();
        let fetched = self.fetch(batches);
        let wanted = self.stop_wanted || self.lessons.stop_asked();
        let counts = match &fetched {
            Ok(mine) => {
                let rows = || mine.iter().flat_map(|batch| &batch.rows);
                let tokens = rows().map(|row| row.ids.len() as u64).sum();
                Ok([rows().map(Row::learnt).sum(), tokens, u64::from(wanted)])
            }
            Err(error) => Err(error.clone()),
        };
        let [items, tokens, stop] = self.counted(counts).map_err(|error| self.keep(error))?;
        let mine = fetched?;
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

    /// The batches of a step that this process takes: that of its rank, and every `world`th after it.
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

    /// Adds up the gradients of batches. If a batch does not fit into memory, all are repeated in smaller parts.
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
                        "a batch does not fit into memory; from now on each is split into {} parts, with the same gradient",
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

    /// The sum of the batches' losses in the order of the batches, whichever process computed them.
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

    /// The error for a loss or gradient that is not a number, with its rows.
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
            "the {what} of step {step} is not a number; its rows are {}",
            shown.join(", ")
        );
        let kept = checkpoint::newest(&self.settings.plan.out);
        let kept = kept.map_or("nothing was saved yet".to_owned(), |folder| {
            format!("`{}` is kept", folder.display())
        });
        Error::msg(message).help(format!("{kept}; try a smaller learning rate, or check these rows"))
    }

    fn logs_now(&self) -> bool {
        let step = self.state.step;
        let epoch_ends = step.is_multiple_of(self.steps.per_epoch);
        self.logging.is_some_and(|every| step.is_multiple_of(every))
            || (epoch_ends && self.settings.run.logging_strategy == "epoch")
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
}

/// Seconds since the last call.
fn lap(clock: &mut Instant) -> f64 {
    let seconds = clock.elapsed().as_secs_f64();
    *clock = Instant::now();
    seconds
}
