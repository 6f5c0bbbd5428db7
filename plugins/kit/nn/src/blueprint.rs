//! What a model's layers are, as plain data: for code that computes with the same weights in another way, such as training.

use crate::encoder::EncoderConfig;
use crate::{Activation, Attention, Heads, Weights};

/// A dense decoder.
#[derive(Clone)]
pub struct Blueprint {
    /// `embed_tokens`, `layers` and `norm` stand below this point.
    pub model: Weights,
    /// The head stands here; none where it is tied to the table of tokens.
    pub head: Option<Weights>,
    pub vocabulary: usize,
    pub hidden: usize,
    pub inner: usize,
    pub heads: Heads,
    pub activation: Activation,
    pub eps: f64,
    /// Whether the projections in front of attention, the one behind it, and those of the feed-forward have biases.
    pub biases: [bool; 3],
    /// Whether queries and keys are normalised per head.
    pub head_norms: bool,
    /// Whether norms are stored as their distance from one.
    pub norms_from_one: bool,
    /// Whether both halves of a layer are normalised behind as well.
    pub norms_behind: bool,
    /// What embeddings are multiplied by.
    pub embed_scale: f64,
    /// Logits go through `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// How each layer attends.
    pub layers: Vec<Attention>,
    /// The longest text in tokens.
    pub context: usize,
    pub audio: Option<AudioBlueprint>,
}

/// What hears: an encoder of the kind that Whisper brought, its steps averaged in pairs, a norm, and a projector.
#[derive(Clone)]
pub struct AudioBlueprint {
    /// The encoder stands here.
    pub tower: Weights,
    pub encoder: EncoderConfig,
    /// Samples whose features are computed together.
    pub window: usize,
    /// Samples of a clip that are heard, a window at a time.
    pub longest: usize,
    /// Frames that see each other, of an encoder that cuts a clip; else all of it.
    pub block: Option<usize>,
    /// The norm in front of the projector.
    pub norm: Weights,
    pub projector: Vec<ProjectorLayer>,
    /// Between the projector's layers.
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
