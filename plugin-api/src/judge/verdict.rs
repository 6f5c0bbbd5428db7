//! What a judge is shown and what it rules.

use crate::Clip;
use crate::{Prompt, Reply, Sample, Score, Usage};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a judge is shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Case {
    /// The sample, its target included.
    pub sample: Sample,
    /// The prompt of the model, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Prompt>,
    /// What the model answered.
    pub reply: Reply,
    /// What the task's own scorer said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<Score>,
    /// A second answer, when two are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<Reply>,
    /// What the task's own scorer said of the second answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other_score: Option<Score>,
}

impl Case {
    pub(crate) fn take_clips(&mut self) -> Vec<Clip> {
        let prompt = self.prompt.as_mut();
        prompt.map(|p| std::mem::take(&mut p.clips)).unwrap_or_default()
    }

    pub(crate) fn put_clips(&mut self, clips: Vec<Clip>) {
        if let Some(prompt) = &mut self.prompt {
            prompt.clips = clips;
        }
    }
}

/// How a judge decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ruling {
    /// The answer is right.
    Right,
    /// The answer is wrong.
    Wrong,
    /// Of two answers the first is better: [`Case::reply`].
    First,
    /// Of two answers the second is better: [`Case::other`].
    Second,
    /// Two answers are as good as each other.
    Tie,
    /// The judge's words could not be understood, or it did not rule: left out of the mean, and counted.
    #[default]
    Unscored,
    /// A ruling that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// The cost of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Tokens it read.
    pub prompt_tokens: u64,
    /// Tokens among these that a service read from its cache.
    pub cached_tokens: u64,
    /// Tokens it wrote.
    pub generated_tokens: u64,
    /// How often it asked a model.
    pub calls: u64,
    /// Money, in US dollars. 0 if the price is unknown: [`Cost::unpriced`] counts such calls.
    pub dollars: f64,
    /// Calls with unknown prices.
    pub unpriced: u64,
}

impl Cost {
    /// Adds what an answer of a model took. A local model's answer has no price.
    pub fn add(&mut self, usage: &Usage, remote: bool) {
        self.calls += 1;
        self.prompt_tokens += u64::from(usage.prompt_tokens);
        self.cached_tokens += u64::from(usage.cached_tokens);
        self.generated_tokens += u64::from(usage.generated_tokens);
        self.dollars += usage.dollars.unwrap_or(0.0);
        self.unpriced += u64::from(remote && usage.dollars.is_none());
    }
}

/// A judge's ruling, its reason and its cost.
///
/// ```
/// use plugin_api::{Ruling, Verdict};
///
/// let verdict = Verdict::of(true, "equal after lower-casing");
/// assert_eq!((verdict.ruling, verdict.value), (Ruling::Right, Some(1.0)));
/// assert_eq!(Verdict::unscored("no ruling in the judge's reply").value, None);
/// ```
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Verdict {
    /// The ruling.
    pub ruling: Ruling,
    /// The ruling as a number between 0 and 1; none when it is [`Ruling::Unscored`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
    /// The kind of outcome in a word that stays the same: `ok`, `unparsable`, `cut_short`, `equal_without_asking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The judge's full answer, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What it cost.
    pub cost: Cost,
    /// The requests behind it, by their keys in the ledger.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<String>,
    /// The version of the model that ruled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_version: Option<String>,
    /// Findings of a comparison without a model, such as equal names and overlaps.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub check: Map<String, Value>,
    /// Warnings for readers, in words that stay the same: `moved_model`, `shortened`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// Fields that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Verdict {
    /// Right or wrong.
    pub fn of(right: bool, reason: impl Into<String>) -> Self {
        Verdict {
            ruling: if right { Ruling::Right } else { Ruling::Wrong },
            value: Some(f64::from(u8::from(right))),
            reason: reason.into(),
            ..Verdict::default()
        }
    }

    /// No ruling.
    pub fn unscored(reason: impl Into<String>) -> Self {
        Verdict {
            reason: reason.into(),
            ..Verdict::default()
        }
    }
}

crate::wire::packed!(
    Case,
    |case, envelope| envelope.clips = case.take_clips(),
    |case, envelope| { case.put_clips(envelope.clips) }
);
