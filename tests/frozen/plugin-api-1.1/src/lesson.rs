//! Training: what is learnt, how, and what is heard of it meanwhile.

use crate::parcel::Clip;
use crate::{Memory, Message};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::path::PathBuf;

/// One message of a [`Lesson`].
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Turn {
    /// The message.
    #[serde(flatten)]
    pub message: Message,
    /// True when the model learns to say it; else it only reads it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learn: bool,
}

/// A conversation in which some messages are learnt and the others only read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lesson {
    /// The sample it was made from.
    pub id: String,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// True when the text stands as it is, without the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Tools that may be called in it, in the JSON schema shape that chat templates read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// How much it counts beside others; 1 when it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// The sound that [`crate::Part::Clip`] points into. Travels beside the JSON, never in it.
    #[serde(skip)]
    pub clips: Vec<Clip>,
}

/// The tokens of a rendered prompt.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct PromptTokens {
    /// The text before it was cut into tokens.
    pub text: String,
    /// The tokens.
    pub ids: Vec<u32>,
}

/// The tokens of a lesson.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LessonTokens {
    /// The tokens.
    pub ids: Vec<u32>,
    /// For each token, whether it is learnt.
    pub learn: Vec<bool>,
}

/// How a model learns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// `full`, `lora` or `qlora`.
    pub method: String,
    /// The folder that receives the LoRA or the checkpoint.
    pub out: PathBuf,
    /// A folder to go on from, as an earlier call saved it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<PathBuf>,
    /// How often each lesson is seen.
    pub epochs: f64,
    /// Lessons between two steps of the optimiser.
    pub batch_size: u32,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// Where random draws start.
    pub seed: u64,
    /// Everything else: rank, alpha, targets, schedule, and what the model's own options name.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What is heard of a model while it learns.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnEvent {
    /// Steps done.
    pub step: u64,
    /// Steps in all, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// The loss of the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// The learning rate of the last step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Tokens a second since the last event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_second: Option<f64>,
    /// Memory now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// A checkpoint that was just saved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saved: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learnt {
    /// The folder with the LoRA or the checkpoint.
    pub path: PathBuf,
    /// Steps done.
    pub steps: u64,
    /// The mean loss of the last steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
}
