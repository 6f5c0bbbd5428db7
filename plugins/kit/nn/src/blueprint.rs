//! What a model's layers are, as plain data: for code that computes with the same weights in another way, such as
//! training.

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
    /// Whether queries and keys are normalised.
    pub head_norms: HeadNorms,
    /// Whether norms are stored as their distance from one.
    pub norms_from_one: bool,
    /// Where in a layer its norms stand.
    pub norms: NormNames,
    /// Whether the projections in front of attention are one matrix, and gate and up of the feed-forward another.
    pub fused: [bool; 2],
    /// What embeddings are multiplied by.
    pub embed_scale: f64,
    /// What the outputs of both halves of a layer are multiplied by before they are added.
    pub residual_scale: f64,
    /// What logits are multiplied by.
    pub logit_scale: f64,
    /// Logits go through `cap * tanh(logit / cap)`.
    pub softcap: Option<f64>,
    /// How each layer attends.
    pub layers: Vec<Attention>,
    /// The longest text in tokens.
    pub context: usize,
    pub audio: Option<AudioBlueprint>,
}

impl Blueprint {
    /// The same, without what layers loaded from these weights share. Else the layers that a model answers with would stay in
    /// memory as long as this does.
    pub fn unshared(mut self) -> Blueprint {
        self.model = self.model.unshared();
        self.head = self.head.map(Weights::unshared);
        self.audio = self.audio.map(|audio| AudioBlueprint {
            tower: audio.tower.unshared(),
            norm: audio.norm.unshared(),
            projector: audio
                .projector
                .into_iter()
                .map(|layer| ProjectorLayer {
                    at: layer.at.unshared(),
                    ..layer
                })
                .collect(),
            ..audio
        });
        self
    }
}

/// How queries and keys are normalised before they are turned by their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadNorms {
    None,
    /// Each head by itself.
    Each,
    /// All heads together.
    All,
}

impl HeadNorms {
    /// How many channels are normalised together, of this many heads.
    pub fn size(self, heads: usize, size: usize) -> Option<usize> {
        match self {
            HeadNorms::None => None,
            HeadNorms::Each => Some(size),
            HeadNorms::All => Some(heads * size),
        }
    }
}

/// The norms of a layer by their names in the checkpoint: in front of each half and behind it, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NormNames {
    pub before_attention: Option<&'static str>,
    pub behind_attention: Option<&'static str>,
    pub before_mlp: Option<&'static str>,
    pub behind_mlp: Option<&'static str>,
}

impl NormNames {
    /// As most models have them.
    pub const BEFORE: NormNames = NormNames {
        before_attention: Some("input_layernorm"),
        behind_attention: None,
        before_mlp: Some("post_attention_layernorm"),
        behind_mlp: None,
    };
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
