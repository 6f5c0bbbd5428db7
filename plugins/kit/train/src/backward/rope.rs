//! Turning queries and keys by their positions, on their way from (tokens, heads, size) to (heads, tokens, size).

use crate::products::vector::{rows_of_task, vectorised};
use nn::Rope;
use rayon::prelude::*;

/// Cosines and sines at the positions of a pass, each (tokens, size / 2).
pub(crate) struct Angles {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
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
            half: frequencies.len(),
        }
    }

    fn of_token(&self, token: usize) -> (&[f32], &[f32]) {
        let at = token * self.half;
        (&self.cos[at..][..self.half], &self.sin[at..][..self.half])
    }
}

/// Writes x (tokens, heads, size) as (heads, tokens, size), turned if there are angles. `tokens` says which token each
/// row of x is.
pub(crate) fn by_head(x: &[f32], heads: usize, tokens: &[usize], angles: Option<&Angles>, y: &mut [f32]) {
    let size = x.len() / (heads * tokens.len()).max(1);
    if x.is_empty() {
        return;
    }
    y.par_chunks_mut(tokens.len() * size).enumerate().for_each(|(head, y)| {
        vectorised(|| {
            for ((row, &token), y) in tokens.iter().enumerate().zip(y.chunks_exact_mut(size)) {
                let x = &x[(row * heads + head) * size..][..size];
                match angles {
                    None => y.copy_from_slice(x),
                    Some(angles) => {
                        let (cos, sin) = angles.of_token(token);
                        let (x1, x2) = x.split_at(angles.half);
                        let (y1, y2) = y.split_at_mut(angles.half);
                        for n in 0..angles.half {
                            y1[n] = x1[n] * cos[n] - x2[n] * sin[n];
                            y2[n] = x2[n] * cos[n] + x1[n] * sin[n];
                        }
                    }
                }
            }
        });
    });
}

/// The way back: writes y (heads, tokens, size) as (tokens, heads, size), turned back if there are angles.
pub(crate) fn by_token(y: &[f32], heads: usize, tokens: &[usize], angles: Option<&Angles>, x: &mut [f32]) {
    let size = y.len() / (heads * tokens.len()).max(1);
    if y.is_empty() {
        return;
    }
    let rows = rows_of_task(heads * size);
    x.par_chunks_mut(rows * heads * size)
        .enumerate()
        .for_each(|(number, x)| {
            vectorised(|| {
                for (row, x) in x.chunks_exact_mut(heads * size).enumerate() {
                    let row = number * rows + row;
                    for (head, x) in x.chunks_exact_mut(size).enumerate() {
                        let y = &y[(head * tokens.len() + row) * size..][..size];
                        match angles {
                            None => x.copy_from_slice(y),
                            Some(angles) => {
                                let (cos, sin) = angles.of_token(tokens[row]);
                                let (y1, y2) = y.split_at(angles.half);
                                let (x1, x2) = x.split_at_mut(angles.half);
                                for n in 0..angles.half {
                                    x1[n] = y1[n] * cos[n] + y2[n] * sin[n];
                                    x2[n] = y2[n] * cos[n] - y1[n] * sin[n];
                                }
                            }
                        }
                    }
                }
            });
        });
}
