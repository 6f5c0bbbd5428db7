//! The language model with ears in front.

use super::Decoder;
use crate::{Heard, Input, Pieces, Step, Weights};
use candle_core::{Device, Tensor};
use plugin_api::{Clip, Prompt, Result};

/// From sound to vectors among words.
pub trait Ears: Send + Sync {
    /// What of these clips is heard, in pieces of which each is heard by itself.
    fn pieces(&self, clips: &[&Clip]) -> Result<Pieces>;

    /// The samples of some pieces, of whatever clips and prompts, to what takes their place.
    fn hear(&self, sounds: &[&[f32]]) -> Result<Vec<Heard>>;

    /// Refuses the tokens of a prompt that has a place for what the model cannot take.
    fn check(&self, _tokens: &[u32]) -> Result<()> {
        Ok(())
    }
}

/// A model that hears: what its ears make of a clip goes in where the clip's placeholder stands.
pub struct Hearing<E> {
    pub ears: E,
    pub language_model: Decoder,
    /// The token that a chat template writes for a clip.
    pub placeholder: u32,
}

/// Where a checkpoint that hears has its parts.
pub struct Parts {
    /// What is in front of the language model.
    pub ears: Weights,
    /// The layers of the language model, and its head.
    pub model: Weights,
    pub lm_head: Weights,
}

impl Parts {
    /// By the names of published files, or by those that the reference's newer classes have for themselves, which it
    /// writes when it is asked to keep them.
    pub fn find(weights: &Weights) -> Parts {
        let own = "model.language_model";
        match weights.at(own).has("embed_tokens.weight") {
            true => Parts {
                ears: weights.at("model"),
                model: weights.at(own),
                lm_head: weights.at("lm_head"),
            },
            false => Parts {
                ears: weights.clone(),
                model: weights.at("language_model.model"),
                lm_head: weights.at("language_model.lm_head"),
            },
        }
    }
}

impl<E: Ears> crate::Decoder for Hearing<E> {
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        self.language_model.embed(ids)
    }

    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor> {
        self.language_model.forward(x, step)
    }

    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor> {
        self.language_model.logits(hidden)
    }

    fn device(&self) -> &Device {
        self.language_model.device()
    }

    fn context(&self) -> usize {
        self.language_model.context()
    }

    fn placeholder(&self) -> Option<u32> {
        Some(self.placeholder)
    }

    fn pieces(&self, clips: &[&Clip]) -> Result<Pieces> {
        self.ears.pieces(clips)
    }

    fn hear(&self, sounds: &[&[f32]]) -> Result<Vec<Heard>> {
        self.ears.hear(sounds)
    }

    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        self.ears.check(&tokens)?;
        Input::of(self, prompt, tokens)
    }
}
