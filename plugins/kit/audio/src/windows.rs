//! The windows of neighbouring frames, laid out so that they can be computed together.

use crate::lanes::{LANES, Lanes};
use std::array::from_fn;

/// Samples from one frame to the next.
pub const HOP: usize = 160;

/// Samples of a frame: 25 ms.
pub(crate) const WINDOW: usize = 400;
/// Frames that a thread computes at a time.
pub(crate) const BLOCK: usize = 32;
/// Samples under neighbouring frames.
const STRETCH: usize = WINDOW + (LANES - 1) * HOP;

/// The windowed samples of the frames whose first begins at sample `start`. `outside` gives the samples beyond the
/// clip.
#[inline(always)]
pub(crate) fn read(
    samples: &[f32],
    start: isize,
    outside: impl Fn(isize) -> f32,
    weights: &[f32; WINDOW],
    seen: &mut [Lanes],
) {
    let inside = usize::try_from(start)
        .ok()
        .and_then(|start| samples.get(start..)?.first_chunk());
    match inside {
        Some(stretch) => weigh(stretch, weights, seen),
        None => {
            let at = |place| start + place as isize;
            weigh(&from_fn(|place| outside(at(place))), weights, seen);
        }
    }
}

#[inline(always)]
fn weigh(stretch: &[f32; STRETCH], weights: &[f32; WINDOW], seen: &mut [Lanes]) {
    for (place, (seen, weight)) in seen.iter_mut().zip(weights).enumerate() {
        let samples: [f32; LANES] = from_fn(|lane| stretch[place + lane * HOP]);
        let mut weighed = Lanes::default();
        for (value, sample) in weighed.0.iter_mut().zip(samples) {
            *value = f64::from(sample * weight);
        }
        *seen = weighed;
    }
}
