//! Optimisers: gradients to updates.
//!
//! All learnt values are in one buffer, and so are their gradients and states; an update is one pass over all of them.

mod adafactor;
mod bytes;
mod halves;

use crate::engine::parameters::{Learnt, Parameters};
use crate::{OptimSettings, Optimiser, StepReport};
use adafactor::Factored;
use bytes::ByteStates;
use half::bf16;
use halves::HalfStates;
use rayon::prelude::*;

/// Values of one task.
const TASK: usize = 1 << 15;
/// The smallest tensor whose states are stored in bytes, in values.
pub(crate) const FEWEST: usize = 4096;

/// An optimiser and its states.
pub(crate) struct Optim {
    pub settings: OptimSettings,
    pub steps: u64,
    /// Those of them that updated the parts that hear.
    pub heard_steps: u64,
    pub states: Vec<State>,
    /// Whether values are rounded to bf16 after each step, and states too.
    pub narrow: bool,
}

/// The state of one tensor between steps.
pub(crate) enum State {
    None,
    Moments { first: Vec<f32>, second: Vec<f32> },
    Halves(HalfStates),
    Bytes(ByteStates),
    Factored(Factored),
}

/// The kind of a tensor's state.
enum Kind {
    None,
    Moments,
    Halves,
    Bytes,
    Factored,
}

impl Kind {
    fn of(optim: Optimiser, count: usize, wide_states: bool, narrow: bool) -> Kind {
        match optim {
            Optimiser::Sgd => Kind::None,
            Optimiser::AdamW8Bit if count >= FEWEST && !wide_states => Kind::Bytes,
            Optimiser::AdamW | Optimiser::AdamW8Bit if narrow => Kind::Halves,
            Optimiser::AdamW | Optimiser::AdamW8Bit => Kind::Moments,
            Optimiser::Adafactor => Kind::Factored,
        }
    }
}

/// The bytes of a tensor's state, before there is one.
pub(crate) fn state_bytes(optim: Optimiser, shape: &[usize], wide_states: bool, narrow: bool) -> u64 {
    let count: usize = shape.iter().product();
    let columns = shape.last().copied().unwrap_or(1);
    let bytes = match Kind::of(optim, count, wide_states, narrow) {
        Kind::None => 0,
        Kind::Moments => 8 * count,
        Kind::Halves => 4 * count,
        Kind::Bytes => 2 * count + 8 * count.div_ceil(bytes::BLOCK),
        Kind::Factored => 4 * (columns + if shape.len() > 1 { count / columns.max(1) } else { 0 }),
    };
    bytes as u64
}

/// The numbers of one step, equal for all tensors except rate and decay.
#[derive(Clone, Copy)]
pub(crate) struct Rule {
    pub beta1: f64,
    pub beta2: f64,
    pub epsilon: f64,
    /// 1 - beta^steps.
    pub left1: f64,
    pub left2: f64,
    pub rate: f64,
    /// The factor of weights before the update.
    pub kept: f64,
    /// The factor of gradients.
    pub factor: f64,
}

impl Optim {
    pub fn new(settings: &OptimSettings, parameters: &Parameters, narrow: bool) -> Optim {
        let state = |learnt: &Learnt| {
            let shape = &learnt.parameter.shape;
            let count = learnt.range.len();
            match Kind::of(settings.optim, count, learnt.wide_states, narrow) {
                Kind::None => State::None,
                Kind::Bytes => State::Bytes(ByteStates::new(count)),
                Kind::Halves => State::Halves(HalfStates::new(count)),
                Kind::Moments => State::Moments {
                    first: kernels::memory::zeros(count),
                    second: kernels::memory::zeros(count),
                },
                Kind::Factored => State::Factored(Factored::new(shape)),
            }
        };
        Optim {
            settings: settings.clone(),
            steps: 0,
            heard_steps: 0,
            states: parameters.learnt.iter().map(state).collect(),
            narrow,
        }
    }

    /// One update. Without anything `heard`, parts that hear are skipped: PyTorch has no gradient of a parameter that no
    /// batch of the step used, which is another thing than a gradient of zeros.
    pub fn step(&mut self, parameters: &mut Parameters, gradient: &[f32], rate: f64, heard: bool) -> StepReport {
        let norm = norm(gradient);
        let most = self.settings.max_grad_norm;
        let factor = if most > 0.0 {
            (most / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let report = StepReport {
            grad_norm: norm,
            factor,
        };
        if !norm.is_finite() {
            return report;
        }
        self.steps += 1;
        self.heard_steps += u64::from(heard);
        let (beta1, beta2) = (self.settings.adam_beta1, self.settings.adam_beta2);
        for (learnt, state) in parameters.learnt.iter().zip(&mut self.states) {
            if learnt.hears && !heard {
                continue;
            }
            let steps = if learnt.hears { self.heard_steps } else { self.steps };
            let rate = rate * learnt.ratio;
            let decay = if learnt.parameter.decayed {
                self.settings.weight_decay
            } else {
                0.0
            };
            let rule = Rule {
                beta1,
                beta2,
                epsilon: self.settings.adam_epsilon,
                left1: 1.0 - beta1.powf(steps as f64),
                left2: 1.0 - beta2.powf(steps as f64),
                rate,
                kept: 1.0 - rate * decay,
                factor,
            };
            let values = &mut parameters.values[learnt.range.clone()];
            let gradient = &gradient[learnt.range.clone()];
            match state {
                State::None => plain(&rule, values, gradient),
                State::Moments { first, second } => {
                    let parts = values
                        .par_chunks_mut(TASK)
                        .zip(gradient.par_chunks(TASK))
                        .zip(first.par_chunks_mut(TASK))
                        .zip(second.par_chunks_mut(TASK));
                    parts.for_each(|(((values, gradient), first), second)| {
                        adam(&rule, values, gradient, first, second);
                    });
                }
                State::Halves(states) => states.step(&rule, values, gradient),
                State::Bytes(states) => states.step(&rule, values, gradient),
                State::Factored(states) => states.step(&rule, values, gradient, steps),
            }
            if self.narrow {
                values.par_chunks_mut(TASK).for_each(rounded);
            }
        }
        report
    }

    pub fn bytes(&self) -> u64 {
        let of = |state: &State| match state {
            State::None => 0,
            State::Moments { first, .. } => 8 * first.len() as u64,
            State::Halves(states) => states.bytes(),
            State::Bytes(states) => states.bytes(),
            State::Factored(states) => states.bytes(),
        };
        self.states.iter().map(of).sum()
    }
}

fn rounded(values: &mut [f32]) {
    values.iter_mut().for_each(|x| *x = bf16::from_f32(*x).to_f32());
}

/// AdamW on some values, in fp32.
#[inline(always)]
pub(crate) fn adam(rule: &Rule, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
    let (beta1, beta2) = (rule.beta1 as f32, rule.beta2 as f32);
    let (new1, new2) = ((1.0 - rule.beta1) as f32, (1.0 - rule.beta2) as f32);
    let (kept, factor, epsilon) = (rule.kept as f32, rule.factor as f32, rule.epsilon as f32);
    let step = (rule.rate / rule.left1) as f32;
    let root = (1.0 / rule.left2.sqrt()) as f32;
    crate::products::vector::vectorised(
        #[inline(always)]
        || {
            let each = values.iter_mut().zip(gradient).zip(first.iter_mut().zip(second));
            for ((value, gradient), (first, second)) in each {
                let gradient = gradient * factor;
                *first = beta1 * *first + new1 * gradient;
                *second = beta2 * *second + new2 * gradient * gradient;
                *value = *value * kept - step * *first / (second.sqrt() * root + epsilon);
            }
        },
    );
}

fn plain(rule: &Rule, values: &mut [f32], gradient: &[f32]) {
    let (kept, step) = (rule.kept as f32, (rule.rate * rule.factor) as f32);
    let parts = values.par_chunks_mut(TASK).zip(gradient.par_chunks(TASK));
    parts.for_each(|(values, gradient)| {
        let each = values.iter_mut().zip(gradient);
        each.for_each(|(value, gradient)| *value = *value * kept - step * gradient);
    });
}

/// The norm of a vector: summed in fp64, in an order that depends only on its length.
pub(crate) fn norm(values: &[f32]) -> f64 {
    let part = |some: &[f32]| -> f64 {
        let (eights, rest) = some.as_chunks::<8>();
        let mut sums = [0f64; 8];
        for values in eights {
            for n in 0..8 {
                sums[n] += f64::from(values[n]) * f64::from(values[n]);
            }
        }
        sums.iter().sum::<f64>() + rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>()
    };
    let parts: Vec<f64> = values.par_chunks(TASK).map(part).collect();
    parts.iter().sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests;
