//! From sound to vectors among words, in the order a clip meets the layers.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use nn::encoder::{Block, EPS, Encoder, LEAST_SAMPLES, pool_pairs};
use nn::llama::{self, Ears, Hearing};
use nn::{Heard, LayerNorm, Linear, Weights};
use plugin_api::{Clip, Error, Result};

/// Samples of a clip that the reference's processor keeps: five minutes.
pub const LONGEST: usize = 300 * audio::RATE;

pub fn load(config: &Config, weights: &Weights) -> nn::Result<Hearing<Tower>> {
    let thinker = match weights.has("thinker.model.embed_tokens.weight") {
        true => weights.at("thinker"), // beside the talker and its vocoder, which stay unread
        false => weights.clone(),
    };
    Ok(Hearing {
        // The language model alone is quantised: it is the bulk, and what the encoder would lose nobody has measured.
        ears: Tower::load(config, &thinker.quantised(None).at("audio_tower"))?,
        language_model: llama::Decoder::load(&config.text, &thinker)?,
        placeholder: config.audio_token,
    })
}

pub struct Tower {
    mel: MelExtractor,
    encoder: Encoder,
    ln_post: LayerNorm,
    proj: Linear,
    /// Frames that see each other.
    block: usize,
    unseen: [(u32, &'static str); 2],
}

impl Tower {
    fn load(config: &Config, weights: &Weights) -> nn::Result<Tower> {
        let (audio, hidden) = (&config.audio, config.text.hidden_size);
        Ok(Tower {
            mel: MelExtractor::new(audio.bins),
            encoder: Encoder::load(audio, weights)?,
            ln_post: LayerNorm::load(&weights.at("ln_post"), audio.width, EPS)?,
            proj: Linear::load(&weights.at("proj"), audio.width, hidden, true)?,
            block: config.block,
            unseen: [(config.image_token, "images"), (config.video_token, "videos")],
        })
    }

    /// One clip to its vectors. It is cut into blocks, whose convolutions, positions and attention know nothing of each
    /// other; what follows runs over the whole clip.
    fn forward(&self, mel: &LogMel) -> candle_core::Result<Tensor> {
        let bins = mel.bins();
        let rows = mel.rows(mel.heard());
        let blocks: Vec<Block> = rows
            .chunks(self.block * bins)
            .map(|rows| Block::alone(rows.to_vec(), bins))
            .collect();
        let x = self.encoder.forward(&blocks)?;
        let x = pool_pairs(&x, &[x.dim(0)?])?; // (tokens, width)
        self.proj.forward(&self.ln_post.forward(&x)?) // (tokens, hidden)
    }
}

impl Ears for Tower {
    fn hear(&self, clips: &[&Clip]) -> Result<Heard> {
        let sounds = audio::sounds(clips, LEAST_SAMPLES..=LONGEST)?;
        let features: Vec<LogMel> = sounds
            .each
            .iter()
            .map(|samples| self.mel.log_mel(samples, LONGEST))
            .collect();
        let clips = features.iter().map(|mel| self.forward(mel));
        Ok(Heard {
            clips: clips.collect::<candle_core::Result<_>>()?,
            features,
            seconds: sounds.seconds,
            flags: sounds.flags,
        })
    }

    fn check(&self, tokens: &[u32]) -> Result<()> {
        match self.unseen.iter().find(|(token, _)| tokens.contains(token)) {
            Some((_, what)) => Err(Error::unsupported(format!(
                "the prompt has a place for {what}, which are not supported yet"
            ))),
            None => Ok(()),
        }
    }
}
