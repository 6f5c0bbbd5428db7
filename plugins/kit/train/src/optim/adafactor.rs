//! Adafactor with a given rate: no first moment, and for matrices only row and column means of the second one.

use super::Rule;

/// The floor of squared gradients, and the limit of an update's size.
const FLOOR: f32 = 1e-30;
const LARGEST: f64 = 1.0;
/// The decay of old squares: an exponent of the number of steps.
const DECAY: f64 = -0.8;

pub(crate) struct Factored {
    pub rows: Vec<f32>,
    /// Column means; for a vector, each value's own.
    pub columns: Vec<f32>,
}

impl Factored {
    pub fn new(shape: &[usize]) -> Factored {
        let columns = shape.last().copied().unwrap_or(1);
        let rows = shape.iter().product::<usize>() / columns.max(1);
        Factored {
            rows: vec![0.0; if shape.len() > 1 { rows } else { 0 }],
            columns: vec![0.0; columns],
        }
    }

    pub fn bytes(&self) -> u64 {
        4 * (self.rows.len() + self.columns.len()) as u64
    }

    pub fn step(&mut self, rule: &Rule, values: &mut [f32], gradient: &[f32], steps: u64) {
        let kept = (1.0 - (steps as f64).powf(DECAY)) as f32;
        let (width, factor) = (self.columns.len(), rule.factor as f32);
        let square = |g: f32| g * factor * g * factor + FLOOR;
        let mut sums = vec![0.0f32; width];
        for (number, row) in gradient.chunks_exact(width.max(1)).enumerate() {
            if let Some(mean) = self.rows.get_mut(number) {
                let now = row.iter().map(|&g| square(g)).sum::<f32>() / width as f32;
                *mean = kept * *mean + (1.0 - kept) * now;
            }
            sums.iter_mut().zip(row).for_each(|(sum, &g)| *sum += square(g));
        }
        let count = self.rows.len().max(1) as f32;
        let each = self.columns.iter_mut().zip(&sums);
        each.for_each(|(mean, sum)| *mean = kept * *mean + (1.0 - kept) * sum / count);
        let mean = self.rows.iter().sum::<f32>() / count;
        let direction = |at: usize| {
            let column = self.columns[at % width];
            let second = match self.rows.is_empty() {
                true => column,
                false => self.rows[at / width] / mean * column,
            };
            gradient[at] * factor / second.sqrt()
        };
        let squares: f64 = (0..values.len()).map(|at| f64::from(direction(at)).powi(2)).sum();
        let size = (squares / values.len().max(1) as f64).sqrt();
        let rate = (rule.rate / (size / LARGEST).max(1.0)) as f32;
        for (at, value) in values.iter_mut().enumerate() {
            *value = *value * rule.kept as f32 - rate * direction(at);
        }
    }
}
