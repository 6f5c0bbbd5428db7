//! What models say of themselves.

use crate::{Error, Part, Prompt, Result, Want};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// A kind of part that a model can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reads {
    /// Words.
    Text,
    /// Sound.
    Audio,
    /// Something that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// A constraint on generated text that a model can enforce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Constraint {
    /// [`crate::Sampling::json_schema`]
    JsonSchema,
    /// [`crate::Sampling::one_of`]
    OneOf,
    /// Something that this version doesn't know.
    #[serde(other)]
    Unknown,
}

/// What a model says of itself.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ModelCard {
    /// What it is called.
    pub name: String,
    /// The kinds of part it reads.
    pub reads: Vec<Reads>,
    /// The rate at which it wants its clips, in Hz.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate: Option<u32>,
    /// The longest clip it takes, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub longest_clip: Option<f64>,
    /// The most clips in one prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_clips: Option<u32>,
    /// The longest prompt and answer together, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// True when it can score options.
    pub scores_choices: bool,
    /// True when its reasoning can be switched on and off.
    pub thinks: bool,
    /// True when it implements [`crate::Model::learn`].
    pub learns: bool,
    /// The most prompts that it answers at a time; 0 and 1 mean one by one.
    pub batch: u32,
    /// The host name of the service that answers, if this machine doesn't.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The most prompts in flight, if different from `batch`: a service that finds its own limit pulls up to this
    /// many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// What answers, as far as that can be known without weights: a server's version and configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// The constraints on generated text that it enforces. It ignores the others.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub constrains: Vec<Constraint>,
    /// The class of its kernels: on one class the same prompt gives the same bits, on another the last digits may
    /// differ.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel_class: Option<String>,
    /// LoRAs that it holds by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loras: Vec<String>,
    /// Parameters, in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<u64>,
    /// The type it computes in: `fp32`, `bf16`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub precision: Option<String>,
    /// Where it computes: `cpu`, `cuda:0`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Fields that this version doesn't know.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl ModelCard {
    /// A text model.
    pub fn text(name: impl Into<String>) -> Self {
        ModelCard {
            name: name.into(),
            reads: vec![Reads::Text],
            ..ModelCard::default()
        }
    }

    /// A model that takes text, and audio at this rate.
    pub fn audio(name: impl Into<String>, sample_rate: u32) -> Self {
        ModelCard {
            reads: vec![Reads::Text, Reads::Audio],
            sample_rate: Some(sample_rate),
            ..ModelCard::text(name)
        }
    }

    /// The same model, able to score options.
    pub fn with_choices(mut self) -> Self {
        self.scores_choices = true;
        self
    }

    /// An error with [`crate::Code::UNSUPPORTED`] when a prompt contains or asks for something that this card rules
    /// out, or that this version doesn't know. Such a prompt is refused before [`crate::Model::reply`] sees it.
    pub fn can_answer(&self, prompt: &Prompt) -> Result<()> {
        for part in prompt.messages.iter().flat_map(|message| &message.parts) {
            match part {
                Part::Text { .. } => {}
                Part::Clip { .. } if self.hears() => {}
                Part::Clip { .. } => return Err(self.cannot("hear clips")),
                _ => return Err(self.cannot("read a part of this prompt, whose type is newer than this version")),
            }
        }
        match prompt.want {
            Want::Text { .. } => Ok(()),
            Want::Choice { .. } if self.scores_choices => Ok(()),
            Want::Choice { .. } => Err(self.cannot("score options")),
            _ => Err(self.cannot("do what this prompt asks for, which is newer than this version")),
        }
    }

    fn cannot(&self, what: &str) -> Error {
        Error::unsupported(format!("model `{}` can't {what}", self.name))
    }

    /// Whether it enforces a constraint on generated text.
    pub fn can_constrain(&self, constraint: Constraint) -> bool {
        self.constrains.contains(&constraint)
    }

    /// Whether it takes audio.
    pub fn hears(&self) -> bool {
        self.reads.contains(&Reads::Audio)
    }
}
