//! The rotary embedding in `config.json`, in either of its two spellings.

use crate::{Error, Result};
use serde::Deserialize;
use std::f64::consts::TAU;

/// How positions beyond the trained length are scaled.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum RopeScaling {
    #[default]
    Default,
    /// All positions are divided by this factor.
    Linear(f64),
    Yarn(Yarn),
    Llama3(Llama3),
    LongRope(LongRope),
}

impl RopeScaling {
    /// The angle by which each pair of channels turns from one position to the next.
    pub fn frequencies(&self, head_size: usize, theta: f64) -> Vec<f32> {
        let frequency = |pair: usize| {
            // fp32 throughout, as in the reference: at position 30,000 a more exact angle would be a different one.
            let exponent = (2 * pair) as f32 / head_size as f32;
            let plain = 1.0 / (theta as f32).powf(exponent);
            match self {
                RopeScaling::Default => plain,
                RopeScaling::Linear(factor) => plain / *factor as f32,
                RopeScaling::Yarn(yarn) => {
                    let (first, last) = yarn.ramp(head_size, theta);
                    let squeezed = ((pair as f32 - first as f32) / (last - first) as f32).clamp(0.0, 1.0);
                    plain / yarn.factor as f32 * squeezed + plain * (1.0 - squeezed)
                }
                RopeScaling::Llama3(llama) => {
                    // How often a pair turns within the trained length: slow pairs are scaled, fast ones kept.
                    let turns = llama.trained_length as f32 * plain / std::f32::consts::TAU;
                    let (low, high) = (llama.low_turns as f32, llama.high_turns as f32);
                    let kept = ((turns - low) / (high - low)).clamp(0.0, 1.0);
                    plain / llama.factor as f32 * (1.0 - kept) + plain * kept
                }
                // A factor for each pair: `dense::Config` refuses another number of them.
                RopeScaling::LongRope(long) => plain / long.factors.get(pair).map_or(1.0, |factor| *factor as f32),
            }
        };
        (0..head_size / 2).map(frequency).collect()
    }

    /// Its name in `config.json`.
    pub fn name(&self) -> &'static str {
        match self {
            RopeScaling::Default => "default",
            RopeScaling::Linear(_) => "linear",
            RopeScaling::Yarn(_) => "yarn",
            RopeScaling::Llama3(_) => "llama3",
            RopeScaling::LongRope(_) => "longrope",
        }
    }

    /// The factor of cosines and sines; attention scores grow by its square.
    pub fn attention_factor(&self) -> f32 {
        match self {
            RopeScaling::Yarn(yarn) => yarn.attention_factor as f32,
            RopeScaling::LongRope(long) => long.attention_factor as f32,
            _ => 1.0,
        }
    }
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
    /// The factor of cosines and sines.
    pub attention_factor: f64,
}

impl Yarn {
    /// The pairs between which the ramp lies.
    fn ramp(&self, head_size: usize, theta: f64) -> (f64, f64) {
        let size = head_size as f64;
        let pair = |turns: f64| size * (self.trained_length / (turns * TAU)).ln() / (2.0 * theta.ln());
        let (first, last) = (pair(self.fast_turns), pair(self.slow_turns));
        let (first, last) = match self.whole_pairs {
            true => (first.floor(), last.ceil()),
            false => (first, last),
        };
        let (first, last) = (first.max(0.0), last.min(size - 1.0));
        // A ramp of length zero would divide by zero; this is the reference's remedy.
        (first, if first == last { last + 0.001 } else { last })
    }
}

/// Like yarn, but the ramp is over the number of turns, and attention is not scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Llama3 {
    pub factor: f64,
    pub trained_length: f64,
    pub low_turns: f64,
    pub high_turns: f64,
}

/// A factor for each pair of channels, from two lists: one for texts within the trained length, one for longer ones.
///
/// The reference switches lists when a text grows beyond the trained length, which invalidates its cached keys. Here
/// texts stay within the trained length, and only the first list is used.
#[derive(Debug, Clone, PartialEq)]
pub struct LongRope {
    pub factors: Vec<f64>,
    pub trained_length: f64,
    pub attention_factor: f64,
}

/// The base of the rotary embedding and its scaling.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RopeConfig {
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeFields>,
    rope_parameters: Option<RopeFields>,
    partial_rotary_factor: Option<f64>,
    original_max_position_embeddings: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
struct RopeFields {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// The name in older files; files that newer code rewrote have both.
    #[serde(rename = "type")]
    older_type: Option<String>,
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
    short_factor: Option<Vec<f64>>,
    partial_rotary_factor: Option<f64>,
}

impl RopeConfig {
    /// The base, or the class's `default`.
    pub fn theta(&self, default: f64) -> f64 {
        let inside = self.fields().and_then(|fields| fields.rope_theta);
        inside.or(self.rope_theta).unwrap_or(default)
    }

    /// The scaling for a model of this many positions, which is the trained length if the config names none, as in the
    /// reference.
    pub fn scaling(&self, positions: usize) -> Result<RopeScaling> {
        match self.fields() {
            Some(fields) => fields.scaling(positions as f64, self.original_max_position_embeddings),
            None => Ok(RopeScaling::Default),
        }
    }

    /// How many channels of a head turn, if not all.
    pub fn turned(&self, head_size: usize, default: f64) -> Result<usize> {
        let inside = self.fields().and_then(|fields| fields.partial_rotary_factor);
        let factor = inside.or(self.partial_rotary_factor).unwrap_or(default);
        let turned = (head_size as f64 * factor) as usize;
        match (factor > 0.0 && factor <= 1.0, turned % 2) {
            (true, 0) => Ok(turned),
            _ => Err(Error::Config {
                what: "`partial_rotary_factor` in config.json".to_owned(),
                got: factor.to_string(),
                expected: format!("a part of 1 that makes an even number of {head_size} channels"),
            }),
        }
    }

    /// If a file has both spellings, the reference takes the older one, unless it is empty.
    fn fields(&self) -> Option<&RopeFields> {
        let older = self.rope_scaling.as_ref();
        older
            .filter(|fields| **fields != RopeFields::default())
            .or(self.rope_parameters.as_ref())
    }
}

impl RopeFields {
    /// `trained` is the trained length, if the config has it outside of these fields.
    fn scaling(&self, positions: f64, trained: Option<f64>) -> Result<RopeScaling> {
        let kind = self.rope_type.as_ref().or(self.older_type.as_ref());
        let kind = kind.map_or("default", String::as_str);
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
            let length = self.original_max_position_embeddings.or(trained).unwrap_or(positions);
            above(0.0, "original_max_position_embeddings", Some(length))
        };
        // Yarn's default is the growth of the trained length.
        let grown = || match self.factor {
            None => Ok(positions / trained_length()?),
            given => above(0.0, "factor", given),
        };
        Ok(match kind {
            "default" => RopeScaling::Default,
            "linear" => RopeScaling::Linear(factor()?),
            "yarn" => RopeScaling::Yarn(Yarn {
                factor: grown()?,
                trained_length: trained_length()?,
                fast_turns: above(0.0, "beta_fast", self.beta_fast.or(Some(32.0)))?,
                slow_turns: above(0.0, "beta_slow", self.beta_slow.or(Some(1.0)))?,
                whole_pairs: self.truncate.unwrap_or(true),
                attention_factor: match self.attention_factor {
                    None => self.yarn_attention_factor(grown()?),
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
            "longrope" | "su" => {
                let (trained_length, grown) = (trained_length()?, grown()?);
                let factors = self.short_factor.clone().unwrap_or_default();
                for factor in &factors {
                    above(0.0, "short_factor", Some(*factor))?;
                }
                RopeScaling::LongRope(LongRope {
                    factors,
                    trained_length,
                    attention_factor: match self.attention_factor {
                        None if grown <= 1.0 => 1.0,
                        None => (1.0 + grown.ln() / trained_length.ln()).sqrt(),
                        given => above(0.0, "attention_factor", given)?,
                    },
                })
            }
            got => return Err(Error::RopeScaling { got: got.to_owned() }),
        })
    }

    /// Yarn's default factor.
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
        assert_eq!(config.scaling(8192).unwrap_err().to_string(), message);
    }

    #[test]
    fn a_scaling_that_cannot_be_computed_is_refused() {
        refused(
            json!({ "rope_type": "dynamic" }),
            "rope scaling `dynamic` is not known, known here: default, linear, yarn, llama3, longrope",
        );
        refused(
            json!({ "type": "linear", "factor": 0 }),
            "`factor` of the linear rope scaling is 0, expected a number above 0",
        );
        refused(
            json!({ "type": "yarn", "factor": 4, "original_max_position_embeddings": 0 }),
            "`original_max_position_embeddings` of the yarn rope scaling is 0, expected a number above 0",
        );
        let llama = json!({ "rope_type": "llama3", "factor": 8, "original_max_position_embeddings": 8192,
            "low_freq_factor": 4, "high_freq_factor": 4 });
        refused(
            llama,
            "`high_freq_factor` of the llama3 rope scaling is 4, expected a number above 4",
        );
    }

    #[track_caller]
    fn read(config: Value, theta: f64, scaling: RopeScaling) {
        let config: RopeConfig = serde_json::from_value(config).unwrap();
        assert_eq!((config.theta(1.0), config.scaling(256).unwrap()), (theta, scaling));
    }

    #[test]
    fn the_older_spelling_wins() {
        let newer = json!({ "rope_theta": 1e6, "rope_type": "linear", "factor": 8 });
        let both = |older: Value| json!({ "rope_theta": 1e4, "rope_scaling": older, "rope_parameters": newer });
        read(both(Value::Null), 1e6, RopeScaling::Linear(8.0));
        read(both(json!({})), 1e6, RopeScaling::Linear(8.0));
        let older = json!({ "type": "linear", "rope_type": "linear", "factor": 2 });
        read(both(older), 1e4, RopeScaling::Linear(2.0));
    }

    #[test]
    fn yarn_goes_by_the_context_where_a_config_leaves_its_numbers_open() {
        let numbers = |fields: Value| {
            let config: RopeConfig = serde_json::from_value(json!({ "rope_parameters": fields })).unwrap();
            match config.scaling(256).unwrap() {
                RopeScaling::Yarn(yarn) => (yarn.factor, yarn.trained_length),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(numbers(json!({ "rope_type": "yarn", "factor": 2 })), (2.0, 256.0));
        let open = json!({ "type": "yarn", "factor": null, "original_max_position_embeddings": 64 });
        assert_eq!(numbers(open), (4.0, 64.0));
    }
}
