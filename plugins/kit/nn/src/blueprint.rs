//! A model's layers as plain data, for code that uses the same weights in another way, such as training.

use crate::encoder::EncoderConfig;
use crate::{Activation, Attention, Factors, Heads, Weights};
use plugin_api::{Clip, Result};
use std::sync::Arc;

#[derive(Clone)]
pub struct Blueprint {
    /// The prefix of `embed_tokens`, `layers` and `norm`.
    pub model: Weights,
    /// The prefix of the head; none if it is tied to the table of tokens.
    pub head: Option<Weights>,
    pub vocabulary: usize,
    pub hidden: usize,
    pub inner: usize,
    pub heads: Heads,
    pub activation: Activation,
    pub eps: f64,
    /// Whether there are biases in the projections before attention, in the one after it, and in the feed-forward.
    pub biases: [bool; 3],
    /// Whether queries and keys are normalised.
    pub head_norms: HeadNorms,
    /// Whether norms are stored as their distance from one.
    pub norms_from_one: bool,
    /// The names of a layer's norms.
    pub norms: NormNames,
    /// Whether the projections before attention are one matrix, and whether gate and up are one.
    pub fused: [bool; 2],
    /// The factor of embeddings.
    pub embed_scale: f64,
    /// The factor of the outputs of both halves of a layer, before they are added.
    pub residual_scale: f64,
    /// The factor of logits.
    pub logit_scale: f64,
    /// If set, logits become `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// How each layer attends.
    pub layers: Vec<Attention>,
    /// The longest text in tokens.
    pub context: usize,
    pub audio: Option<Hearing>,
    /// What LoRAs add to layers, by the layers' full names: parts of the model that stay as they are.
    pub added: Vec<(String, Vec<Factors>)>,
}

/// How a clip becomes vectors of the model's width.
#[derive(Clone)]
pub enum Hearing {
    /// By an audio tower, whose layers may be learnt.
    Tower(Box<AudioBlueprint>),
    /// By layers of the model's own kind, which stay as they are.
    Fixed(Arc<dyn Ears>),
}

/// Turns clips into vectors.
pub trait Ears: Send + Sync {
    /// How many vectors a clip becomes.
    fn places(&self, clip: &Clip) -> Result<usize>;

    /// The vectors of a clip, concatenated.
    fn hear(&self, clip: &Clip) -> Result<Vec<f32>>;
}

impl Blueprint {
    /// The same, without the values that layers loaded from these weights share: otherwise the layers that a model
    /// answers with would stay in memory as long as this does.
    pub fn unshared(mut self) -> Blueprint {
        self.model = self.model.unshared();
        self.head = self.head.map(Weights::unshared);
        self.audio = self.audio.map(|hearing| match hearing {
            Hearing::Tower(audio) => Hearing::Tower(Box::new(audio.unshared())),
            Hearing::Fixed(ears) => Hearing::Fixed(ears),
        });
        self
    }
}

impl AudioBlueprint {
    fn unshared(self) -> AudioBlueprint {
        let projector = self.projector.into_iter().map(|layer| ProjectorLayer {
            at: layer.at.unshared(),
            ..layer
        });
        AudioBlueprint {
            tower: self.tower.unshared(),
            norm: self.norm.unshared(),
            projector: projector.collect(),
            ..self
        }
    }
}

/// How queries and keys are normalised before they are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    None,
    /// Each head separately.
    Each,
    /// All heads together.
    All,
}

impl HeadNorms {
    /// How many channels are normalised together, with this many heads.
    pub fn size(self, heads: usize, size: usize) -> Option<usize> {
        match self {
            HeadNorms::None => None,
            HeadNorms::Each => Some(size),
            HeadNorms::All => Some(heads * size),
        }
    }
}

/// The names in the checkpoint of a layer's norms, before and after each half; none if there is no norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormNames {
    pub before_attention: Option<&'static str>,
    pub behind_attention: Option<&'static str>,
    pub before_mlp: Option<&'static str>,
    pub behind_mlp: Option<&'static str>,
}

impl NormNames {
    /// The names in most models.
    pub const BEFORE: NormNames = NormNames {
        before_attention: Some("input_layernorm"),
        behind_attention: None,
        before_mlp: Some("post_attention_layernorm"),
        behind_mlp: None,
    };
}

/// The audio tower: an encoder like Whisper's, its steps averaged in pairs, a norm, and a projector.
#[derive(Clone)]
pub struct AudioBlueprint {
    /// The prefix of the encoder.
    pub tower: Weights,
    pub encoder: EncoderConfig,
    /// Samples whose features are computed together.
    pub window: usize,
    /// The most samples of a clip that are used, one window at a time.
    pub longest: usize,
    /// Frames that see each other, if the encoder divides a clip; otherwise all frames.
    pub block: Option<usize>,
    /// The norm before the projector.
    pub norm: Weights,
    pub projector: Vec<ProjectorLayer>,
    /// The activation between the projector's layers.
    pub activation: Option<Activation>,
}

/// One linear layer of a projector.
#[derive(Clone)]
pub struct ProjectorLayer {
    pub at: Weights,
    pub inputs: usize,
    pub outputs: usize,
    pub bias: bool,
}
