//! `config.json` and `processor_config.json` as published, with the defaults of the reference's classes.

use nn::dense::TextConfig;
use nn::encoder::{EncoderConfig, EncoderFields};
use nn::{Activation, Extractor, Result, read_config, read_json, within};
use serde::Deserialize;
use std::path::Path;

/// A checkpoint's shape, with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    pub audio: EncoderConfig,
    pub text: nn::dense::Config,
    /// The token that marks the place of a clip.
    pub audio_token: u32,
    pub projector_bias: bool,
    pub projector_activation: Activation,
    /// The most windows of the encoder that a clip is cut into.
    pub windows: usize,
}

#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    audio_config: EncoderFields,
    text_config: TextConfig,
    audio_token_id: Option<u32>,
    projector_bias: Option<bool>,
    projector_hidden_act: Option<String>,
}

/// The fields of the reference's processor.
#[derive(Default, Deserialize)]
struct Processor {
    /// The longest clip, in seconds.
    max_audio_len: Option<f64>,
}

impl Config {
    pub fn from_folder(folder: &Path) -> Result<Config> {
        let published: Published = read_config(folder, &["audioflamingo3"])?;
        let path = folder.join("processor_config.json");
        let processor: Processor = match path.is_file() {
            true => read_json(&path)?,
            false => Processor::default(),
        };
        let audio = published.audio_config.settle()?;
        Extractor::from_folder(folder, &audio)?.fills(&audio)?;
        let seconds = processor.max_audio_len.unwrap_or(600.0);
        let windows = (seconds * audio::RATE as f64 / audio.samples() as f64) as usize;
        Ok(Config {
            text: published.text_config.settle()?,
            audio_token: published.audio_token_id.unwrap_or(151_669),
            projector_bias: published.projector_bias.unwrap_or(true),
            projector_activation: Activation::from_config(
                "projector_hidden_act",
                published.projector_hidden_act.as_deref().unwrap_or("gelu"),
            )?,
            windows: within("max_audio_len, in windows of the encoder,", windows, 1..=10_000)?,
            audio,
        })
    }
}
