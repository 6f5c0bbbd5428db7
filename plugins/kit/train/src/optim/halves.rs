//! AdamW's states in bf16, rounded after each step.

use super::{Rule, adam};
use half::bf16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

/// Values that are widened at a time.
const PIECE: usize = 1024;

pub(crate) struct HalfStates {
    pub first: Vec<bf16>,
    pub second: Vec<bf16>,
}

impl HalfStates {
    pub fn new(count: usize) -> HalfStates {
        HalfStates {
            first: vec![bf16::ZERO; count],
            second: vec![bf16::ZERO; count],
        }
    }

    pub fn bytes(&self) -> u64 {
        size_of_val(&self.first[..]) as u64 * 2
    }

    pub fn step(&mut self, rule: &Rule, values: &mut [f32], gradient: &[f32]) {
        let pieces = values
            .par_chunks_mut(PIECE)
            .zip(gradient.par_chunks(PIECE))
            .zip(self.first.par_chunks_mut(PIECE).zip(self.second.par_chunks_mut(PIECE)))
            .with_min_len(16);
        pieces.for_each(|((values, gradient), (first, second))| {
            let (mut m, mut v) = ([0f32; PIECE], [0f32; PIECE]);
            let (m, v) = (&mut m[..values.len()], &mut v[..values.len()]);
            first.convert_to_f32_slice(m);
            second.convert_to_f32_slice(v);
            adam(rule, values, gradient, m, v);
            first.convert_from_f32_slice(m);
            second.convert_from_f32_slice(v);
        });
    }
}
