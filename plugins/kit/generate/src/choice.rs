//! Choices: how likely each of several continuations is.

use super::lane::Lane;
use super::sampler::argmax;
use nn::{LoraSet, Past, Segment};
use plugin_api::{OptionScore, Reply};

/// One context and the options that could follow it.
///
/// In a pass, the context, or what has not been read of it, is one segment and each option another one behind it. So
/// the context is computed once.
/// An option's last token is not fed: nothing is asked of what would follow it. Options of one token therefore cost
/// nothing but the lookup in the context's last logits.
pub struct Choice {
    pub job: u64,
    pub context: Lane,
    pub options: Vec<Vec<u32>>,
    pub bytes: Vec<usize>,
}

/// A position whose logits are needed, and the tokens whose log-probability is.
pub struct Wanted {
    pub position: usize,
    pub tokens: Vec<u32>,
    /// What the head goes through here.
    pub loras: LoraSet,
}

/// The log-probability of a token, and whether no other was likelier.
#[derive(Debug, Clone, Copy)]
pub struct Likelihood {
    log_probability: f64,
    greedy: bool,
}

impl Choice {
    /// Whether its context goes through a cache: because a beginning of it is in one, or is to be kept.
    pub fn has_cache(&self) -> bool {
        !self.context.cache.is_empty() || self.context.keep_at.is_some()
    }

    /// Tokens that go into the pass.
    pub fn tokens(&self) -> usize {
        self.context.waiting() + self.option_tokens()
    }

    /// Those of the options.
    pub fn option_tokens(&self) -> usize {
        self.options.iter().map(|option| option.len() - 1).sum()
    }

    /// The options' segments behind that of the context's end, with the ids of their tokens.
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

    /// How many positions are wanted.
    pub fn asks(&self) -> usize {
        1 + self.options.iter().map(|option| option.len() - 1).sum::<usize>()
    }

    /// What is wanted of the logits, when the context's last token and the options' first ones have these positions in the
    /// pass.
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

    /// Puts the answers to [`Choice::wanted`], in their order, together.
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

/// What the logits of one position say about these tokens. NaN among them makes all NaN.
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
