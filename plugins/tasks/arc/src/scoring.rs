//! Scores replies.

use crate::question::Question;
use plugin_api::{Error, Reply, Result, Score};
use score::argmax;

/// The likeliest letter wins; the first among equals.
pub(crate) fn letter(question: &Question, reply: &Reply) -> Result<Score> {
    let likelihoods = likelihoods(question, reply)?;
    Ok(graded(question, argmax(&likelihoods)))
}

/// The metric that only option texts have, and not letters.
pub(crate) const ACC_NORM: &str = "acc_norm";

/// Whether the most likely option text is the right one: unnormalised, by character and by byte of the text. The first
/// of equal ones wins, and NaN is the largest.
pub(crate) struct Ranks {
    chosen: Option<usize>,
    pub acc: f64,
    pub acc_norm: f64,
    acc_bytes: f64,
}

impl Ranks {
    pub fn of(question: &Question, likelihoods: &[f64]) -> Ranks {
        let right = |chosen: Option<usize>| f64::from(u8::from(chosen == Some(question.right)));
        let by = |length: fn(&str) -> usize| {
            let shares = likelihoods.iter().zip(&question.options);
            let shares: Vec<f64> = shares.map(|(sum, option)| sum / length(option) as f64).collect();
            right(argmax(&shares))
        };
        let chosen = argmax(likelihoods);
        Ranks {
            chosen,
            acc: right(chosen),
            acc_norm: by(|option| option.chars().count()),
            acc_bytes: by(str::len),
        }
    }
}

pub(crate) fn loglikelihood(question: &Question, reply: &Reply) -> Result<Score> {
    let ranks = Ranks::of(question, &likelihoods(question, reply)?);
    Ok(graded(question, ranks.chosen)
        .and(ACC_NORM, ranks.acc_norm)
        .and("acc_bytes", ranks.acc_bytes))
}

/// The letter that the reply settles on, or the option that it spells out.
pub(crate) fn generated(question: &Question, reply: &Reply) -> Score {
    match score::option(&reply.text, &question.options) {
        Some(index) => graded(question, Some(index)),
        None => Score::no_answer(),
    }
}

fn graded(question: &Question, chosen: Option<usize>) -> Score {
    match chosen {
        Some(chosen) => Score::graded(chosen == question.right).with_answer(question.letter(chosen)),
        None => Score::no_answer(),
    }
}

fn likelihoods(question: &Question, reply: &Reply) -> Result<Vec<f64>> {
    let (expected, got) = (question.options.len(), reply.options.len());
    if got == 0 {
        let message = format!("the reply to sample `{}` scores no options", question.id);
        return Err(Error::unsupported(message).help("for a model that only writes, use `-T mode=generate`"));
    }
    if got != expected {
        let message = format!(
            "the reply to sample `{}` scores {got} options, expected {expected}",
            question.id
        );
        return Err(Error::msg(message));
    }
    Ok(reply.options.iter().map(|option| option.loglik).collect())
}
