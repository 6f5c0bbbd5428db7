//! The layers, in the order a clip meets them.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::{Device, Tensor};
use nn::encoder::{Block, EPS, Encoder, pool_pairs, steps};
use nn::{Heard, LayerNorm, Linear, Step, Weights, llama};
use plugin_api::{Clip, Result};

/// A reply's flag where a clip is longer than what the model hears of it.
const CUT: &str = "cut-clip";

pub struct Decoder {
    tower: Tower,
    language_model: llama::Decoder,
    audio_token: u32,
}

/// From sound to vectors in the place of words.
struct Tower {
    mel: MelExtractor,
    encoder: Encoder,
    layer_norm: LayerNorm,
    projector: Linear,
    /// Samples of a clip that are heard.
    window: usize,
}

impl Decoder {
    pub fn load(config: &Config, weights: &Weights) -> nn::Result<Decoder> {
        let (audio, hidden) = (&config.audio, config.text.hidden_size);
        // The language model alone is quantised: it is the bulk, and what the encoder loses nobody has measured.
        let plain = weights.quantised(None);
        let tower = plain.at("audio_tower");
        Ok(Decoder {
            tower: Tower {
                mel: MelExtractor::new(audio.bins),
                encoder: Encoder::load(audio, &tower)?,
                layer_norm: LayerNorm::load(&tower.at("layer_norm"), audio.width, EPS)?,
                projector: Linear::load(&plain.at("multi_modal_projector.linear"), audio.width, hidden, true)?,
                window: audio.samples(),
            },
            language_model: llama::Decoder::load(&config.text, &weights.at("language_model"))?,
            audio_token: config.audio_token,
        })
    }
}

impl Tower {
    /// All clips together to the vectors of each; what is beyond the window is not heard.
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

impl nn::Decoder for Decoder {
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
        Some(self.audio_token)
    }

    fn hear(&self, clips: &[&Clip]) -> Result<Heard> {
        let mut heard = Heard::default();
        for (number, clip) in clips.iter().enumerate() {
            let samples = audio::checked(clip, number + 1)?;
            if steps(audio::frames(samples.len())) < 2 {
                return Err(audio::too_short(number + 1, samples.len()));
            }
            if samples.len() > self.tower.window {
                heard.flags = vec![CUT.to_owned()];
            }
            heard.seconds += samples.len().min(self.tower.window) as f64 / audio::RATE as f64;
            heard.features.push(self.tower.mel.log_mel(samples, self.tower.window));
        }
        heard.clips = self.tower.forward(&heard.features)?;
        Ok(heard)
    }
}
