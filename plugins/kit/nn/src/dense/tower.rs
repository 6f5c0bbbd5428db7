//! The audio tower that Qwen2-Audio brought and Audio Flamingo 3 kept: the encoder, pairs of steps pooled, a norm, and a
//! projector into the language model. Models differ in the projector and in how many windows of a clip they take.

use super::{AudioEncoder, AudioLanguageModel, Config, Decoder, Parts};
use crate::encoder::{Block, EPS, Encoder, EncoderConfig, LEAST_SAMPLES, pool_pairs, split_rows, steps_of};
use crate::{AudioChunks, AudioEmbeds, LayerNorm, Linear, Result, Weights};
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use plugin_api::Clip;

/// How the names begin of tensors outside the language model. These are never quantised: the language model is the bulk,
/// and nobody has measured what the encoder would lose.
pub const OUTSIDE_LANGUAGE_MODEL: [&str; 4] = [
    "audio_tower.",
    "multi_modal_projector.",
    "model.audio_tower.",
    "model.multi_modal_projector.",
];

/// From the encoder's width to that of the language model.
pub trait Projector: Sized + Send + Sync {
    /// Pooled and normed steps (tokens, width) to (tokens, hidden).
    fn project(&self, x: &Tensor) -> candle_core::Result<Tensor>;
}

impl Projector for Linear {
    fn project(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        self.forward(x)
    }
}

pub struct AudioTower<P> {
    mel: MelExtractor,
    encoder: Encoder,
    layer_norm: LayerNorm,
    projector: P,
    /// Samples that the encoder takes at a time, and how many times at most.
    window: usize,
    windows: usize,
}

impl<P: Projector> AudioTower<P> {
    /// The tower and the language model behind it. `projector` is loaded from below `multi_modal_projector`; a clip is
    /// cut into at most so many `windows`.
    pub fn with_language_model(
        (audio, windows): (&EncoderConfig, usize),
        (text, placeholder): (&Config, u32),
        weights: &Weights,
        projector: impl FnOnce(&Weights) -> Result<P>,
    ) -> Result<AudioLanguageModel<AudioTower<P>>> {
        let parts = Parts::find(weights);
        let tower = parts.audio_encoder.at("audio_tower");
        Ok(AudioLanguageModel {
            audio_encoder: AudioTower {
                mel: MelExtractor::new(audio.bins),
                encoder: Encoder::load(audio, &tower)?,
                layer_norm: LayerNorm::load(&tower.at("layer_norm"), audio.width, EPS)?,
                projector: projector(&parts.audio_encoder.at("multi_modal_projector"))?,
                window: audio.samples(),
                windows,
            },
            language_model: Decoder::of_parts(text, &parts.model, &parts.lm_head)?,
            placeholder,
        })
    }

    /// Windows to the vectors of each, whose last odd step is lost. All windows go through each layer together.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let blocks: Vec<Block> = mels.iter().map(Block::heard).collect();
        let steps: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let x = self.projector.project(&self.layer_norm.forward(&x)?)?; // (tokens, hidden)
        split_rows(&x, steps.into_iter().map(|steps| steps / 2))
    }
}

impl<P: Projector> AudioEncoder for AudioTower<P> {
    fn audio_chunks(&self, clips: &[&Clip]) -> plugin_api::Result<AudioChunks> {
        let range = LEAST_SAMPLES..=self.window * self.windows;
        AudioChunks::cut(clips, range, self.window, |samples| steps_of(samples) / 2)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> plugin_api::Result<Vec<AudioEmbeds>> {
        let mels = self.mel.log_mels(sounds, self.window);
        let vectors = self.forward(&mels)?;
        let embeds = mels.into_iter().zip(vectors);
        Ok(embeds
            .map(|(features, vectors)| AudioEmbeds { features, vectors })
            .collect())
    }
}
