//! Encodes clips between two passes, those of several prompts together.

use super::Scheduler;
use crate::lane::Lane;
use nn::Decoder;
use std::sync::Arc;

/// Samples encoded together: several short clips, or two or three windows of a long one.
const HEARD_AT_ONCE: usize = 80 * audio::RATE;

impl<D: Decoder> Scheduler<'_, '_, D> {
    /// Encodes the clips of prompts that have begun, each once.
    pub(super) fn encode_audio(&mut self) {
        self.recall();
        self.hear();
        self.recall();
    }

    /// Gives prompts the cached vectors of their clips.
    fn recall(&mut self) {
        let Scheduler {
            generator,
            rows,
            searches,
            choices,
            clips,
            ..
        } = self;
        let rows = rows.iter_mut().map(|row| (row.job, &mut row.lane));
        let searched = searches
            .iter_mut()
            .filter_map(|it| Some((it.job, &mut it.beams.first_mut()?.lane)));
        let chosen = choices.iter_mut().map(|choice| (choice.job, &mut choice.context));
        let mut failed = Vec::new();
        for (job, lane) in rows.chain(searched).chain(chosen) {
            if lane.waits || !lane.is_unheard() {
                continue;
            }
            let known = clips.known(&lane.input);
            if !known.is_empty() {
                let taken = Arc::make_mut(&mut lane.input).take(&generator.decoder, known);
                failed.extend(taken.err().map(|error| (job, error)));
            }
        }
        for (job, error) in failed {
            self.fail(job, error);
        }
    }

    /// Encodes as many clips together as the limit allows, but only one chunk between two passes if other work could
    /// go on.
    fn hear(&mut self) {
        let generator = self.generator;
        let Scheduler {
            rows,
            searches,
            choices,
            clips: known,
            ..
        } = &*self;
        let lanes = || {
            let rows = rows.iter().map(|row| (row.job, &row.lane));
            let searched = searches
                .iter()
                .flat_map(|it| it.beams.iter().map(|beam| (it.job, &beam.lane)));
            rows.chain(searched)
                .chain(choices.iter().map(|choice| (choice.job, &choice.context)))
        };
        let mut wanted: Vec<(u64, &Lane)> = Vec::new();
        for (job, lane) in lanes().filter(|(_, lane)| lane.is_unheard()) {
            // A clip that an earlier prompt has in the same place is encoded once for both, since the prefix will be
            // kept; in another place, since its vectors will be.
            let shares = |(_, other): &(u64, &Lane)| {
                let reads = other.keep_at.is_some() && lane.input.common(&other.input) >= lane.input.sounds_end();
                reads || known.serves_both(&lane.input, &other.input)
            };
            if !lane.waits && !wanted.iter().any(shares) {
                wanted.push((job, lane));
            }
        }
        let Some(loras) = wanted.first().map(|(_, lane)| &lane.input.loras) else {
            return;
        };
        let busy = lanes().any(|(_, lane)| !lane.is_unheard());
        let mut left = if busy { 0 } else { HEARD_AT_ONCE };
        let (mut jobs, mut sounds) = (Vec::new(), Vec::new());
        for (job, lane) in wanted.iter().filter(|(_, lane)| lane.input.loras == *loras) {
            let Some(unheard) = &lane.input.unheard else { continue };
            if left == 0 && !sounds.is_empty() {
                break;
            }
            let next = unheard.next(left);
            left = left.saturating_sub(next.iter().map(|sound| sound.len()).sum());
            jobs.push((*job, next.len()));
            sounds.extend(next);
        }
        let mut heard = generator.encode_audio(&sounds, loras);
        if let (Err(_), Some(first), Some((_, count))) = (&heard, sounds.first(), jobs.first_mut())
            && sounds.len() > 1
        {
            // Encoded one by one, it shows which clip is at fault, and whether fewer at a time fit into memory.
            heard = generator.encode_audio(&[first], loras);
            *count = 1;
            jobs.truncate(1);
        }
        let mut heard = match heard {
            Ok(heard) => heard.into_iter(),
            Err(error) => {
                return jobs
                    .first()
                    .into_iter()
                    .for_each(|(job, _)| self.fail(*job, error.clone()));
            }
        };
        for (job, count) in jobs {
            let own: Vec<_> = heard.by_ref().take(count).map(|heard| heard.vectors).collect();
            let Some(input) = self.lane_of(job).map(|lane| lane.input.clone()) else {
                continue;
            };
            self.clips.keep(&input, &own);
            drop(input);
            let taken = self
                .lane_of(job)
                .map(|lane| Arc::make_mut(&mut lane.input).take(&generator.decoder, own));
            if let Some(Err(error)) = taken {
                self.fail(job, error);
            }
        }
    }
}
