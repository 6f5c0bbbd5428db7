//! Norms: each row is divided by its root mean square or its deviation, and multiplied by a weight for each channel.

use crate::engine::parameters::{Gradients, Pass, Vector};
use crate::products::vector::{dot, each_row, rows_of_task, sum, vectorised};
use rayon::prelude::*;

/// Division by the root mean square.
pub(crate) struct RmsNorm {
    pub weight: Vector,
    /// Whether weights are stored as their distance from one.
    pub from_one: bool,
    pub eps: f32,
}

impl RmsNorm {
    fn weights(&self, pass: &Pass) -> Vec<f32> {
        let shift = if self.from_one { 1.0 } else { 0.0 };
        pass.vector(&self.weight).iter().map(|weight| weight + shift).collect()
    }

    /// x (rows, size) to y, which may not be x.
    pub fn forward(&self, pass: &Pass, x: &[f32], y: &mut [f32]) {
        let weights = self.weights(pass);
        let size = weights.len();
        each_row(
            y,
            size,
            #[inline(always)]
            |row, y| {
                let x = &x[row * size..][..size];
                let factor = 1.0 / (dot(x, x) / size as f32 + self.eps).sqrt();
                for ((y, x), weight) in y.iter_mut().zip(x).zip(&weights) {
                    *y = x * factor * weight;
                }
            },
        );
    }

    /// From the gradient of y to that of x, which is added to `dx`.
    pub fn backward(&self, pass: &Pass, x: &[f32], dy: &[f32], dx: &mut [f32], gradients: &mut Gradients) {
        let weights = self.weights(pass);
        let size = weights.len();
        each_row(
            dx,
            size,
            #[inline(always)]
            |row, dx| {
                let (x, dy) = (&x[row * size..][..size], &dy[row * size..][..size]);
                let factor = 1.0 / (dot(x, x) / size as f32 + self.eps).sqrt();
                let along = sum(
                    [dy, x, &weights],
                    #[inline(always)]
                    |[dy, x, weight]| dy * weight * x,
                );
                let along = along * factor * factor * factor / size as f32;
                for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(&weights) {
                    *dx += dy * weight * factor - x * along;
                }
            },
        );
        if let Some(gradient) = gradients.vector(&self.weight) {
            sum_over_rows(
                gradient,
                x.len() / size.max(1),
                #[inline(always)]
                |rows, sums| {
                    for row in rows {
                        let (x, dy) = (&x[row * size..][..size], &dy[row * size..][..size]);
                        let factor = 1.0 / (dot(x, x) / size as f32 + self.eps).sqrt();
                        for ((sum, dy), x) in sums.iter_mut().zip(dy).zip(x) {
                            *sum += dy * x * factor;
                        }
                    }
                },
            );
        }
    }
}

/// Subtraction of the mean, division by the deviation, a weight and a bias for each channel.
pub(crate) struct LayerNorm {
    pub weight: Vector,
    pub bias: Vector,
    pub eps: f32,
}

#[inline(always)]
fn mean_and_factor(x: &[f32], eps: f32) -> (f32, f32) {
    let size = x.len() as f32;
    let mean = sum(
        [x],
        #[inline(always)]
        |[x]| x,
    ) / size;
    let variance = sum(
        [x],
        #[inline(always)]
        |[x]| (x - mean) * (x - mean),
    ) / size;
    (mean, 1.0 / (variance + eps).sqrt())
}

impl LayerNorm {
    pub fn forward(&self, pass: &Pass, x: &[f32], y: &mut [f32]) {
        let (weights, biases) = (pass.vector(&self.weight), pass.vector(&self.bias));
        let size = weights.len();
        each_row(
            y,
            size,
            #[inline(always)]
            |row, y| {
                let x = &x[row * size..][..size];
                let (mean, factor) = mean_and_factor(x, self.eps);
                for (((y, x), weight), bias) in y.iter_mut().zip(x).zip(weights).zip(biases) {
                    *y = (x - mean) * factor * weight + bias;
                }
            },
        );
    }

    pub fn backward(&self, pass: &Pass, x: &[f32], dy: &[f32], dx: &mut [f32], gradients: &mut Gradients) {
        let weights = pass.vector(&self.weight);
        let size = weights.len();
        each_row(
            dx,
            size,
            #[inline(always)]
            |row, dx| {
                let (x, dy) = (&x[row * size..][..size], &dy[row * size..][..size]);
                let (mean, factor) = mean_and_factor(x, self.eps);
                let level = sum(
                    [dy, weights],
                    #[inline(always)]
                    |[dy, weight]| dy * weight,
                ) / size as f32;
                let along = sum(
                    [dy, weights, x],
                    #[inline(always)]
                    |[dy, weight, x]| dy * weight * (x - mean),
                );
                let along = along * factor * factor / size as f32;
                for (((dx, dy), x), weight) in dx.iter_mut().zip(dy).zip(x).zip(weights) {
                    *dx += (dy * weight - level - (x - mean) * along) * factor;
                }
            },
        );
        let rows = x.len() / size.max(1);
        if let Some(gradient) = gradients.vector(&self.weight) {
            sum_over_rows(
                gradient,
                rows,
                #[inline(always)]
                |rows, sums| {
                    for row in rows {
                        let (x, dy) = (&x[row * size..][..size], &dy[row * size..][..size]);
                        let (mean, factor) = mean_and_factor(x, self.eps);
                        for ((sum, dy), x) in sums.iter_mut().zip(dy).zip(x) {
                            *sum += dy * (x - mean) * factor;
                        }
                    }
                },
            );
        }
        if let Some(gradient) = gradients.vector(&self.bias) {
            sum_rows(gradient, dy);
        }
    }
}

/// Adds all rows of dy (rows, size) to a vector.
pub(crate) fn sum_rows(gradient: &mut [f32], dy: &[f32]) {
    let size = gradient.len();
    sum_over_rows(
        gradient,
        dy.len() / size.max(1),
        #[inline(always)]
        |rows, sums| {
            for row in rows {
                sums.iter_mut()
                    .zip(&dy[row * size..][..size])
                    .for_each(|(sum, dy)| *sum += dy);
            }
        },
    );
}

/// Sums what `part` computes for ranges of rows, in an order that depends only on their number.
fn sum_over_rows(gradient: &mut [f32], rows: usize, part: impl Fn(std::ops::Range<usize>, &mut [f32]) + Sync) {
    let size = gradient.len();
    let few = rows_of_task(size).max(16);
    let starts: Vec<usize> = (0..rows).step_by(few).collect();
    let parts: Vec<Vec<f32>> = starts
        .into_par_iter()
        .map(|start| {
            let mut sums = vec![0.0; size];
            vectorised(
                #[inline(always)]
                || part(start..rows.min(start + few), &mut sums),
            );
            sums
        })
        .collect();
    for sums in parts {
        gradient
            .iter_mut()
            .zip(sums)
            .for_each(|(gradient, sum)| *gradient += sum);
    }
}
