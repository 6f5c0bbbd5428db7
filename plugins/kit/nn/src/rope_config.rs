//! The rotary embedding as `config.json` has it, in either of the two spellings in use.

use crate::{Error, Result};
use serde::Deserialize;
use std::f64::consts::TAU;

/// How positions beyond the trained length are squeezed into it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RopeScaling {
    #[default]
    Default,
    /// All positions divided by this factor.
    Linear(f64),
    Yarn(Yarn),
    Llama3(Llama3),
}

/// Fast pairs of channels are kept, slow ones divided by the factor, with a ramp over the pairs in between.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    pub trained_length: f64,
    /// Pairs that turn more often than this within the trained length are kept.
    pub fast_turns: f64,
    /// Pairs that turn less often than this are divided by the whole factor.
    pub slow_turns: f64,
    /// Whether the ramp begins and ends at whole pairs.
    pub whole_pairs: bool,
    /// What cosines and sines are multiplied by.
    pub attention_factor: f64,
}

impl Yarn {
    /// Between which pairs the ramp lies.
    pub(crate) fn ramp(&self, head_size: usize, theta: f64) -> (f64, f64) {
        let size = head_size as f64;
        let pair = |turns: f64| size * (self.trained_length / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (first, last) = (pair(self.fast_turns), pair(self.slow_turns));
        let (first, last) = match self.whole_pairs {
            true => (first.floor(), last.ceil()),
            false => (first, last),
        };
        let (first, last) = (first.max(0.0), last.min(size - 1.0));
        // A ramp without length would divide by zero; the reference gives it this one.
        (first, if first == last { last + 0.001 } else { last })
    }
}

/// Like yarn, with the ramp over the number of turns and the attention left alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    pub factor: f64,
    pub trained_length: f64,
    pub low_turns: f64,
    pub high_turns: f64,
}

/// The base of the rotary embedding and its scaling.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RopeConfig {
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    rope_parameters: Option<RopeFields>,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct RopeFields {
    rope_theta: Option<f64>,
    #[serde(alias = "type")]
    rope_type: Option<String>,
    factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
    beta_fast: Option<f64>,
    beta_slow: Option<f64>,
    truncate: Option<bool>,
    attention_factor: Option<f64>,
    mscale: Option<f64>,
    mscale_all_dim: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
}

impl RopeConfig {
    /// The base, or `default` where the config leaves it to its class.
    pub fn theta(&self, default: f64) -> f64 {
        let newer = self.rope_parameters.as_ref().and_then(|fields| fields.rope_theta);
        newer.or(self.rope_theta).unwrap_or(default)
    }

    pub fn scaling(&self) -> Result<RopeScaling> {
        match self.rope_parameters.as_ref().or(self.rope_scaling.as_ref()) {
            Some(fields) => fields.scaling(),
            None => Ok(RopeScaling::Default),
        }
    }
}

impl RopeFields {
    fn scaling(&self) -> Result<RopeScaling> {
        let kind = self.rope_type.as_deref().unwrap_or("default");
        let above = |least: f64, what: &str, value: Option<f64>| match value {
            Some(value) if value.is_finite() && value > least => Ok(value),
            got => Err(Error::Config {
                what: format!("`{what}` of the {kind} rope scaling"),
                got: got.map_or("missing".to_owned(), |value| value.to_string()),
                expected: format!("a number above {least}"),
            }),
        };
        let factor = || above(0.0, "factor", self.factor);
        let trained_length = || {
            let length = self.original_max_position_embeddings;
            above(0.0, "original_max_position_embeddings", length)
        };
        Ok(match kind {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear(factor()?),
            "yarn" => RopeScaling::Yarn(Yarn {
                factor: factor()?,
                trained_length: trained_length()?,
                fast_turns: above(0.0, "beta_fast", self.beta_fast.or(Some(32.0)))?,
                slow_turns: above(0.0, "beta_slow", self.beta_slow.or(Some(1.0)))?,
                whole_pairs: self.truncate.unwrap_or(true),
                attention_factor: match self.attention_factor {
                    None => self.yarn_attention_factor(factor()?),
                    given => above(0.0, "attention_factor", given)?,
                },
            }),
            "llama3" => {
                let low_turns = above(0.0, "low_freq_factor", self.low_freq_factor)?;
                RopeScaling::Llama3(Llama3 {
                    factor: factor()?,
                    trained_length: trained_length()?,
                    low_turns,
                    high_turns: above(low_turns, "high_freq_factor", self.high_freq_factor)?,
                })
            }
            got => return Err(Error::RopeScaling { got: got.to_owned() }),
        })
    }

    /// What yarn multiplies by where a config leaves it open.
    fn yarn_attention_factor(&self, factor: f64) -> f64 {
        let grown = |by: f64| {
            if factor <= 1.0 {
                1.0
            } else {
                0.1 * by * factor.ln() + 1.0
            }
        };
        match (self.mscale, self.mscale_all_dim) {
            (Some(above), Some(below)) if above != 0.0 && below != 0.0 => grown(above) / grown(below),
            _ => grown(1.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[track_caller]
    fn refused(scaling: Value, message: &str) {
        let config: RopeConfig = serde_json::from_value(json!({ "rope_scaling": scaling })).unwrap();
        assert_eq!(config.scaling().unwrap_err().to_string(), message);
    }

    #[test]
    fn a_scaling_that_cannot_be_computed_is_refused() {
        refused(
            json!({ "rope_type": "longrope" }),
            "rope scaling `longrope` is not known, known here: default, linear, yarn, llama3",
        );
        refused(
            json!({ "type": "linear", "factor": 0 }),
            "`factor` of the linear rope scaling is 0, expected a number above 0",
        );
        refused(
            json!({ "type": "yarn", "factor": 4 }),
            "`original_max_position_embeddings` of the yarn rope scaling is missing, expected a number above 0",
        );
        let llama = json!({ "rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 8192,
            "low_freq_factor": 4, "high_freq_factor": 4 });
        refused(
            llama,
            "`high_freq_factor` of the llama3 rope scaling is 4, expected a number above 4",
        );
    }

    #[test]
    fn the_newer_spelling_wins() {
        let both = json!({ "rope_theta": 1e4, "rope_scaling": { "type": "linear", "factor": 2 },
            "rope_parameters": { "rope_theta": 1e6, "rope_type": "linear", "factor": 8 } });
        let config: RopeConfig = serde_json::from_value(both).unwrap();
        assert_eq!(config.theta(1.0), 1e6);
        assert_eq!(config.scaling().unwrap(), RopeScaling::Linear(8.0));
    }
}
