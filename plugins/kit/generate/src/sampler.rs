//! Sampling: chooses the next token.
//!
//! As in transformers, penalty, temperature, top-k, top-p and min-p are applied in this order. One default differs: if
//! neither publisher nor user sets top-k, transformers takes 50, and this sampler none.

use super::Defaults;
use super::random::Random;
use plugin_api::{Code, Error, Result, Sampling};
use std::collections::HashSet;

/// The flag of a reply whose logits were not numbers.
pub(super) const NAN_LOGITS: &str = "nan-logits";

/// A prompt's sampling settings with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct Knobs {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_k: usize,
    /// Kept as written: the reference computes with the decimal, not with the nearest fp32.
    pub top_p: f64,
    pub min_p: f32,
    pub repetition_penalty: f32,
    pub seed: u64,
}

impl Knobs {
    pub fn settle(asked: &Sampling, defaults: &Defaults) -> Result<Knobs> {
        let published = if defaults.do_sample {
            defaults.temperature.unwrap_or(1.0)
        } else {
            0.0
        };
        let knobs = Knobs {
            temperature: asked.temperature.unwrap_or(published),
            top_k: asked.top_k.or(defaults.top_k).unwrap_or(0) as usize,
            top_p: decimal(asked.top_p.or(defaults.top_p).unwrap_or(1.0)),
            min_p: asked.min_p.or(defaults.min_p).unwrap_or(0.0),
            repetition_penalty: asked.repetition_penalty.or(defaults.repetition_penalty).unwrap_or(1.0),
            seed: asked.seed.unwrap_or(0),
        };
        let check = |name: &str, got: f32, fits: bool, expected: &str| match fits {
            true => Ok(()),
            false => Err(Error::new(
                Code::SETTINGS,
                format!("sampling setting `{name}` is {got}, expected {expected}"),
            )),
        };
        let finite = |x: f32, least: f32| x.is_finite() && x >= least;
        check(
            "temperature",
            knobs.temperature,
            finite(knobs.temperature, 0.0),
            "0 (greedy) or more",
        )?;
        check(
            "top_p",
            knobs.top_p as f32,
            (0.0..=1.0).contains(&knobs.top_p),
            "a number from 0 to 1",
        )?;
        check(
            "min_p",
            knobs.min_p,
            (0.0..=1.0).contains(&knobs.min_p),
            "a number from 0 to 1",
        )?;
        let penalty = knobs.repetition_penalty;
        check(
            "repetition_penalty",
            penalty,
            penalty.is_finite() && penalty > 0.0,
            "a number above 0",
        )?;
        Ok(knobs)
    }
}

/// The shortest decimal of this fp32.
fn decimal(value: f32) -> f64 {
    value.to_string().parse().unwrap_or(f64::from(value))
}

/// Settings for greedy answers with this repetition penalty.
pub fn greedy_knobs(repetition_penalty: f32) -> Knobs {
    Knobs {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty,
        seed: 0,
    }
}

/// The outcome of choosing a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pick {
    Token(u32),
    /// The logits hold a NaN, or nothing finite: the model is broken, and any token would be arbitrary.
    Broken,
}

/// Draws the tokens of one answer. It has its own random state, so an answer does not depend on its batch.
pub struct Sampler {
    knobs: Knobs,
    seen: HashSet<u32>,
    random: Random,
}

impl Sampler {
    /// `which` is the number of this answer among several to the same prompt.
    pub fn new(knobs: Knobs, which: u64, prompt: &[u32]) -> Sampler {
        let seen = if knobs.repetition_penalty == 1.0 {
            HashSet::new()
        } else {
            prompt.iter().copied().collect()
        };
        Sampler {
            random: random(&knobs, which),
            knobs,
            seen,
        }
    }

    pub fn sibling(&self, which: u64) -> Sampler {
        Sampler {
            knobs: self.knobs.clone(),
            seen: self.seen.clone(),
            random: random(&self.knobs, which),
        }
    }

    pub fn pick(&mut self, logits: &mut [f32]) -> Pick {
        penalise(logits, &self.seen, self.knobs.repetition_penalty);
        let Some(best) = argmax(logits) else {
            return Pick::Broken;
        };
        let token = match self.knobs.temperature {
            0.0 => best as u32,
            _ => self.draw(logits, best),
        };
        self.note(token);
        Pick::Token(token)
    }

    /// Takes a forced token. Logits are still penalised, since answers are scored by them.
    pub fn follow(&mut self, token: u32, logits: &mut [f32]) {
        penalise(logits, &self.seen, self.knobs.repetition_penalty);
        self.note(token);
    }

    fn note(&mut self, token: u32) {
        if self.knobs.repetition_penalty != 1.0 {
            self.seen.insert(token);
        }
    }

    fn draw(&mut self, logits: &[f32], best: usize) -> u32 {
        let left = candidates(&self.knobs, logits, best);
        // Summed in fp64: a vocabulary has more small shares than fp32 can add up.
        let total: f64 = left.iter().map(|&(_, weight)| f64::from(weight)).sum();
        let mut rest = self.random.share() * total;
        let drawn = left.iter().find(|(_, weight)| {
            rest -= f64::from(*weight);
            rest < 0.0
        });
        // Rounding may leave the last token with a trace of the sum: then it is chosen.
        drawn.or(left.last()).map_or(best, |&(token, _)| token) as u32
    }
}

fn random(knobs: &Knobs, which: u64) -> Random {
    // The golden ratio's bits keep the seeds of neighbouring answers apart from those of neighbouring prompts.
    Random::new(knobs.seed ^ which.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The tokens that pass the filters, and the probability of each relative to `best`, the most likely one.
fn candidates(knobs: &Knobs, logits: &[f32], best: usize) -> Vec<(usize, f32)> {
    // Adding 0 turns -0 into 0, so that the two compare as a tie.
    let scores: Vec<f32> = logits.iter().map(|logit| logit / knobs.temperature + 0.0).collect();
    let top = scores[best];
    if !top.is_finite() {
        return vec![(best, 1.0)]; // at such a low temperature, as if greedy
    }
    let mut left: Vec<usize> = match knobs.top_k {
        k if (1..scores.len()).contains(&k) => at_least(&scores, kth(&scores, k)),
        _ => (0..scores.len()).collect(),
    };
    if knobs.top_p < 1.0 {
        nucleus(&mut left, &scores, top, knobs.top_p);
    }
    // The best token's weight is 1, so min-p compares weights directly.
    let weighed = left.into_iter().map(|token| (token, (scores[token] - top).exp()));
    weighed
        .filter(|&(_, weight)| weight >= knobs.min_p.max(f32::MIN_POSITIVE))
        .collect()
}

/// The `k`th largest score.
fn kth(scores: &[f32], k: usize) -> f32 {
    let mut sorted = scores.to_vec();
    *sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a)).1
}

/// All tokens with at least this score: ties can make more than were asked for.
fn at_least(scores: &[f32], least: f32) -> Vec<usize> {
    let good = |token: &usize| scores[*token] >= least;
    (0..scores.len()).filter(good).collect()
}

/// Leaves the fewest most likely tokens that hold `top_p` of the remaining probability. In a tie the first ones stay;
/// in the reference it is arbitrary, since its sort is not stable.
fn nucleus(left: &mut Vec<usize>, scores: &[f32], top: f32, top_p: f64) {
    let better = |&a: &usize, &b: &usize| scores[b].total_cmp(&scores[a]).then(a.cmp(&b));
    let weight = |token: usize| f64::from((scores[token] - top).exp());
    let all: f64 = left.iter().map(|&token| weight(token)).sum();
    let (least, mut rest) = ((1.0 - top_p) as f32, all);
    // Sorting a whole vocabulary for a few tokens would cost more than the rest, so ever larger tops are sorted.
    let (mut sorted, mut count) = (0, 64.min(left.len()));
    loop {
        if count < left.len() {
            left[sorted..].select_nth_unstable_by(count - sorted - 1, better);
        }
        left[sorted..count].sort_unstable_by(better);
        for place in sorted..count {
            // A token is dropped if it and all less likely ones together hold no more than what may be left out.
            if place > 0 && (rest / all) as f32 <= least {
                return left.truncate(place);
            }
            rest -= weight(left[place]);
        }
        if count == left.len() {
            return;
        }
        (sorted, count) = (count, (count * 8).min(left.len()));
    }
}

/// Makes tokens that occurred before less likely, for either sign of the logit.
pub fn penalise(logits: &mut [f32], seen: &HashSet<u32>, penalty: f32) {
    for &token in seen {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
}

/// Makes these tokens impossible.
pub fn ban(logits: &mut [f32], tokens: &[u32]) {
    for &token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The first of the largest; none if there is a NaN, or nothing finite.
pub fn argmax(logits: &[f32]) -> Option<usize> {
    let mut best = None;
    let mut largest = f32::NEG_INFINITY;
    for (index, &logit) in logits.iter().enumerate() {
        if logit.is_nan() {
            return None;
        }
        if logit > largest {
            largest = logit;
            best = Some(index);
        }
    }
    best.filter(|_| largest.is_finite())
}

/// The logarithm of the sum of exponentials, which normalises logits.
pub fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests;
