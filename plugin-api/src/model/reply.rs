//! What a model gives back.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model said that it is done, or a stop string came.
    #[default]
    Stop,
    /// The allowed number of tokens was used up.
    Length,
    /// The host asked to stop; what is there is not the whole answer.
    Cancelled,
    /// The model calls tools and waits for what they return: [`Reply::tool_calls`].
    ToolCalls,
    /// A service withheld the answer or a part of it; [`Reply::finish_detail`] has the service's own word for the
    /// reason.
    Filtered,
    /// A reason that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// How likely one option was.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct OptionScore {
    /// The sum of its tokens' log-probabilities. NaN travels as `null`.
    #[serde(deserialize_with = "crate::nan::nan_when_null")]
    pub loglik: f64,
    /// How many tokens it has.
    pub tokens: u32,
    /// How many bytes it has.
    pub bytes: u32,
    /// True if each of its tokens was the most probable one.
    pub greedy: bool,
}

/// One of several answers to a prompt.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Alternative {
    /// The answer.
    pub text: String,
    /// The reasoning before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// Its score in the search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
}

/// One generated token, when [`crate::Sampling::top_logprobs`] asks for them.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenScore {
    /// Its text; a token that ends inside a character has the replacement character there.
    pub text: String,
    /// Its number in the model's vocabulary, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// Its log-probability. NaN travels as `null`.
    #[serde(deserialize_with = "crate::nan::nan_when_null")]
    pub logprob: f64,
    /// The most likely tokens in its place, best first. Their own `top` is empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top: Vec<TokenScore>,
}

/// The amount of input and output.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Tokens of the rendered prompt, those of clips and those from a cache included.
    pub prompt_tokens: u32,
    /// Of these, tokens that a service read from its cache and charges less for.
    #[serde(skip_serializing_if = "is_zero")]
    pub cached_tokens: u32,
    /// Tokens that were generated, reasoning included.
    pub generated_tokens: u32,
    /// Of these, tokens of reasoning.
    pub thinking_tokens: u32,
    /// Tokens that clips became.
    pub clip_tokens: u32,
    /// Seconds of audio that the model took.
    pub clip_seconds: f64,
    /// The cost of the answer in US dollars. `None` if unknown, and for local models.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dollars: Option<f64>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// When things happened, in milliseconds since the model took the prompt.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Timing {
    /// Reading the prompt.
    pub prefill_ms: f64,
    /// The first token of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_token_ms: Option<f64>,
    /// The whole answer.
    pub total_ms: f64,
}

/// Memory in bytes; what is not known is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Held now on the device the model computes on.
    pub device_bytes: u64,
    /// The most that was held there.
    pub device_peak_bytes: u64,
    /// The memory of the plugin's caches and weights, by its own account.
    pub host_bytes: u64,
}

/// What a model gives back.
///
/// ```
/// use plugin_api::{OptionScore, Reply};
///
/// assert_eq!(Reply::text("four").text, "four");
/// let scored = Reply::scored(vec![
///     OptionScore { loglik: -2.5, tokens: 1, bytes: 5, greedy: false },
///     OptionScore { loglik: -0.5, tokens: 1, bytes: 6, greedy: true },
/// ]);
/// assert_eq!(scored.best_option(), Some(1));
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reply {
    /// The answer, without the reasoning before it.
    pub text: String,
    /// The reasoning, when the model keeps it apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub thinking: Option<String>,
    /// One entry an option, when options were to be scored.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<OptionScore>,
    /// All answers, best first, when several were asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub alternatives: Vec<Alternative>,
    /// Calls of tools, in the shape of [`crate::Message::tool_calls`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<Value>,
    /// The generated tokens one by one, when [`crate::Sampling::top_logprobs`] asks for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tokens: Vec<TokenScore>,
    /// Why the answer ended.
    pub finish: Finish,
    /// The service's own word for the reason: `SAFETY`, `content_filter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish_detail: Option<String>,
    /// The version that answered, in the service's own words. A floating name such as `latest` doesn't say it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// The request's id in the service's own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// SHA-256 of the prompt as the model read it: its text after the chat template, in lower-case hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered_sha256: Option<String>,
    /// How much was read and written.
    pub usage: Usage,
    /// When things happened.
    pub timing: Timing,
    /// Memory after the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// Warnings for readers, in words that stay the same: `nan-logits`, `truncated-prompt`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Fields that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Reply {
    /// An answer of this text.
    pub fn text(text: impl Into<String>) -> Self {
        Reply {
            text: text.into(),
            ..Reply::default()
        }
    }

    /// An answer to a choice.
    pub fn scored(options: Vec<OptionScore>) -> Self {
        Reply {
            options,
            ..Reply::default()
        }
    }

    /// The index of the most likely option. The first wins among equals and a NaN counts as the largest, as in numpy's
    /// `argmax`.
    pub fn best_option(&self) -> Option<usize> {
        let mut best: Option<usize> = None;
        for (index, option) in self.options.iter().enumerate() {
            match best.map(|best| self.options[best].loglik) {
                Some(largest) if largest.is_nan() => break,
                Some(largest) if !option.loglik.is_nan() && option.loglik <= largest => {}
                _ => best = Some(index),
            }
        }
        best
    }
}
