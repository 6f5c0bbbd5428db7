//! Caches the vectors of audio chunks, so that a clip is encoded once, wherever it stands in prompts.
//!
//! A prefix cache serves prompts that are equal up to the clip. If the words before the clip differ, as in a sweep
//! over a reasoning that is part of the question, the clip's vectors are still the same.

use candle_core::Tensor;
use nn::{Input, LoraSet, is_same_clip};
use plugin_api::Clip;
use std::collections::VecDeque;
use std::ops::Range;

/// The chunks that were encoded or asked for last.
#[derive(Default)]
pub(super) struct ClipCache {
    /// Most recently used first.
    kept: VecDeque<Piece>,
    bytes: usize,
    /// 0 caches nothing: each prompt's clips are encoded for it alone.
    most_bytes: usize,
}

/// A part of a clip, with the LoRAs it was encoded with.
struct Piece {
    clip: Clip,
    samples: Range<usize>,
    loras: LoraSet,
    vectors: Tensor,
}

impl Piece {
    fn is(&self, clip: &Clip, samples: &Range<usize>, loras: &LoraSet) -> bool {
        self.samples == *samples && self.loras == *loras && is_same_clip(&self.clip, clip)
    }

    fn bytes(&self) -> usize {
        let vectors = self.vectors.elem_count() * self.vectors.dtype().size_in_bytes();
        vectors + self.samples.len() * size_of::<f32>()
    }
}

impl ClipCache {
    pub fn new(most_bytes: usize) -> ClipCache {
        ClipCache {
            most_bytes,
            ..ClipCache::default()
        }
    }

    pub fn clear(&mut self) {
        (self.kept, self.bytes) = (VecDeque::new(), 0);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether both prompts need the same chunk next, so that one encoding serves both.
    pub fn serves_both(&self, one: &Input, other: &Input) -> bool {
        let next = |input: &'_ Input| {
            input
                .unheard
                .as_ref()
                .and_then(|unheard| unheard.coming().next().map(own))
        };
        let same = |(a, b): ((Clip, Range<usize>), (Clip, Range<usize>))| a.1 == b.1 && is_same_clip(&a.0, &b.0);
        self.most_bytes > 0 && one.loras == other.loras && next(one).zip(next(other)).is_some_and(same)
    }

    /// The cached vectors of a prompt's next chunks, up to the first that is not cached.
    pub fn known(&mut self, input: &Input) -> Vec<Tensor> {
        let Some(unheard) = input.unheard.as_ref().filter(|_| !self.kept.is_empty()) else {
            return Vec::new();
        };
        let known = unheard.coming().map_while(|(clip, samples)| {
            let place = self
                .kept
                .iter()
                .position(|piece| piece.is(clip, samples, &input.loras))?;
            let piece = self.kept.remove(place)?;
            let vectors = piece.vectors.clone();
            self.kept.push_front(piece);
            Some(vectors)
        });
        known.collect()
    }

    /// Keeps the vectors of a prompt's next chunks.
    pub fn keep(&mut self, input: &Input, heard: &[Tensor]) {
        let Some(unheard) = &input.unheard else { return };
        for ((clip, samples), vectors) in unheard.coming().zip(heard) {
            let (clip, samples) = own((clip, samples));
            let piece = Piece {
                clip,
                samples,
                loras: input.loras.clone(),
                vectors: vectors.clone(),
            };
            if piece.bytes() > self.most_bytes {
                continue;
            }
            self.bytes += piece.bytes();
            self.kept.push_front(piece);
            while self.bytes > self.most_bytes
                && let Some(gone) = self.kept.pop_back()
            {
                self.bytes -= gone.bytes();
            }
        }
    }
}

fn own((clip, samples): (&Clip, &Range<usize>)) -> (Clip, Range<usize>) {
    (clip.clone(), samples.clone())
}
