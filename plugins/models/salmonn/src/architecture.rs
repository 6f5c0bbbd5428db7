//! The parts in the order a clip meets them: two encoders, the Q-Former, the language model.

use crate::beats::Beats;
use crate::connector::Connector;
use crate::files::Files;
use audio::{LogMel, MelExtractor, RATE};
use candle_core::Tensor;
use nn::dense::{self, AudioEncoder, AudioLanguageModel};
use nn::encoder::{Block, EPS, Encoder};
use nn::{AudioChunks, AudioEmbeds, LayerNorm, Result, Weights};
use plugin_api::Clip;
use std::sync::Arc;

/// The id that marks the place of sound in a prompt. The model has no token for it, so it is that of the unknown
/// token.
pub const PLACEHOLDER: u32 = 0;
/// A shorter clip is padded with silence.
const SHORTEST: usize = RATE;

pub fn load(files: &Files) -> Result<AudioLanguageModel<TwoEars>> {
    Ok(AudioLanguageModel {
        audio_encoder: Arc::new(TwoEars::load(files)?),
        language_model: dense::Decoder::load(&files.vicuna, &files.vicuna_weights)?,
        placeholder: PLACEHOLDER,
    })
}

/// The encoder for speech, the encoder for other sound, and the Q-Former that combines them.
pub struct TwoEars {
    mel: MelExtractor,
    whisper: Encoder,
    whisper_norm: LayerNorm,
    beats: Beats,
    connector: Connector,
}

/// The intermediate results of a clip.
pub struct Stages {
    pub mel: LogMel,
    pub fbank: Vec<f32>, // (frames, 128)
    pub speech: Tensor,  // (steps, width)
    pub sound: Tensor,   // (steps, width)
    pub tokens: Tensor,  // (tokens, hidden)
}

impl TwoEars {
    fn load(files: &Files) -> Result<TwoEars> {
        let whisper = encoder_in(&files.whisper_weights);
        let (speech, hidden) = (files.whisper.width, files.vicuna.hidden_size);
        Ok(TwoEars {
            mel: MelExtractor::new(files.whisper.bins),
            whisper: Encoder::load(&files.whisper, &whisper)?,
            whisper_norm: LayerNorm::load(&whisper.at("layer_norm"), speech, EPS)?,
            beats: Beats::load(&files.beats, &files.beats_weights)?,
            connector: Connector::load(
                &files.connector,
                &files.trained,
                speech,
                files.beats.encoder_embed_dim,
                hidden,
            )?,
        })
    }

    /// The length to which clips are cut, in samples.
    pub fn window(&self) -> usize {
        self.whisper.config().samples()
    }

    /// Turns samples into vectors, with intermediate results.
    pub fn stages(&self, samples: &[f32]) -> candle_core::Result<Stages> {
        let samples = &samples[..samples.len().min(self.window())];
        let mel = self.mel.log_mel(samples, self.window());
        let mut padded = samples.to_vec();
        padded.resize(samples.len().max(SHORTEST), 0.0);
        let fbank = self.beats.features(&padded);
        let speech = self.whisper.forward(&[Block::padded(&mel)])?;
        let speech = self.whisper_norm.forward(&speech)?;
        let sound = self.beats.forward(&fbank)?;
        let tokens = self.connector.forward(&speech, &sound)?;
        Ok(Stages {
            mel,
            fbank,
            speech,
            sound,
            tokens,
        })
    }
}

/// Whisper's encoder, in a checkpoint of the whole model or of its encoder alone.
pub fn encoder_in(weights: &Weights) -> Weights {
    let places = ["model.encoder", "encoder"];
    let found = places.into_iter().find(|place| weights.at(place).has("conv1.weight"));
    weights.at(found.unwrap_or(places[0]))
}

impl AudioEncoder for TwoEars {
    fn audio_chunks(&self, clips: &[&Clip]) -> plugin_api::Result<AudioChunks> {
        let speech = self.whisper.config().positions;
        let tokens = |samples: usize| self.connector.tokens(speech, self.beats.steps(samples.max(SHORTEST)));
        AudioChunks::cut(clips, 1..=self.window(), self.window(), tokens)
    }

    fn encode_audio(&self, sounds: &[&[f32]]) -> plugin_api::Result<Vec<AudioEmbeds>> {
        let heard = sounds.iter().map(|samples| {
            let stages = self.stages(samples)?;
            Ok(AudioEmbeds {
                features: stages.mel,
                vectors: stages.tokens,
            })
        });
        heard.collect()
    }
}
