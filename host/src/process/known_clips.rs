//! Clips that both ends of a socket still have, so that a clip which many prompts hold crosses once.
//!
//! A frame names such a clip by how long ago it was last named. Frames are read in the order in which they were
//! written, so both ends keep and let go of the same clips without a word about it, and none can be asked for that the
//! other end lacks.

use plugin_api::Clip;
use std::collections::VecDeque;

/// Bytes of samples that are kept: the longest clip that a model here hears, ten minutes, and some short ones.
const MOST_BYTES: usize = 64 << 20;
/// Clips that are kept, however short they are.
const MOST_CLIPS: usize = 64;

/// The clips that were named last in one direction of a socket.
#[derive(Default)]
pub(super) struct KnownClips {
    /// The one that was named last stands first.
    kept: VecDeque<Clip>,
    bytes: usize,
}

impl KnownClips {
    /// For the end that sends: the place of a clip that is known, which stands first from now on. One that is not known
    /// is kept.
    pub fn place_of(&mut self, clip: &Clip) -> Option<usize> {
        let place = self.kept.iter().position(|known| is_same(known, clip));
        match place {
            Some(place) => drop(self.take(place)),
            None => self.keep(clip),
        }
        place
    }

    /// For the end that receives: the clip at this place, which stands first from now on.
    pub fn take(&mut self, place: usize) -> Option<Clip> {
        let clip = self.kept.remove(place)?;
        self.kept.push_front(clip.clone());
        Some(clip)
    }

    /// Keeps a clip that came in whole, and lets go of those that were not named for longest.
    pub fn keep(&mut self, clip: &Clip) {
        if bytes(clip) > MOST_BYTES {
            return;
        }
        self.bytes += bytes(clip);
        self.kept.push_front(clip.clone());
        while (self.bytes > MOST_BYTES || self.kept.len() > MOST_CLIPS)
            && let Some(gone) = self.kept.pop_back()
        {
            self.bytes -= bytes(&gone);
        }
    }
}

fn bytes(clip: &Clip) -> usize {
    size_of_val(clip.samples())
}

/// The same to the bit, which is seen at once where two clips share their samples.
fn is_same(a: &Clip, b: &Clip) -> bool {
    let (left, right) = (a.samples(), b.samples());
    let bits = || left.iter().zip(right).all(|(a, b)| a.to_bits() == b.to_bits());
    (a.rate, a.channels, left.len()) == (b.rate, b.channels, right.len()) && (std::ptr::eq(left, right) || bits())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clip(value: f32, samples: usize) -> Clip {
        Clip::new(16_000, vec![value; samples])
    }

    /// Sends clips, and says of each whether it was known; the other end must have the same clip for it.
    fn known(clips: &[Clip]) -> Vec<bool> {
        let (mut sender, mut receiver) = (KnownClips::default(), KnownClips::default());
        let send = |clip: &Clip| {
            let place = sender.place_of(clip);
            match place {
                Some(place) => assert!(is_same(&receiver.take(place).expect("a clip that is known"), clip)),
                None => receiver.keep(clip),
            }
            assert!(sender.bytes <= MOST_BYTES && sender.kept.len() <= MOST_CLIPS);
            assert_eq!((sender.bytes, sender.kept.len()), (receiver.bytes, receiver.kept.len()));
            place.is_some()
        };
        clips.iter().map(send).collect()
    }

    #[test]
    fn a_clip_is_known_by_what_it_holds() {
        let (one, again, louder) = (clip(0.5, 9), clip(0.5, 9), clip(0.75, 9));
        assert_eq!(known(&[one.clone(), louder, one, again]), [false, false, true, true]);
        let mut stereo = clip(0.5, 9);
        stereo.channels = 2;
        assert_eq!(known(&[clip(0.5, 9), stereo, clip(0.5, 8)]), [false; 3]);
        // Samples are bits here: zeros of both signs differ, and a NaN equals itself.
        assert_eq!(known(&[clip(0.0, 1), clip(-0.0, 1)]), [false; 2]);
        assert_eq!(known(&[clip(f32::NAN, 1), clip(f32::NAN, 1)]), [false, true]);
    }

    #[test]
    fn what_was_not_named_for_longest_is_let_go() {
        let many: Vec<Clip> = (0..=MOST_CLIPS).map(|number| clip(number as f32, 1)).collect();
        let (first, second, last) = (many[0].clone(), many[1].clone(), many[MOST_CLIPS].clone());
        let named = [&many[..MOST_CLIPS], &[first.clone(), last, first, second]].concat();
        assert_eq!(known(&named)[MOST_CLIPS..], [true, false, true, false]);
        let half = MOST_BYTES / size_of::<f32>() / 2;
        let (long, other, short) = (clip(1.0, half), clip(2.0, half), clip(3.0, 1));
        let named = [long.clone(), other.clone(), short.clone(), other, long];
        assert_eq!(known(&named), [false, false, false, true, false]);
        let longest = clip(1.0, 2 * half + 1);
        assert_eq!(
            known(&[short.clone(), longest.clone(), longest, short]),
            [false, false, false, true]
        );
    }

    #[test]
    fn a_place_that_holds_nothing_is_no_clip() {
        let mut receiver = KnownClips::default();
        receiver.keep(&clip(0.5, 1));
        assert!(receiver.take(1).is_none() && receiver.take(usize::MAX).is_none());
        assert!(receiver.take(0).is_some());
    }
}
