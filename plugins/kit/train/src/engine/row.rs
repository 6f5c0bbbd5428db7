//! What is learnt: tokens, and which of them.

use plugin_api::Clip;
use std::sync::Arc;

/// The tokens of one text, and what is to be predicted.
///
/// Rows of a batch are never padded: they lie one after the other, positions count from 0 in each, and none sees
/// another.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// The tokens. The place of a clip holds the placeholder as often as the clip has vectors.
    pub ids: Vec<u32>,
    /// For each token, what is learnt in its place; as many as there are `ids`. The first counts for nothing, since
    /// nothing comes before it.
    pub labels: Vec<Option<u32>>,
    /// What is heard, in the order of the placeholders.
    pub sounds: Vec<Sound>,
}

/// A clip among the tokens.
#[derive(Debug, Clone)]
pub enum Sound {
    /// To be heard in each pass: needed where the tower or the projector is learnt.
    Clip(Clip),
    /// As a frozen tower heard it ([`crate::Engine::hear`]): vectors of the model's width, one after the other.
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
    /// Tokens of which `learn` says which are learnt as they stand.
    pub fn masked(ids: Vec<u32>, learn: &[bool]) -> Row {
        let labels = ids.iter().zip(learn).map(|(&id, &learn)| learn.then_some(id)).collect();
        Row {
            ids,
            labels,
            sounds: Vec::new(),
        }
    }

    /// Learnt tokens, as they count in a loss.
    pub fn learnt(&self) -> u64 {
        self.labels.iter().skip(1).filter(|label| label.is_some()).count() as u64
    }
}
