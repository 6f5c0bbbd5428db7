//! The sound that some frames see, laid out so that frames beside each other can be worked on together.

use crate::HOP;
use crate::lanes::{LANES, Lanes};

/// Samples of a frame: 25 ms.
pub(crate) const WINDOW: usize = 400;
/// Frames worked on by one thread at a time.
pub(crate) const BLOCK: usize = 32;
/// Each frame's own step, and those that the last one sees behind it.
const COLUMNS: usize = BLOCK + WINDOW.div_ceil(HOP) - 1;

/// One column for each step from frame to frame, so that what frames beside each other see at one place of their windows
/// lies in one piece. Two or three frames see a sample; it is put here once.
pub(crate) struct Columns([[f32; COLUMNS]; HOP]);

impl Columns {
    pub fn new() -> Columns {
        Columns([[0.0; COLUMNS]; HOP])
    }

    /// Takes in the sound from sample `start` on; what lies outside of the clip, `outside` says.
    #[inline(always)]
    pub fn fill(&mut self, samples: &[f32], start: isize, outside: impl Fn(isize) -> f32) {
        for column in 0..COLUMNS {
            let start = start + (column * HOP) as isize;
            let first = usize::try_from(start).ok();
            let inside = first.and_then(|first| samples.get(first..first + HOP));
            let places = self.0.iter_mut().map(|columns| &mut columns[column]);
            match inside {
                Some(samples) => places.zip(samples).for_each(|(place, sample)| *place = *sample),
                None => places.zip(start..).for_each(|(place, at)| *place = outside(at)),
            }
        }
    }

    /// What the frames from `first` on see, times the weight of each place.
    #[inline(always)]
    pub fn read(&self, first: usize, weights: &[f32; WINDOW], seen: &mut [Lanes]) {
        let steps = seen.chunks_mut(HOP).zip(weights.chunks(HOP));
        for (ahead, (seen, weights)) in steps.enumerate() {
            let lanes = first + ahead..first + ahead + LANES;
            for ((seen, weight), columns) in seen.iter_mut().zip(weights).zip(&self.0) {
                let mut weighed = Lanes::default();
                for (value, sample) in weighed.0.iter_mut().zip(&columns[lanes.clone()]) {
                    *value = f64::from(sample * weight);
                }
                *seen = weighed;
            }
        }
    }
}
