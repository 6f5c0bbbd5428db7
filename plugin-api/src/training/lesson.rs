//! Training: lessons, plans, and events.

use crate::Clip;
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

/// A text that is tokenised separately, without the model's chat template.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Piece {
    /// The text. Special tokens in it are recognised; none are added.
    pub text: String,
    /// True when all of it is learnt.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub learn: bool,
    /// True when the token that ends a text follows; it is learnt if the text is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub end: bool,
}

impl Piece {
    /// A text that is only read.
    pub fn read(text: impl Into<String>) -> Piece {
        Piece {
            text: text.into(),
            ..Piece::default()
        }
    }

    /// A text that is learnt.
    pub fn learn(text: impl Into<String>) -> Piece {
        Piece {
            learn: true,
            ..Piece::read(text)
        }
    }

    /// The same, followed by the token that ends a text.
    pub fn ended(self) -> Piece {
        Piece { end: true, ..self }
    }
}

/// A conversation in which some messages are learnt and the others only read.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Lesson {
    /// The sample it was made from.
    pub id: String,
    /// The conversation.
    pub turns: Vec<Turn>,
    /// True if the text is used unchanged, without the model's chat template.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub plain: bool,
    /// Tools that may be called in it, in the JSON schema shape that chat templates read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Value>,
    /// Texts after the turns, each tokenised separately. If there are some, the turns are rendered up to the place of
    /// an answer, and none of them is learnt. This is how scripts train that concatenate tokens themselves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pieces: Vec<Piece>,
    /// Special tokens in the pieces. A model that lacks one of them refuses the lesson.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<String>,
    /// Its tokens, if it is already tokenised. Then there are no turns, and [`Lesson::clips`] replace its placeholders
    /// in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<LessonTokens>,
    /// True if the texts of its tokens are needed as well, to show to people.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub with_texts: bool,
    /// The samples of each of its clips, if the clips themselves are left out because only the tokens are needed. Its
    /// tokens then hold a placeholder for each vector that a clip becomes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clip_samples: Vec<u64>,
    /// Its weight relative to others; 1 by default.
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
    /// The text before tokenisation.
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
    /// The texts of consecutive tokens that are all learnt, or all not, if [`Lesson::with_texts`] asks for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Piece>,
}

/// How often something is done during training.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Not at all.
    #[default]
    Never,
    /// At the end of each pass over the lessons.
    Epoch,
    /// After this many steps, and after the last; below 1 it is a share of all steps.
    Steps(f64),
}

/// How a model learns.
///
/// Settings that every trainer needs have fields here. All others are in `other`, under the names of the reference's
/// `TrainingArguments` and `LoraConfig`: `lr_scheduler_type`, `warmup_ratio`, `lora_alpha`, `optim`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// `full`, `lora` or `qlora`.
    pub method: String,
    /// The folder that receives checkpoints and the result.
    pub out: PathBuf,
    /// A checkpoint to resume from, which an earlier call saved below `out`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resume: Option<PathBuf>,
    /// How often each lesson is seen.
    pub epochs: f64,
    /// Steps at most; 0 leaves it to `epochs`.
    pub max_steps: u64,
    /// Lessons in a batch.
    pub batch_size: u32,
    /// Batches of each process between two steps of the optimiser.
    pub accumulate: u32,
    /// The largest learning rate.
    pub learning_rate: f64,
    /// The seed of random draws.
    pub seed: u64,
    /// When the held-out lessons are evaluated.
    pub eval_every: Every,
    /// When a checkpoint is saved.
    pub save_every: Every,
    /// The number of this process among those that train together; only the first one writes.
    pub rank: u32,
    /// How many processes train together; 0 and 1 mean one.
    pub world: u32,
    /// Everything else: rank, alpha, targets, schedule, and the model's own options.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// A progress event sent during training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LearnEvent {
    /// What it is about: `train`, `eval`, or a word that says what happened: `resumed`, `saved`, `note`.
    pub split: String,
    /// Steps done.
    pub step: u64,
    /// Steps in all, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<u64>,
    /// Passes over the lessons, the started one as a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<f64>,
    /// The loss since the last event of this split.
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
    /// Everything that is measured, by the reference's names: `loss`, `grad_norm`, `eval_loss`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// Words for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub words: String,
}

/// The result of training.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Learnt {
    /// The folder with the LoRA or the checkpoint.
    pub path: PathBuf,
    /// The model's setting that takes this folder, if it is not `lora` for a LoRA or `weights` for a checkpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub setting: Option<String>,
    /// Steps done.
    pub steps: u64,
    /// The mean loss of all steps.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// What else is known at the end: `train_runtime`, `best_metric`, `peak_memory_bytes`.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
}

crate::wire::packed!(
    Lesson,
    |lesson, envelope| envelope.clips = std::mem::take(&mut lesson.clips),
    |lesson, envelope| lesson.clips = envelope.clips
);
