//! Which token comes next.
//!
//! The filters follow the reference's order: top-k first, then top-p of what its shares, made to add up to one, hold.

use super::Defaults;
use super::random::Random;
use plugin_api::{Code, Error, Result, Sampling};
use std::collections::HashSet;

/// A prompt's sampling settings with all defaults filled in.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Knobs {
    /// 0 is greedy.
    pub temperature: f32,
    pub top_k: usize,
    pub top_p: f32,
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
            top_p: asked.top_p.or(defaults.top_p).unwrap_or(1.0),
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
            knobs.top_p,
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

/// The likeliest token each time, with this repetition penalty.
pub(crate) fn greedy_knobs(repetition_penalty: f32) -> Knobs {
    Knobs {
        temperature: 0.0,
        top_k: 0,
        top_p: 1.0,
        min_p: 0.0,
        repetition_penalty,
        seed: 0,
    }
}

/// One choice of a token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pick {
    Token(u32),
    /// The logits hold a NaN, or nothing finite: the model is broken and any token would be made up.
    Broken,
}

/// Draws the tokens of one answer. It has its own random state, so an answer doesn't depend on its batch.
pub(crate) struct Sampler {
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

    /// The sampler of another answer to the same prompt.
    pub fn sibling(&self, which: u64) -> Sampler {
        Sampler {
            knobs: self.knobs.clone(),
            seen: self.seen.clone(),
            random: random(&self.knobs, which),
        }
    }

    pub fn pick(&mut self, logits: &mut [f32]) -> Pick {
        let penalty = self.knobs.repetition_penalty;
        penalise(logits, &self.seen, penalty);
        let Some(best) = argmax(logits) else {
            return Pick::Broken;
        };
        let token = match self.knobs.temperature {
            0.0 => best as u32,
            _ => self.draw(logits, best),
        };
        if penalty != 1.0 {
            self.seen.insert(token);
        }
        Pick::Token(token)
    }

    fn draw(&mut self, logits: &[f32], best: usize) -> u32 {
        let temperature = self.knobs.temperature;
        let top = logits[best];
        let weight = |index: usize| ((logits[index] - top) / temperature).exp();
        let k = match self.knobs.top_k {
            0 => logits.len(),
            k => k.min(logits.len()),
        };
        let mut kept = if k == logits.len() && self.knobs.top_p >= 1.0 {
            (0..logits.len()).collect()
        } else {
            nucleus(logits, k, self.knobs.top_p, &weight)
        };
        // The best token's weight is one, so min-p compares weights as they are.
        kept.retain(|&index| index == best || weight(index) >= self.knobs.min_p.max(f32::MIN_POSITIVE));
        // Summed in double width, since a vocabulary has more small shares than fp32 can add up.
        let total: f64 = kept.iter().map(|&index| f64::from(weight(index))).sum();
        let mut left = self.random.share() * total;
        let drawn = kept.iter().find(|&&index| {
            left -= f64::from(weight(index));
            left < 0.0
        });
        // Rounding may leave the last of them with a trace of the sum: then it is the one.
        drawn.or(kept.last()).map_or(best, |&index| index) as u32
    }
}

fn random(knobs: &Knobs, which: u64) -> Random {
    // The golden ratio's bits: seeds of neighbouring answers must not be those of neighbouring prompts.
    Random::new(knobs.seed ^ which.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// The `k` best tokens, and of these the fewest, best first, that hold `top_p` of their probability.
fn nucleus(logits: &[f32], k: usize, top_p: f32, weight: &dyn Fn(usize) -> f32) -> Vec<usize> {
    let better = |&a: &usize, &b: &usize| logits[b].total_cmp(&logits[a]).then(a.cmp(&b));
    let mut indices: Vec<usize> = (0..logits.len()).collect();
    let cut = |indices: &mut [usize], count: usize| {
        if count < indices.len() {
            indices.select_nth_unstable_by(count - 1, better);
        }
    };
    cut(&mut indices, k);
    indices.truncate(k);
    let wanted = top_p * indices.iter().map(|&index| weight(index)).sum::<f32>();
    // Sorting a whole vocabulary for a handful of tokens would cost more than the rest, so take ever larger tops.
    let mut count = 64.min(indices.len());
    loop {
        cut(&mut indices, count);
        indices[..count].sort_unstable_by(better);
        let mut sum = 0.0;
        for (place, &index) in indices[..count].iter().enumerate() {
            sum += weight(index);
            if sum >= wanted {
                indices.truncate(place + 1);
                return indices;
            }
        }
        if count == indices.len() {
            return indices;
        }
        count = (count * 8).min(indices.len());
    }
}

/// Makes the tokens that were there before less likely, on either side of zero.
pub(crate) fn penalise(logits: &mut [f32], seen: &HashSet<u32>, penalty: f32) {
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
pub(crate) fn ban(logits: &mut [f32], tokens: &[u32]) {
    for &token in tokens {
        if let Some(logit) = logits.get_mut(token as usize) {
            *logit = f32::NEG_INFINITY;
        }
    }
}

/// The first of the largest; none if there is a NaN, or nothing finite.
pub(crate) fn argmax(logits: &[f32]) -> Option<usize> {
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

/// The logarithm of the sum that makes logits probabilities.
pub(crate) fn log_sum(logits: &[f32]) -> f64 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from((logit - largest).exp())).sum();
    f64::from(largest) + sum.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 6] = [0.0, 3.0, 1.0, 2.0, -1.0, 3.0];

    fn sampling(change: impl FnOnce(&mut Sampling)) -> Sampling {
        let mut sampling = Sampling {
            temperature: Some(1.0),
            ..Sampling::default()
        };
        change(&mut sampling);
        sampling
    }

    /// Which tokens come up in many draws.
    #[track_caller]
    fn check(change: impl FnOnce(&mut Sampling), expected: &[u32]) {
        let knobs = Knobs::settle(&sampling(change), &Defaults::default()).unwrap();
        let mut sampler = Sampler::new(knobs, 0, &[]);
        let mut drawn: Vec<u32> = (0..3000)
            .map(|_| match sampler.pick(&mut LOGITS.clone()) {
                Pick::Token(token) => token,
                Pick::Broken => panic!("these logits are finite"),
            })
            .collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn, expected);
    }

    #[test]
    fn filters_leave_what_they_should() {
        check(|_| (), &[0, 1, 2, 3, 4, 5]);
        check(|s| s.temperature = Some(0.0), &[1]); // the first of the largest
        check(|s| s.top_k = Some(1), &[1]);
        check(|s| s.top_k = Some(3), &[1, 3, 5]);
        check(|s| s.top_p = Some(0.0), &[1]);
        check(|s| s.top_p = Some(0.5), &[1, 5]);
        check(|s| s.min_p = Some(0.3), &[1, 3, 5]);
        // Shares are counted anew within the top-k: 0.42, 0.42, 0.16 reach 0.8 with two.
        check(|s| (s.top_k, s.top_p) = (Some(3), Some(0.8)), &[1, 5]);
    }

    #[test]
    fn tokens_come_up_as_often_as_they_are_probable() {
        let knobs = Knobs::settle(&sampling(|s| s.seed = Some(5)), &Defaults::default()).unwrap();
        let mut sampler = Sampler::new(knobs, 0, &[]);
        let (draws, mut counts) = (60_000, [0usize; LOGITS.len()]);
        for _ in 0..draws {
            if let Pick::Token(token) = sampler.pick(&mut LOGITS.clone()) {
                counts[token as usize] += 1;
            }
        }
        for (token, count) in counts.into_iter().enumerate() {
            let share = (f64::from(LOGITS[token]) - log_sum(&LOGITS)).exp();
            let deviation = (share * (1.0 - share) / draws as f64).sqrt();
            let got = count as f64 / draws as f64;
            assert!(
                (got - share).abs() < 4.0 * deviation,
                "token {token}: {got}, expected {share}"
            );
        }
    }

    #[test]
    fn a_repeated_token_is_penalised_on_both_sides_of_zero() {
        let knobs = Knobs {
            repetition_penalty: 2.0,
            ..Knobs::settle(&Sampling::greedy(1), &Defaults::default()).unwrap()
        };
        let mut sampler = Sampler::new(knobs.clone(), 0, &[1]);
        assert_eq!(sampler.pick(&mut [0.0, 3.0, 2.0]), Pick::Token(2));
        assert_eq!(sampler.pick(&mut [0.0, 3.0, 2.0]), Pick::Token(1)); // 2 was chosen, and is halved too
        let mut sampler = Sampler::new(knobs, 0, &[1]);
        assert_eq!(sampler.pick(&mut [-1.5, -1.0]), Pick::Token(0));
    }

    #[test]
    fn the_seed_decides_and_answers_differ() {
        let draw = |seed, which| {
            let knobs = Knobs::settle(&sampling(|s| s.seed = Some(seed)), &Defaults::default()).unwrap();
            let mut sampler = Sampler::new(knobs, which, &[]);
            (0..20).map(|_| sampler.pick(&mut [0.0; 50])).collect::<Vec<_>>()
        };
        assert_eq!(draw(1, 0), draw(1, 0));
        assert_ne!(draw(1, 0), draw(2, 0));
        assert_ne!(draw(1, 0), draw(1, 1));
    }

    #[test]
    fn broken_logits_are_noticed() {
        assert_eq!(argmax(&[1.0, f32::NAN]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), None);
        assert_eq!(argmax(&[1.0, f32::INFINITY]), None);
        assert_eq!(argmax(&[f32::NEG_INFINITY, -5.0]), Some(1));
    }

    #[test]
    fn impossible_settings_are_refused() {
        let refused = |change: fn(&mut Sampling)| Knobs::settle(&sampling(change), &Defaults::default()).unwrap_err();
        assert_eq!(
            refused(|s| s.temperature = Some(-1.0)).message,
            "sampling setting `temperature` is -1, expected 0 (greedy) or more"
        );
        assert_eq!(refused(|s| s.top_p = Some(1.5)).code, Code::SETTINGS);
        assert_eq!(refused(|s| s.repetition_penalty = Some(0.0)).code, Code::SETTINGS);
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let sum: f64 = (0..LOGITS.len())
            .map(|token| (f64::from(LOGITS[token]) - log_sum(&LOGITS)).exp())
            .sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}
