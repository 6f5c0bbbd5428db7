//! From sound to vectors among words, in the order a clip meets the layers.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use nn::dense::{self, AudioEncoder, AudioLanguageModel, Parts};
use nn::encoder::{Block, EPS, Encoder, LEAST_SAMPLES, pool_pairs, split_rows, steps_of};
use nn::{AudioBlueprint, AudioChunks, AudioEmbeds, LayerNorm, Linear, ProjectorLayer, Weights};
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
    projector: Linear,
    /// Samples of a clip that are heard.
    window: usize,
}

impl Tower {
    fn load(config: &Config, weights: &Weights) -> nn::Result<Tower> {
        let (audio, hidden) = (&config.audio, config.text.hidden_size);
        let tower = weights.at("audio_tower");
        let projector = ProjectorLayer {
            at: weights.at("multi_modal_projector.linear"),
            inputs: audio.width,
            outputs: hidden,
            bias: true,
        };
        let blueprint = AudioBlueprint {
            tower: tower.clone(),
            encoder: audio.clone(),
            window: audio.samples(),
            longest: audio.samples(),
            block: None,
            norm: tower.at("layer_norm"),
            projector: vec![projector],
            activation: None,
        };
        Ok(Tower {
            blueprint,
            mel: MelExtractor::new(audio.bins),
            encoder: Encoder::load(audio, &tower)?,
            layer_norm: LayerNorm::load(&tower.at("layer_norm"), audio.width, EPS)?,
            projector: Linear::load(&weights.at("multi_modal_projector.linear"), audio.width, hidden, true)?,
            window: audio.samples(),
        })
    }

    /// Clips to the vectors of each, all layers seeing all clips together.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let blocks: Vec<Block> = mels.iter().map(Block::heard).collect();
        let steps: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let x = self.projector.forward(&self.layer_norm.forward(&x)?)?; // (tokens, hidden)
        split_rows(&x, steps.into_iter().map(|steps| steps / 2))
    }
}

impl AudioEncoder for Tower {
    fn blueprint(&self) -> Option<AudioBlueprint> {
        Some(self.blueprint.clone())
    }

    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks> {
        AudioChunks::cut(clips, LEAST_SAMPLES..=self.window, self.window, |samples| {
            steps_of(samples) / 2
        })
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
