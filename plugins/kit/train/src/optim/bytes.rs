//! AdamW's states in bytes, in blocks of 256 with a scale each.

use super::{Rule, adam};
use crate::nf4::{bounds, bytes_table, nearest_byte};
use rayon::prelude::*;

/// States that share a scale.
pub(crate) const BLOCK: usize = 256;

pub(crate) struct ByteStates {
    pub first: Vec<u8>,
    pub second: Vec<u8>,
    pub first_absmax: Vec<f32>,
    pub second_absmax: Vec<f32>,
}

impl ByteStates {
    pub fn new(count: usize) -> ByteStates {
        let blocks = count.div_ceil(BLOCK);
        ByteStates {
            first: vec![nearest_byte(0.0, &bounds(bytes_table(true))); count],
            second: vec![0; count],
            first_absmax: vec![0.0; blocks],
            second_absmax: vec![0.0; blocks],
        }
    }

    pub fn bytes(&self) -> u64 {
        (self.first.len() * 2 + self.first_absmax.len() * 8) as u64
    }

    pub fn step(&mut self, rule: &Rule, values: &mut [f32], gradient: &[f32]) {
        let (signed, unsigned) = (bytes_table(true), bytes_table(false));
        let (signed_bounds, unsigned_bounds) = (bounds(signed), bounds(unsigned));
        let blocks = values
            .par_chunks_mut(BLOCK)
            .zip(gradient.par_chunks(BLOCK))
            .zip(self.first.par_chunks_mut(BLOCK).zip(self.second.par_chunks_mut(BLOCK)))
            .zip(self.first_absmax.par_iter_mut().zip(&mut self.second_absmax))
            .with_min_len(16);
        blocks.for_each(
            |(((values, gradient), (first, second)), (first_absmax, second_absmax))| {
                let (mut m, mut v) = ([0f32; BLOCK], [0f32; BLOCK]);
                let (m, v) = (&mut m[..values.len()], &mut v[..values.len()]);
                widen(m, first, *first_absmax, signed);
                widen(v, second, *second_absmax, unsigned);
                adam(rule, values, gradient, m, v);
                *first_absmax = narrow(m, first, &signed_bounds);
                *second_absmax = narrow(v, second, &unsigned_bounds);
            },
        );
    }
}

fn widen(values: &mut [f32], codes: &[u8], absmax: f32, table: &[f32; 256]) {
    let each = values.iter_mut().zip(codes);
    each.for_each(|(value, &code)| *value = table[usize::from(code)] * absmax);
}

fn narrow(values: &[f32], codes: &mut [u8], bounds: &[f32; 255]) -> f32 {
    let largest = values.iter().fold(0f32, |largest, x| largest.max(x.abs()));
    let inverse = 1.0 / largest.max(1e-38);
    let each = codes.iter_mut().zip(values);
    each.for_each(|(code, &x)| *code = nearest_byte((x * inverse).clamp(-1.0, 1.0), bounds));
    largest
}
