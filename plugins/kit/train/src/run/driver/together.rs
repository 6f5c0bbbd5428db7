//! Exchanges between the processes of a run, after which all of them know whether one has failed.

use super::Run;
use crate::run::checkpoint;
use plugin_api::{Code, Error, Result};

/// The first byte of a message that holds what was asked for.
const FINE: u8 = 0;
/// The first byte of a message that holds an error.
const FAILED: u8 = 1;

impl Run<'_> {
    /// Gives every process the bytes of each. If one of them failed, all get its error, at the same place of the run.
    pub(super) fn together(&mut self, mine: Result<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        self.all_know = false;
        if self.peers.world() == 1 {
            return mine.map(|bytes| vec![bytes]);
        }
        let message = match mine {
            Ok(bytes) => [&[FINE][..], &bytes].concat(),
            Err(error) => {
                let words = serde_json::to_vec(&(error.code.0, &error)).map_err(Error::from)?;
                [&[FAILED][..], &words].concat()
            }
        };
        let mut all = self.peers.gather(&message)?;
        if let Some(failed) = all.iter().find(|message| message.first() != Some(&FINE)) {
            let (code, error): (u32, Error) =
                serde_json::from_slice(failed.get(1..).unwrap_or_default()).map_err(|why| {
                    Error::new(Code::SERVICE, "a process sent an error that cannot be read").cause(why.to_string())
                })?;
            self.all_know = true;
            return Err(error.code(Code(code)));
        }
        for message in &mut all {
            message.remove(0);
        }
        Ok(all)
    }

    /// Sums counts over all processes.
    pub(super) fn counted<const N: usize>(&mut self, counts: Result<[u64; N]>) -> Result<[u64; N]> {
        let bytes = counts.map(|counts| counts.iter().flat_map(|count| count.to_le_bytes()).collect());
        let mut sums = [0; N];
        for bytes in self.together(bytes)? {
            for (sum, word) in sums.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *sum += u64::from_le_bytes(*word);
            }
        }
        Ok(sums)
    }

    /// Saves this step, unless that was done. All processes come here together.
    pub(super) fn ensure_saved(&mut self, epoch: f64) -> Result<()> {
        // Only the process that writes knows what is there, and the others save with it or not at all.
        let there = self.settings.writes() && checkpoint::steps(&self.settings.plan.out).contains(&self.state.step);
        match self.counted(Ok([u64::from(there)]))? {
            [0] => self.save(epoch),
            _ => Ok(()),
        }
    }

    /// Saves what was learnt before something that cannot be read, so that the run goes on there when it can.
    pub(super) fn keep(&mut self, error: Error) -> Error {
        let (step, total) = (self.state.step, self.steps.total);
        // A process that does not know of the error would not come here.
        if step == 0 || self.peers.world() > 1 && !self.all_know {
            return error;
        }
        let saved = self.ensure_saved(step as f64 / self.steps.per_epoch as f64);
        if saved.is_err() {
            return error;
        }
        self.all_know = true;
        let way = format!("step {step} of {total} is saved; when this can be read, the same command goes on there");
        match &error.help {
            None => error.help(way),
            Some(_) => error.cause(way),
        }
    }
}
