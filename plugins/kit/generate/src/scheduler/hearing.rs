//! When clips are heard: between two passes, those of several prompts together.

use super::Scheduler;
use crate::lane::Lane;
use nn::Decoder;
use std::sync::Arc;

/// Samples of sound heard together: of several short clips, or of two or three windows of a long one.
const HEARD_AT_ONCE: usize = 80 * audio::RATE;

impl<D: Decoder> Scheduler<'_, '_, D> {
    /// Hears clips of prompts that have been begun: as many together as is bounded, but no more than a piece between two
    /// passes while something else could go on.
    pub(super) fn encode_audio(&mut self) {
        let generator = self.generator;
        let Scheduler {
            rows,
            searches,
            choices,
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
            // Sound that an earlier one has in the same place is heard for both: what is read of it will be kept.
            let shares = |(_, other): &(u64, &Lane)| {
                other.keep_at.is_some() && lane.input.common(&other.input) >= lane.input.sounds_end()
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
            // Whose fault it is, and whether less goes where all is too much, shows when each is heard by itself.
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
            let own = heard.by_ref().take(count).collect();
            let taken = self
                .lane_of(job)
                .map(|lane| Arc::make_mut(&mut lane.input).take(&generator.decoder, own));
            if let Some(Err(error)) = taken {
                self.fail(job, error);
            }
        }
    }
}
