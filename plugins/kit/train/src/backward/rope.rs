//! Rotates queries and keys by their positions while transposing (tokens, heads, size) to (heads, tokens, size).

use crate::products::vector::{rows_of_task, vectorised};
use nn::{Pairs, Rope};
use rayon::prelude::*;

/// Cosines and sines at the positions of a pass, each (tokens, pairs).
pub(crate) struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    /// How many pairs of channels are rotated: the first channels of a head, if it has more.
    count: usize,
    pairs: Pairs,
}

impl Angles {
    pub fn at(rope: &Rope, positions: &[u32]) -> Angles {
        let (frequencies, factor) = (rope.frequencies(), rope.attention_factor());
        let angles = positions
            .iter()
            .flat_map(|&position| frequencies.iter().map(move |frequency| position as f32 * frequency));
        let (cos, sin) = angles.map(|angle| (angle.cos() * factor, angle.sin() * factor)).unzip();
        Angles {
            cos,
            sin,
            count: frequencies.len(),
            pairs: rope.pairs(),
        }
    }

    fn of_token(&self, token: usize) -> (&[f32], &[f32]) {
        let at = token * self.count;
        (&self.cos[at..][..self.count], &self.sin[at..][..self.count])
    }

    /// Writes one head rotated by a token's position, forwards or backwards for a `way` of 1 or -1.
    #[inline(always)]
    fn turn(&self, token: usize, way: f32, x: &[f32], y: &mut [f32]) {
        let (cos, sin) = self.of_token(token);
        let ((x, kept), (y, rest)) = (x.split_at(2 * self.count), y.split_at_mut(2 * self.count));
        rest.copy_from_slice(kept);
        match self.pairs {
            Pairs::Halves => {
                let ((x1, x2), (y1, y2)) = (x.split_at(self.count), y.split_at_mut(self.count));
                for n in 0..self.count {
                    y1[n] = x1[n] * cos[n] - way * x2[n] * sin[n];
                    y2[n] = x2[n] * cos[n] + way * x1[n] * sin[n];
                }
            }
            Pairs::Neighbours => {
                for n in 0..self.count {
                    let (x1, x2) = (x[2 * n], x[2 * n + 1]);
                    y[2 * n] = x1 * cos[n] - way * x2 * sin[n];
                    y[2 * n + 1] = x2 * cos[n] + way * x1 * sin[n];
                }
            }
        }
    }
}

/// Writes x (tokens, heads, size) as (heads, tokens, size), rotated if there are angles. `tokens` is the token of each
/// row of x.
pub(crate) fn by_head(x: &[f32], heads: usize, tokens: &[usize], angles: Option<&Angles>, y: &mut [f32]) {
    let size = x.len() / (heads * tokens.len()).max(1);
    if x.is_empty() {
        return;
    }
    y.par_chunks_mut(tokens.len() * size).enumerate().for_each(|(head, y)| {
        vectorised(
            #[inline(always)]
            || {
                for ((row, &token), y) in tokens.iter().enumerate().zip(y.chunks_exact_mut(size)) {
                    let x = &x[(row * heads + head) * size..][..size];
                    match angles {
                        None => y.copy_from_slice(x),
                        Some(angles) => angles.turn(token, 1.0, x, y),
                    }
                }
            },
        );
    });
}

/// The inverse: writes y (heads, tokens, size) as (tokens, heads, size), rotated back if there are angles.
pub(crate) fn by_token(y: &[f32], heads: usize, tokens: &[usize], angles: Option<&Angles>, x: &mut [f32]) {
    let size = y.len() / (heads * tokens.len()).max(1);
    if y.is_empty() {
        return;
    }
    let rows = rows_of_task(heads * size);
    x.par_chunks_mut(rows * heads * size)
        .enumerate()
        .for_each(|(number, x)| {
            vectorised(
                #[inline(always)]
                || {
                    for (row, x) in x.chunks_exact_mut(heads * size).enumerate() {
                        let row = number * rows + row;
                        for (head, x) in x.chunks_exact_mut(size).enumerate() {
                            let y = &y[(head * tokens.len() + row) * size..][..size];
                            match angles {
                                None => x.copy_from_slice(y),
                                Some(angles) => angles.turn(tokens[row], -1.0, y, x),
                            }
                        }
                    }
                },
            );
        });
}
