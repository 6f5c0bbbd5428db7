//! The audio tower of Qwen2-Audio and Audio Flamingo 3: the encoder, pairs of steps pooled, a norm, and a projector
//! into the language model. The models differ in the projector and in the number of windows for a clip.

use super::{AudioEncoder, AudioLanguageModel, Config, Decoder, Parts};
use crate::encoder::{Block, EPS, Encoder, EncoderConfig, LEAST_SAMPLES, pool_pairs, split_rows, steps_of};
use crate::{Activation, AudioBlueprint, AudioChunks, AudioEmbeds, LayerNorm, Linear, ProjectorLayer, Result, Weights};
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use plugin_api::Clip;
use std::sync::Arc;

/// Prefixes of the tensors outside of the language model. These are never quantised: the language model is the largest
/// part, and the loss of quality in the encoder was not measured.
pub const OUTSIDE_LANGUAGE_MODEL: [&str; 4] = [
    "audio_tower.",
    "multi_modal_projector.",
    "model.audio_tower.",
    "model.multi_modal_projector.",
];

/// The encoder, the norm after it, and one or two layers into the language model.
pub struct AudioTower {
    /// What it was loaded from.
    blueprint: AudioBlueprint,
    mel: MelExtractor,
    encoder: Encoder,
    layer_norm: LayerNorm,
    projector: Vec<Linear>,
}

/// A checkpoint of such a model.
pub struct Shape<'c> {
    pub audio: &'c EncoderConfig,
    pub text: &'c Config,
    /// The token that stands for a clip.
    pub audio_token: u32,
    /// The most windows that a clip is divided into.
    pub windows: usize,
    /// The names of the projector's layers, from the encoder's width to that of the language model.
    pub projector: &'static [&'static str],
    pub bias: bool,
    /// The activation between two layers of the projector.
    pub activation: Option<Activation>,
}

impl AudioTower {
    /// The tower with its language model.
    pub fn with_language_model(shape: Shape, weights: &Weights) -> Result<AudioLanguageModel<AudioTower>> {
        let parts = Parts::find(weights);
        let (audio, hidden) = (shape.audio, shape.text.hidden_size);
        let tower = parts.audio_encoder.at("audio_tower");
        let below = parts.audio_encoder.at("multi_modal_projector");
        let layer = |(number, name): (usize, &&str)| ProjectorLayer {
            at: below.at(name),
            inputs: if number == 0 { audio.width } else { hidden },
            outputs: hidden,
            bias: shape.bias,
        };
        let blueprint = AudioBlueprint {
            encoder: audio.clone(),
            window: audio.samples(),
            longest: audio.samples() * shape.windows,
            block: None,
            norm: tower.at("layer_norm"),
            projector: shape.projector.iter().enumerate().map(layer).collect(),
            activation: shape.activation,
            tower,
        };
        let load = |layer: &ProjectorLayer| Linear::load(&layer.at, layer.inputs, layer.outputs, layer.bias);
        Ok(AudioLanguageModel {
            audio_encoder: Arc::new(AudioTower {
                mel: MelExtractor::new(audio.bins),
                encoder: Encoder::load(audio, &blueprint.tower)?,
                layer_norm: LayerNorm::load(&blueprint.norm, audio.width, EPS)?,
                projector: blueprint.projector.iter().map(load).collect::<Result<_>>()?,
                blueprint,
            }),
            language_model: Decoder::of_parts(shape.text, &parts.model, &parts.lm_head)?,
            placeholder: shape.audio_token,
        })
    }

    /// Windows to their vectors; an odd last step of a window is dropped. All windows pass each layer together.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let blocks: Vec<Block> = mels.iter().map(Block::heard).collect();
        let steps: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let mut x = self.layer_norm.forward(&x)?;
        for (number, layer) in self.projector.iter().enumerate() {
            if let Some(activation) = self.blueprint.activation.filter(|_| number > 0) {
                x = activation.forward(&x)?;
            }
            x = layer.forward(&x)?; // (tokens, hidden)
        }
        split_rows(&x, steps.into_iter().map(|steps| steps / 2))
    }
}

impl AudioEncoder for AudioTower {
    fn blueprint(&self) -> Option<AudioBlueprint> {
        Some(self.blueprint.clone())
    }

    fn audio_chunks(&self, clips: &[&Clip]) -> plugin_api::Result<AudioChunks> {
        let (longest, window) = (self.blueprint.longest, self.blueprint.window);
        AudioChunks::cut(clips, LEAST_SAMPLES..=longest, window, |samples| steps_of(samples) / 2)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> plugin_api::Result<Vec<AudioEmbeds>> {
        let mels = self.mel.log_mels(sounds, self.blueprint.window);
        let vectors = self.forward(&mels)?;
        let embeds = mels.into_iter().zip(vectors);
        Ok(embeds
            .map(|(features, vectors)| AudioEmbeds { features, vectors })
            .collect())
    }
}
