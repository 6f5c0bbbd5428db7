//! The end of a run: the trained model and its summary.

use super::{Run, Seconds};
use crate::run::checkpoint::{self, FINAL};
use crate::run::state::Best;
use plugin_api::{Learnt, Result};
use serde_json::json;

impl Run<'_> {
    pub(super) fn finish(&mut self, stopped_early: bool) -> Result<Learnt> {
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
        let written = match self.settings.writes() && !self.complete {
            true => self.write_model(epoch, best.as_ref()),
            false => Ok(()),
        };
        self.together(written.map(|()| Vec::new()))?;
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
            setting: None,
        })
    }

    fn write_model(&self, epoch: f64, best: Option<&Best>) -> Result<()> {
        let (engine, student) = (self.engine.as_ref(), &*self.student);
        checkpoint::write_model(engine, student, &self.settings, &self.saved(), &self.facts(epoch))?;
        let out = &self.settings.plan.out;
        if let (Some(best), 1) = (best, self.settings.run.save_total_limit) {
            let others = checkpoint::steps(out).into_iter().filter(|step| *step != best.step);
            others.into_iter().try_for_each(|step| checkpoint::discard(out, step))?;
        }
        Ok(())
    }
}

/// The peak memory of this process.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kilobytes * 1024)
}
