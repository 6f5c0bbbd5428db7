//! From sound to vectors among words, in the order a clip meets the layers.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use nn::dense::{self, AudioEncoder, AudioLanguageModel, Parts};
use nn::encoder::{Block, EPS, Encoder, LEAST_SAMPLES, pool_pairs, split_rows, steps_of};
use nn::{Activation, AudioBlueprint, AudioChunks, AudioEmbeds, LayerNorm, Linear, ProjectorLayer, Weights};
use plugin_api::{Clip, Result};

/// What of a checkpoint is not the language model. That alone is quantised: it is the bulk, and what the encoder would
/// lose nobody has measured.
pub const EARS: [&str; 4] = [
    "audio_tower.",
    "multi_modal_projector.",
    "model.audio_tower.",
    "model.multi_modal_projector.",
];

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<Tower>> {
    let parts = Parts::find(weights);
    Ok(AudioLanguageModel {
        audio_encoder: Tower::load(config, &parts.audio_encoder)?,
        language_model: dense::Decoder::of_parts(&config.text, &parts.model, &parts.lm_head)?,
        placeholder: config.audio_token,
    })
}

pub struct Tower {
    blueprint: AudioBlueprint,
    mel: MelExtractor,
    encoder: Encoder,
    layer_norm: LayerNorm,
    linear_1: Linear,
    activation: Activation,
    linear_2: Linear,
    /// Samples that the encoder hears at a time, and how many times at most.
    window: usize,
    windows: usize,
}

impl Tower {
    fn load(config: &Config, weights: &Weights) -> nn::Result<Tower> {
        let (audio, hidden, bias) = (&config.audio, config.text.hidden_size, config.projector_bias);
        let (tower, projector) = (weights.at("audio_tower"), weights.at("multi_modal_projector"));
        let layer = |name, inputs| ProjectorLayer {
            at: projector.at(name),
            inputs,
            outputs: hidden,
            bias,
        };
        let blueprint = AudioBlueprint {
            tower: tower.clone(),
            encoder: audio.clone(),
            window: audio.samples(),
            longest: audio.samples() * config.windows,
            block: None,
            norm: tower.at("layer_norm"),
            projector: vec![layer("linear_1", audio.width), layer("linear_2", hidden)],
            activation: Some(config.projector_activation),
        };
        Ok(Tower {
            blueprint,
            mel: MelExtractor::new(audio.bins),
            encoder: Encoder::load(audio, &tower)?,
            layer_norm: LayerNorm::load(&tower.at("layer_norm"), audio.width, EPS)?,
            linear_1: Linear::load(&projector.at("linear_1"), audio.width, hidden, bias)?,
            activation: config.projector_activation,
            linear_2: Linear::load(&projector.at("linear_2"), hidden, hidden, bias)?,
            window: audio.samples(),
            windows: config.windows,
        })
    }

    /// Windows to the vectors of each, whose last odd step is lost.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let blocks: Vec<Block> = mels.iter().map(Block::heard).collect();
        let steps: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let x = self.linear_1.forward(&self.layer_norm.forward(&x)?)?;
        let x = self.linear_2.forward(&self.activation.forward(&x)?)?; // (tokens, hidden)
        split_rows(&x, steps.into_iter().map(|steps| steps / 2))
    }
}

impl AudioEncoder for Tower {
    fn blueprint(&self) -> Option<AudioBlueprint> {
        Some(self.blueprint.clone())
    }

    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks> {
        let range = LEAST_SAMPLES..=self.window * self.windows;
        AudioChunks::cut(clips, range, self.window, |samples| steps_of(samples) / 2)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>> {
        let mels = self.mel.log_mels(sounds, self.window);
        let vectors = self.forward(&mels)?;
        let heard = mels.into_iter().zip(vectors);
        Ok(heard
            .map(|(features, vectors)| AudioEmbeds { features, vectors })
            .collect())
    }
}
