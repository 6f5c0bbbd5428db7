//! From sound to vectors among words, in the order a clip meets the layers.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use nn::encoder::{Block, EPS, Encoder, LEAST_SAMPLES, pool_pairs};
use nn::llama::{self, Ears, Hearing};
use nn::{Heard, LayerNorm, Linear, Weights};
use plugin_api::{Clip, Result};

pub fn load(config: &Config, weights: &Weights) -> nn::Result<Hearing<Tower>> {
    // The language model alone is quantised: it is the bulk, and what the encoder would lose nobody has measured.
    let plain = weights.quantised(None);
    Ok(Hearing {
        ears: Tower::load(config, &plain)?,
        language_model: llama::Decoder::load(&config.text, &weights.at("language_model"))?,
        placeholder: config.audio_token,
    })
}

pub struct Tower {
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
        Ok(Tower {
            mel: MelExtractor::new(audio.bins),
            encoder: Encoder::load(audio, &tower)?,
            layer_norm: LayerNorm::load(&tower.at("layer_norm"), audio.width, EPS)?,
            projector: Linear::load(&weights.at("multi_modal_projector.linear"), audio.width, hidden, true)?,
            window: audio.samples(),
        })
    }

    /// All clips together to the vectors of each.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let blocks: Vec<Block> = mels.iter().map(Block::heard).collect();
        let steps: Vec<usize> = blocks.iter().map(Block::steps).collect();
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let x = self.projector.forward(&self.layer_norm.forward(&x)?)?; // (tokens, hidden)
        let mut start = 0;
        let clip = |steps: usize| {
            start += steps / 2;
            x.narrow(0, start - steps / 2, steps / 2)
        };
        steps.into_iter().map(clip).collect()
    }
}

impl Ears for Tower {
    fn hear(&self, clips: &[&Clip]) -> Result<Heard> {
        let sounds = audio::sounds(clips, LEAST_SAMPLES..=self.window)?;
        let features: Vec<LogMel> = sounds
            .each
            .iter()
            .map(|samples| self.mel.log_mel(samples, self.window))
            .collect();
        Ok(Heard {
            clips: self.forward(&features)?,
            features,
            seconds: sounds.seconds,
            flags: sounds.flags,
        })
    }
}
