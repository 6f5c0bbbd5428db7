//! Attention of a few queries, which use each key once: keys and values are read without packing.
//!
//! Every number is computed by the same operations in the same order as with many queries, so a token's result does
//! not depend on how its text was split. Scores are summed from the first number of a key to the last, exponentials
//! and weighted values block by block, and blocks begin at the same places of the text.

use super::{Job, KEYS, Layer, View, exponentials_of, within};
use crate::packed::avx2;
use pulp::NullaryFnOnce;
use std::ops::Range;

/// Keys whose scores are computed at a time if no kernel transposes them in registers.
const TURNED: usize = 16;

pub(super) struct Few<'a> {
    pub layer: &'a Layer<'a>,
    pub job: &'a Job<'a>,
    pub head: usize,
    /// The union of what the queries see.
    pub all: Range<usize>,
    /// What each query sees.
    pub sights: &'a [Range<usize>],
    /// The queries, (rows, size), already scaled.
    pub queries: &'a [f32],
    /// The results, of the same shape; zero at first.
    pub sums: &'a mut [f32],
    /// Whether kernels round a product and a sum once, as fused instructions do, or separately.
    pub fused: bool,
}

impl NullaryFnOnce for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        match self.fused {
            true => self.attend::<true>(),
            false => self.attend::<false>(),
        }
    }
}

impl Few<'_> {
    #[inline(always)]
    fn attend<const FUSED: bool>(self) {
        let (size, rows) = (self.layer.size, self.sights.len());
        let softcap = self.layer.rule.softcap.map(|cap| cap as f32);
        let mut states = vec![(f32::NEG_INFINITY, 0f32); rows];
        let mut shares = vec![0f32; rows * KEYS];
        let mut block_sums = vec![0f32; rows * size];
        for first in (self.all.start / KEYS * KEYS..self.all.end).step_by(KEYS) {
            let block = first.max(self.all.start)..self.all.end.min(first + KEYS);
            self.pieces(
                &block,
                #[inline(always)]
                |keys, tokens, _| {
                    let scores = &mut shares[tokens.start - first..];
                    self.scores::<FUSED>(keys, tokens.len(), scores);
                },
            );
            for (row, sight) in self.sights.iter().enumerate() {
                let seen = within(sight, &(first..block.end));
                if seen.is_empty() {
                    continue;
                }
                let shares = &mut shares[row * KEYS..][..block.end - first];
                let less = exponentials_of(shares, seen, softcap, &mut states[row]);
                let sums = &mut self.sums[row * size..][..size];
                if less != 1.0 {
                    sums.iter_mut().for_each(|sum| *sum *= less);
                }
            }
            block_sums.fill(0.0);
            self.pieces(
                &block,
                #[inline(always)]
                |_, tokens, values| {
                    for (number, token) in tokens.enumerate() {
                        let value = &values.values[number * values.token..][..size];
                        let rows = block_sums.chunks_exact_mut(size).zip(self.sights).enumerate();
                        for (row, (sums, _)) in rows.filter(|(_, (_, sight))| sight.contains(&token)) {
                            let share = shares[row * KEYS + token - first];
                            for (sum, value) in sums.iter_mut().zip(value) {
                                *sum = plus_product::<FUSED>(*sum, *value, share);
                            }
                        }
                    }
                },
            );
            let blocks = block_sums.chunks_exact(size).zip(self.sights);
            for (sums, (add, sight)) in self.sums.chunks_exact_mut(size).zip(blocks) {
                if !within(sight, &(first..block.end)).is_empty() {
                    sums.iter_mut().zip(add).for_each(|(sum, add)| *sum += add);
                }
            }
        }
        for (sums, (_, sum)) in self.sums.chunks_exact_mut(size).zip(states) {
            let share = 1.0 / sum;
            sums.iter_mut().for_each(|sum| *sum *= share);
        }
    }

    /// The parts of a block that come from each piece of the text: keys from the first token on, the number of tokens,
    /// their values.
    #[inline(always)]
    fn pieces(&self, block: &Range<usize>, mut work: impl FnMut(View, Range<usize>, View)) {
        for piece in &self.job.pieces {
            let tokens = block.start.max(piece.tokens.start)..block.end.min(piece.tokens.end);
            if !tokens.is_empty() {
                let place = tokens.start - piece.tokens.start;
                let (keys, values) = (piece.keys.from(place, self.head), piece.values.from(place, self.head));
                work(keys, tokens, values);
            }
        }
    }

    /// Scores of all queries and this many keys; rows are [`KEYS`] apart.
    #[inline(always)]
    fn scores<const FUSED: bool>(&self, keys: View, count: usize, scores: &mut [f32]) {
        let size = self.layer.size;
        if FUSED && avx2::has() {
            return avx2::scores(self.queries, size, (keys.values, keys.token, count), (scores, KEYS));
        }
        for first in (0..count).step_by(TURNED) {
            let some = TURNED.min(count - first);
            for (row, query) in self.queries.chunks_exact(size).enumerate() {
                let mut sums = [0f32; TURNED];
                for (place, q) in query.iter().enumerate() {
                    for (lane, sum) in sums[..some].iter_mut().enumerate() {
                        let key = keys.values[(first + lane) * keys.token + place];
                        *sum = plus_product::<FUSED>(*sum, key, *q);
                    }
                }
                scores[row * KEYS + first..][..some].copy_from_slice(&sums[..some]);
            }
        }
    }
}

#[inline(always)]
fn plus_product<const FUSED: bool>(sum: f32, x: f32, y: f32) -> f32 {
    if FUSED { x.mul_add(y, sum) } else { sum + x * y }
}
