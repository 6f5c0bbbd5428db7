//! Choices: the likelihood of each of several continuations.

use super::lane::Lane;
use super::sampler::argmax;
use nn::{LoraSet, Past, Segment};
use plugin_api::{OptionScore, Reply};

/// One context and the options that could follow it.
///
/// In a pass, the unread part of the context is one segment and each option another one that follows it. So the
/// context is computed once. An option's last token is not fed, since the logits after it are not needed. An option of
/// one token therefore costs only a lookup in the context's last logits.
pub struct Choice {
    pub job: u64,
    pub context: Lane,
    pub options: Vec<Vec<u32>>,
    pub bytes: Vec<usize>,
}

/// A position whose logits are needed, and the tokens whose log-probabilities are read from them.
pub struct Wanted {
    pub position: usize,
    pub tokens: Vec<u32>,
    /// The LoRAs that the head uses here.
    pub loras: LoraSet,
}

/// The log-probability of a token, and whether it is the most likely one.
#[derive(Debug, Clone, Copy)]
pub struct Likelihood {
    log_probability: f64,
    greedy: bool,
}

impl Choice {
    /// Whether its context uses a cache, because a prefix of it is cached or is to be kept.
    pub fn has_cache(&self) -> bool {
        !self.context.cache.is_empty() || self.context.keep_at.is_some()
    }

    /// Tokens of the pass.
    pub fn tokens(&self) -> usize {
        self.context.waiting() + self.option_tokens()
    }

    /// Tokens of the options in the pass.
    pub fn option_tokens(&self) -> usize {
        self.options.iter().map(|option| option.len() - 1).sum()
    }

    /// Adds the options' segments, which follow the context's last segment, and returns their token ids.
    pub fn plan(&self, segments: &mut Vec<Segment>, context: usize) -> Vec<u32> {
        let mut ids = Vec::new();
        for option in &self.options {
            let fed = &option[..option.len() - 1];
            if !fed.is_empty() {
                segments.push(Segment {
                    tokens: fed.len(),
                    past: Past::Segment(context),
                });
                ids.extend_from_slice(fed);
            }
        }
        ids
    }

    /// How many positions are needed.
    pub fn asks(&self) -> usize {
        1 + self.options.iter().map(|option| option.len() - 1).sum::<usize>()
    }

    /// The positions whose logits are needed, given the positions in the pass of the context's last token and of the
    /// options' first ones.
    pub fn wanted(&self, last: usize, options: usize) -> Vec<Wanted> {
        let first_tokens = self.options.iter().map(|option| option[0]).collect();
        let mut wanted = vec![Wanted {
            position: last,
            tokens: first_tokens,
            loras: self.context.input.loras.clone(),
        }];
        let mut position = options;
        for option in &self.options {
            for &token in &option[1..] {
                wanted.push(Wanted {
                    position,
                    tokens: vec![token],
                    loras: self.context.input.loras.clone(),
                });
                position += 1;
            }
        }
        wanted
    }

    /// Combines the answers to [`Choice::wanted`], in their order, into the reply.
    pub fn reply(&self, found: &[Vec<Likelihood>]) -> Reply {
        let (first, mut rest) = (&found[0], found[1..].iter().flatten());
        let options: Vec<OptionScore> = (0..self.options.len())
            .map(|index| {
                let later = rest.by_ref().take(self.options[index].len() - 1);
                let all: Vec<Likelihood> = std::iter::once(&first[index]).chain(later).copied().collect();
                OptionScore {
                    loglik: all.iter().map(|token| token.log_probability).sum(),
                    tokens: all.len() as u32,
                    bytes: self.bytes[index] as u32,
                    greedy: all.iter().all(|token| token.greedy),
                }
            })
            .collect();
        let mut reply = Reply::scored(options);
        if reply.options.iter().any(|option| option.loglik.is_nan()) {
            reply.flags.push(super::sampler::NAN_LOGITS.to_owned());
        }
        reply
    }
}

/// The likelihoods of these tokens by the logits of one position. A NaN among the logits makes all of them NaN.
pub(super) fn likelihoods(logits: &[f32], tokens: &[u32]) -> Vec<Likelihood> {
    let best = argmax(logits);
    let log_sum = super::sampler::log_sum(logits);
    let of = |&token: &u32| Likelihood {
        log_probability: logits
            .get(token as usize)
            .map_or(f64::NAN, |&logit| f64::from(logit) - log_sum),
        greedy: best == Some(token as usize),
    };
    tokens.iter().map(of).collect()
}
