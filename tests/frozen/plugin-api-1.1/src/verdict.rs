//! What a judge is shown and what it rules.

use crate::parcel::Clip;
use crate::{Prompt, Reply, Sample, Score};
use serde::{Deserialize, Serialize};

/// What a judge is shown.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Case {
    /// The sample, its target included.
    pub sample: Sample,
    /// What the model was asked, when it is known.
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
    /// The answer is right, or the first of two is better.
    Right,
    /// The answer is wrong, or the second of two is better.
    Wrong,
    /// Two answers are as good as each other.
    Tie,
    /// The judge's words could not be understood, or it did not rule: left out of the mean, and counted.
    #[default]
    Unscored,
    /// A ruling that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// What a judge paid.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Cost {
    /// Tokens it read.
    pub prompt_tokens: u64,
    /// Tokens it wrote.
    pub generated_tokens: u64,
    /// Money, in US dollars.
    pub dollars: f64,
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
    /// The judge's own words, when it has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw: Option<String>,
    /// What it cost.
    pub cost: Cost,
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
