//! Clips that both ends of a socket cache, so that a clip of many prompts is transferred once.
//!
//! A frame refers to such a clip by its place in the cache, most recently used first. Frames are read in the order in
//! which they were written, so both ends keep and drop the same clips without messages about it.

use plugin_api::Clip;
use std::collections::VecDeque;

/// Bytes of samples in the cache: the longest clip of any model here, ten minutes, and some short ones.
const MOST_BYTES: usize = 64 << 20;
/// Clips that are kept, however short they are.
const MOST_CLIPS: usize = 64;

/// The most recently used clips in one direction of a socket.
#[derive(Default)]
pub(super) struct KnownClips {
    /// Most recently used first.
    kept: VecDeque<Clip>,
    bytes: usize,
}

impl KnownClips {
    /// For the sending end: the place of a known clip, which becomes the first. An unknown one is added.
    pub fn place_of(&mut self, clip: &Clip) -> Option<usize> {
        let place = self.kept.iter().position(|known| is_same(known, clip));
        match place {
            Some(place) => drop(self.take(place)),
            None => self.keep(clip),
        }
        place
    }

    /// For the receiving end: the clip at this place, which becomes the first.
    pub fn take(&mut self, place: usize) -> Option<Clip> {
        let clip = self.kept.remove(place)?;
        self.kept.push_front(clip.clone());
        Some(clip)
    }

    /// Adds a clip that was transferred, and drops the least recently used ones.
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

/// Equal to the bit; immediate if the two share their samples.
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

    /// Sends clips, and returns for each whether it was known; the other end must have the same clip for it.
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
