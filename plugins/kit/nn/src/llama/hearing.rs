//! The language model with ears in front.

use super::Decoder;
use crate::{Heard, Input, Pieces, Step};
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
