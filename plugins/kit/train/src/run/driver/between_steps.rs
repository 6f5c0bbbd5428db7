//! What happens between two steps: evaluations, the best of them so far, and checkpoints.

use super::Run;
use crate::run::checkpoint;
use crate::run::evaluate::{Evaluated, joined, share};
use crate::run::state::Best;
use plugin_api::{Code, Error, Every, LearnEvent, Result};
use serde_json::{Map, Value, json};
use std::time::Instant;

impl Run<'_> {
    /// Logs, evaluates and saves when due. True if the run should end early.
    pub(super) fn between_steps(&mut self, epoch: f64, epoch_ends: bool) -> Result<bool> {
        self.state.evaluation_due = None;
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
            let evaluated = self.evaluate(epoch).map_err(|error| {
                self.state.evaluation_due = Some(epoch);
                self.keep(error)
            })?;
            (improved, stop) = self.judge(&evaluated)?;
            // A run that ends here does not go on, so it may not leave them for later.
            self.generate(epoch, !stop).map_err(|error| {
                self.state.generations_due = Some(epoch);
                if stop { error } else { self.keep(error) }
            })?;
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

    pub(super) fn evaluate(&mut self, epoch: f64) -> Result<Map<String, Value>> {
        let began = Instant::now();
        let size = self.settings.run.per_device_eval_batch_size;
        let place = (self.peers.rank() as u64, self.peers.world() as u64);
        let (student, engine) = (&mut *self.student, self.engine.as_mut());
        let mine = share(&mut self.maker, student, engine, self.lessons, place, size);
        let Evaluated {
            loss,
            by_batch,
            rows,
            batches,
            items,
        } = joined(&self.together(mine)?);
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

    /// Whether an evaluation is the best so far, and whether to stop early.
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
                "`{name}` did not improve in {patience} evaluations; the run ends here"
            ));
        }
        Ok((improved, stop))
    }

    pub(super) fn save(&mut self, epoch: f64) -> Result<()> {
        let began = Instant::now();
        let written = match self.settings.writes() {
            true => self.write(epoch),
            false => Ok(()),
        };
        self.together(written.map(|()| Vec::new()))?;
        self.seconds.save += began.elapsed().as_secs_f64();
        Ok(())
    }

    fn write(&mut self, epoch: f64) -> Result<()> {
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
        Ok(())
    }

    pub(super) fn interrupted(&mut self, epoch: f64) -> Error {
        let (step, total) = (self.state.step, self.steps.total);
        match self.ensure_saved(epoch) {
            Ok(()) => {
                let error = Error::new(
                    Code::CANCELLED,
                    format!("interrupted at step {step} of {total}, which is saved"),
                );
                error.help("the same command resumes from there")
            }
            Err(error) => error.context(format!("stopped at step {step} of {total}, which is not saved")),
        }
    }
}
