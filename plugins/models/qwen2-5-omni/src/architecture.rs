//! The audio layers, in the order a clip meets them.

use crate::config::Config;
use audio::{LogMel, MelExtractor};
use candle_core::Tensor;
use nn::dense::{self, AudioEncoder, AudioLanguageModel};
use nn::encoder::{Block, EPS, Encoder, LEAST_SAMPLES, pool_pairs, split_rows, steps};
use nn::{AudioBlueprint, AudioChunks, AudioEmbeds, LayerNorm, Linear, ProjectorLayer, Weights};
use plugin_api::{Clip, Error, Result};
use std::sync::Arc;

/// Prefixes of tensors outside the language model, which are never quantised.
pub const OUTSIDE_LANGUAGE_MODEL: [&str; 4] = [
    "thinker.audio_tower.",
    "thinker.model.audio_tower.",
    "audio_tower.",
    "model.audio_tower.",
];

/// Where the audio tower, the layers of the language model and its head are: of a whole checkpoint, or of the thinker
/// alone; by the names of published files, or by those that the reference's newer classes have for themselves.
const PLACES: [[&str; 3]; 4] = [
    ["thinker.audio_tower", "thinker.model", "thinker.lm_head"],
    [
        "thinker.model.audio_tower",
        "thinker.model.language_model",
        "thinker.lm_head",
    ],
    ["audio_tower", "model", "lm_head"],
    ["model.audio_tower", "model.language_model", "lm_head"],
];

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<Tower>> {
    let holds_text = |places: &&[&str; 3]| weights.at(places[1]).has("embed_tokens.weight");
    let places = PLACES.iter().find(holds_text).unwrap_or(&PLACES[0]);
    let [tower, model, lm_head] = places.map(|place| weights.at(place));
    Ok(AudioLanguageModel {
        audio_encoder: Arc::new(Tower::load(config, &tower)?),
        language_model: dense::Decoder::of_parts(&config.text, &model, &lm_head)?,
        placeholder: config.audio_token,
    })
}

pub struct Tower {
    blueprint: AudioBlueprint,
    mel: MelExtractor,
    encoder: Encoder,
    ln_post: LayerNorm,
    proj: Linear,
    /// Frames in a block.
    block: usize,
    /// The length to which clips are cut, in samples.
    longest: usize,
    unseen: [(u32, &'static str); 2],
}

impl Tower {
    fn load(config: &Config, weights: &Weights) -> nn::Result<Tower> {
        let (audio, hidden) = (&config.audio, config.text.hidden_size);
        let projector = ProjectorLayer {
            at: weights.at("proj"),
            inputs: audio.width,
            outputs: hidden,
            bias: true,
        };
        let blueprint = AudioBlueprint {
            tower: weights.clone(),
            encoder: audio.clone(),
            window: config.longest,
            longest: config.longest,
            block: Some(config.block),
            norm: weights.at("ln_post"),
            projector: vec![projector],
            activation: None,
        };
        Ok(Tower {
            blueprint,
            mel: MelExtractor::new(audio.bins),
            encoder: Encoder::load(audio, weights)?,
            ln_post: LayerNorm::load(&weights.at("ln_post"), audio.width, EPS)?,
            proj: Linear::load(&weights.at("proj"), audio.width, hidden, true)?,
            block: config.block,
            longest: config.longest,
            unseen: [(config.image_token, "images"), (config.video_token, "videos")],
        })
    }

    /// Turns clips into vectors. Clips are cut into blocks, which have separate convolutions, positions and attention;
    /// the layers after them see the whole clip.
    fn forward(&self, mels: &[LogMel]) -> candle_core::Result<Vec<Tensor>> {
        let (mut blocks, mut steps) = (Vec::new(), Vec::new());
        for mel in mels {
            let (rows, bins, before) = (mel.rows(mel.heard()), mel.bins(), blocks.len());
            let pieces = rows.chunks(self.block * bins);
            blocks.extend(pieces.map(|rows| Block::alone(rows.to_vec(), bins)));
            steps.push(blocks[before..].iter().map(Block::steps).sum::<usize>());
        }
        let x = pool_pairs(&self.encoder.forward(&blocks)?, &steps)?; // (tokens, width)
        let x = self.proj.forward(&self.ln_post.forward(&x)?)?; // (tokens, hidden)
        split_rows(&x, steps.into_iter().map(|steps| steps / 2))
    }

    /// How many vectors this many samples become.
    fn tokens(&self, samples: usize) -> usize {
        let frames = audio::frames(samples);
        let (whole, rest) = (frames / self.block, frames % self.block);
        (whole * steps(self.block) + steps(rest)) / 2
    }
}

impl AudioEncoder for Tower {
    fn blueprint(&self) -> Option<AudioBlueprint> {
        Some(self.blueprint.clone())
    }

    /// A clip is one chunk, because the floor of its features depends on its loudest moment.
    fn audio_chunks(&self, clips: &[&Clip]) -> Result<AudioChunks> {
        AudioChunks::cut(clips, LEAST_SAMPLES..=self.longest, self.longest, |samples| {
            self.tokens(samples)
        })
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> Result<Vec<AudioEmbeds>> {
        let mels = self.mel.log_mels(sounds, self.longest);
        let vectors = self.forward(&mels)?;
        let heard = mels.into_iter().zip(vectors);
        Ok(heard
            .map(|(features, vectors)| AudioEmbeds { features, vectors })
            .collect())
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
