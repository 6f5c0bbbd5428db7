//! What pieces of sound became, so that a clip is encoded once wherever it stands in the prompts that hold it.
//!
//! A cache of a beginning serves prompts that are the same up to the clip. Where other words stand in front of it, as in a
//! sweep whose reasoning is part of the question, the clip's vectors are still the same.

use candle_core::Tensor;
use nn::{Input, LoraSet, is_same_clip};
use plugin_api::Clip;
use std::collections::VecDeque;
use std::ops::Range;

/// The pieces that were heard or asked for last.
#[derive(Default)]
pub(super) struct Heard {
    /// The one that was asked for last stands first.
    kept: VecDeque<Piece>,
    bytes: usize,
    /// With none, each prompt's clips are heard for it alone.
    most_bytes: usize,
}

/// A stretch of a clip, through these LoRAs.
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

impl Heard {
    pub fn new(most_bytes: usize) -> Heard {
        Heard {
            most_bytes,
            ..Heard::default()
        }
    }

    pub fn clear(&mut self) {
        (self.kept, self.bytes) = (VecDeque::new(), 0);
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether what one prompt hears next will be known once the other has heard: both hear the same next.
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

    /// The vectors of what a prompt hears next, as far as they are known.
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

    /// Keeps what a prompt's next pieces were heard as.
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
