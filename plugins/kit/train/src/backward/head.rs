//! The head and the loss, for learnt positions only, some of them at a time.

use super::linear::Linear;
use crate::engine::parameters::{Gradients, Pass};
use crate::products::vector::{each_row, exp, largest, sum};
use crate::products::{Into, Scratch};
use rayon::prelude::*;

/// Logits that are computed together, for whole positions: the more, the less often the head's weights are widened.
const TOGETHER: usize = 48 << 20;

/// Positions whose logits are computed together.
fn positions(vocabulary: usize) -> usize {
    (TOGETHER / vocabulary.max(1)).clamp(96, 1024)
}

/// Parameters of the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Loss {
    /// If set, logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f32>,
    pub smoothing: f32,
}

impl Loss {
    /// The loss of each position, in the order of `labels`. With `learning`, the gradient of the sum divided by
    /// `items` is added to that of x (positions, hidden).
    pub fn through(
        &self,
        head: &Linear,
        pass: &Pass,
        x: &[f32],
        labels: &[u32],
        learning: Option<(f64, &mut [f32], &mut Gradients)>,
    ) -> Vec<f64> {
        let (hidden, vocabulary) = (head.inputs, head.outputs);
        let mut losses = Vec::with_capacity(labels.len());
        let mut learning = learning;
        // In parts of about equal size, so that no small part remains.
        let parts = labels.len().div_ceil(positions(vocabulary)).max(1);
        let together = labels.len().div_ceil(parts).max(1);
        let mut logits = Scratch::new(together * vocabulary);
        for (number, labels) in labels.chunks(together).enumerate() {
            let at = number * together * hidden..(number * together + labels.len()) * hidden;
            let logits = &mut logits[..labels.len() * vocabulary];
            let x = &x[at.clone()];
            let between = head.forward_of(pass, x, logits);
            self.capped(logits);
            let factor = learning.as_ref().map(|(items, ..)| (1.0 / items) as f32);
            let rows = logits.par_chunks_mut(vocabulary).zip(labels);
            let some: Vec<f64> = rows
                .map(|(logits, &label)| self.of_row(logits, label, factor))
                .collect();
            losses.extend(some);
            if let Some((_, dx, gradients)) = &mut learning {
                head.backward(pass, x, &between, logits, Some((&mut dx[at], Into::Add)), gradients);
            }
        }
        losses
    }

    /// The logits of some positions: (positions, vocabulary).
    pub fn logits(&self, head: &Linear, pass: &Pass, x: &[f32]) -> Vec<f32> {
        let mut logits = vec![0.0; x.len() / head.inputs.max(1) * head.outputs];
        head.forward_of(pass, x, &mut logits);
        self.capped(&mut logits);
        logits
    }

    fn capped(&self, logits: &mut [f32]) {
        if let Some(cap) = self.softcap {
            each_row(
                logits,
                1024,
                #[inline(always)]
                |_, row| row.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh()),
            );
            let rest = logits.len() / 1024 * 1024;
            logits[rest..].iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
        }
    }

    /// The loss of one position; with a factor, its gradient times the factor overwrites the logits.
    fn of_row(&self, logits: &mut [f32], label: u32, factor: Option<f32>) -> f64 {
        crate::products::vector::vectorised(
            #[inline(always)]
            || {
                let largest = largest(logits);
                // Groups are summed in fp64, so that a large vocabulary costs no precision.
                let mut total = 0.0;
                for some in logits.chunks(4096) {
                    total += f64::from(sum(
                        [some],
                        #[inline(always)]
                        |[x]| exp(x - largest),
                    ));
                }
                let scale = f64::from(largest) + total.ln();
                let of_label = logits.get(label as usize).copied().unwrap_or(f32::NAN);
                let own = scale - f64::from(of_label);
                let smoothing = f64::from(self.smoothing);
                let loss = match smoothing > 0.0 {
                    false => own,
                    true => {
                        let mean = logits.iter().map(|&x| f64::from(x)).sum::<f64>() / logits.len() as f64;
                        (1.0 - smoothing) * own + smoothing * (scale - mean)
                    }
                };
                if let Some(factor) = factor {
                    let even = self.smoothing / logits.len() as f32;
                    let share = (1.0 / total) as f32;
                    let slope = |x: f32| self.softcap.map_or(1.0, |cap| 1.0 - (x / cap) * (x / cap));
                    let slope_of_label = slope(of_label);
                    match self.softcap {
                        // A separate loop without a division.
                        None => {
                            for x in logits.iter_mut() {
                                *x = (exp(*x - largest) * share - even) * factor;
                            }
                        }
                        Some(_) => {
                            for x in logits.iter_mut() {
                                *x = (exp(*x - largest) * share - even) * factor * slope(*x);
                            }
                        }
                    }
                    if let Some(x) = logits.get_mut(label as usize) {
                        *x -= (1.0 - self.smoothing) * factor * slope_of_label;
                    }
                }
                loss
            },
        )
    }
}
