//! Generations between two steps: dealt to the processes, and passed on by all in the order of the lessons.

use super::Run;
use crate::run::generations::{Generation, generation};
use plugin_api::{Error, LearnEvent, Result, Split};
use serde::{Deserialize, Serialize};
use serde_json::Map;
use std::time::Instant;

/// What one process has of them.
#[derive(Default, Serialize, Deserialize)]
struct Share {
    generations: Vec<Generation>,
    /// It was asked to stop before it had all.
    interrupted: bool,
}

impl Share {
    fn read(bytes: &[u8]) -> Result<Share> {
        serde_json::from_slice(bytes).map_err(Error::from)
    }
}

impl Run<'_> {
    /// Lets the model answer the first held-out lessons as it stands. An answer may take long: where the run may be
    /// interrupted they are left for when it goes on, which finds the same model.
    pub(super) fn generate(&mut self, epoch: f64, may_stop: bool) -> Result<()> {
        let began = Instant::now();
        let wanted = self.settings.run.eval_generations;
        let wanted = wanted.min(self.lessons.count(Split::HeldOut)?);
        self.state.generations_due = None;
        if wanted == 0 {
            return Ok(());
        }
        let world = self.peers.world();
        let mine = self.share(wanted, may_stop);
        let all = self.together(mine.and_then(|mine| serde_json::to_vec(&mine).map_err(Error::from)))?;
        let shares: Vec<Share> = all.iter().map(|bytes| Share::read(bytes)).collect::<Result<_>>()?;
        self.seconds.eval += began.elapsed().as_secs_f64();
        if shares.iter().any(|share| share.interrupted) {
            self.state.generations_due = Some(epoch);
            return Ok(());
        }
        for index in 0..wanted as usize {
            let Some(one) = shares[index % world].generations.get(index / world) else {
                continue;
            };
            let mut metrics = Map::new();
            metrics.insert("step".to_owned(), self.state.step.into());
            metrics.insert("epoch".to_owned(), epoch.into());
            let told = serde_json::to_value(one).map_err(Error::from)?;
            metrics.extend(told.as_object().cloned().unwrap_or_default());
            self.tell(LearnEvent {
                split: "generation".to_owned(),
                epoch: Some(epoch),
                metrics,
                ..LearnEvent::default()
            });
        }
        Ok(())
    }

    /// The answers that this process makes: that to the lesson of its rank, and to every `world`th after it.
    fn share(&mut self, wanted: u64, may_stop: bool) -> Result<Share> {
        let (rank, world) = (self.peers.rank() as u64, self.peers.world());
        let lessons = self.lessons;
        let stop = || may_stop && lessons.stop_asked();
        let most = self.settings.run.eval_generation_tokens;
        let mut mine = Share::default();
        for index in (rank..wanted).step_by(world) {
            let (student, engine) = (&mut *self.student, self.engine.as_mut());
            let named = self.maker.row(student, engine, lessons, Split::HeldOut, index)?;
            match generation(student, engine, named, most, &stop)? {
                Some(one) => mine.generations.push(one),
                None => {
                    mine.interrupted = true;
                    break;
                }
            }
        }
        Ok(mine)
    }
}
