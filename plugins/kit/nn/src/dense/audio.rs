//! A dense decoder with an audio encoder in front of it.

use super::Decoder;
use crate::{AudioChunks, AudioEmbeds, Ears, Hearing, Input, Step, Weights};
use candle_core::{DType, Device, Tensor};
use plugin_api::{Clip, Prompt, Result};
use std::sync::Arc;

/// Turns clips into vectors that stand among those of the text's tokens.
pub trait AudioEncoder: Send + Sync {
    /// Cuts the clips into chunks that are encoded one by one, without encoding them.
    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks>;

    /// Encodes the samples of some chunks, of whatever clips and prompts.
    fn encode_audio(&self, sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>>;

    /// Its layers as plain data, where they are of a common kind.
    fn blueprint(&self) -> Option<crate::AudioBlueprint> {
        None
    }

    /// Refuses a prompt whose tokens ask for input that the model cannot take.
    fn check(&self, _tokens: &[u32]) -> Result<()> {
        Ok(())
    }
}

impl<E: AudioEncoder> Ears for E {
    fn places(&self, clip: &Clip) -> Result<usize> {
        let chunks = self.audio_chunks(&[clip])?;
        Ok(chunks.each.iter().map(|chunk| chunk.tokens).sum())
    }

    fn hear(&self, clip: &Clip) -> Result<Vec<f32>> {
        let chunks = self.audio_chunks(&[clip])?;
        let samples = chunks.each.into_iter().map(|chunk| &clip.samples()[chunk.samples]);
        let mut vectors = Vec::new();
        for heard in self.encode_audio(&samples.collect::<Vec<_>>())? {
            vectors.extend(heard.vectors.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?);
        }
        Ok(vectors)
    }
}

/// An audio language model: the vectors of a clip replace the clip's placeholder token.
pub struct AudioLanguageModel<E> {
    pub audio_encoder: Arc<E>,
    pub language_model: Decoder,
    /// The token that a chat template writes for a clip.
    pub placeholder: u32,
}

/// Where the parts of an audio checkpoint are.
pub struct Parts {
    /// The audio encoder and the projector behind it.
    pub audio_encoder: Weights,
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
                audio_encoder: weights.at("model"),
                model: weights.at(own),
                lm_head: weights.at("lm_head"),
            },
            false => Parts {
                audio_encoder: weights.clone(),
                model: weights.at("language_model.model"),
                lm_head: weights.at("language_model.lm_head"),
            },
        }
    }
}

impl<E: AudioEncoder + 'static> crate::Decoder for AudioLanguageModel<E> {
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

    fn blueprint(&self) -> Option<crate::Blueprint> {
        let model = self.language_model.blueprint()?;
        let audio = match self.audio_encoder.blueprint() {
            Some(tower) => Hearing::Tower(Box::new(tower)),
            None => Hearing::Fixed(self.audio_encoder.clone()),
        };
        Some(crate::Blueprint {
            audio: Some(audio),
            ..model
        })
    }

    fn placeholder(&self) -> Option<u32> {
        Some(self.placeholder)
    }

    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks> {
        self.audio_encoder.audio_chunks(clips)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>> {
        self.audio_encoder.encode_audio(sounds)
    }

    fn input(&self, prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        self.audio_encoder.check(&tokens)?;
        Input::of(self, prompt, tokens)
    }
}
