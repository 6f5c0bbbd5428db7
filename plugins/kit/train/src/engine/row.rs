//! A row of training data: tokens, and which of them are learnt.

use plugin_api::Clip;
use std::sync::Arc;

/// The tokens of one text, and what is to be predicted.
///
/// Rows of a batch are concatenated without padding; positions count from 0 in each, and rows do not see each other.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The tokens, with one placeholder for each vector of a clip.
    pub ids: Vec<u32>,
    /// For each token, the token to predict in its place, if any; as many as `ids`. The first does not count, since
    /// nothing comes before it.
    pub labels: Vec<Option<u32>>,
    /// The clips, in the order of the placeholders.
    pub sounds: Vec<Sound>,
}

/// A clip among the tokens.
#[derive(Debug, Clone)]
pub enum Sound {
    /// To be encoded in each pass: necessary if the tower or the projector is learnt.
    Clip(Clip),
    /// Encoded by a frozen tower ([`crate::Engine::hear`]): vectors of the model's width, concatenated.
    Heard(Arc<[f32]>),
}

impl Sound {
    pub(crate) fn clip(&self) -> Option<&Clip> {
        match self {
            Sound::Clip(clip) => Some(clip),
            Sound::Heard(_) => None,
        }
    }
}

impl Row {
    /// Tokens, of which `learn` marks those to learn.
    pub fn masked(ids: Vec<u32>, learn: &[bool]) -> Row {
        let labels = ids.iter().zip(learn).map(|(&id, &learn)| learn.then_some(id)).collect();
        Row {
            ids,
            labels,
            sounds: Vec::new(),
        }
    }

    /// The number of learnt tokens that count in a loss.
    pub fn learnt(&self) -> u64 {
        self.labels.iter().skip(1).filter(|label| label.is_some()).count() as u64
    }
}
