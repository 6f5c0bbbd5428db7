//! `config.json` as published, with the defaults of the reference's class where a file leaves something out.

use nn::encoder::{EncoderConfig, EncoderFields};
use nn::llama::TextConfig;
use nn::{Result, read_config};
use serde::Deserialize;
use std::path::Path;

/// A checkpoint's shape, with nothing left open.
#[derive(Debug, Clone)]
pub struct Config {
    pub audio: EncoderConfig,
    pub text: nn::llama::Config,
    /// The token that stands for sound.
    pub audio_token: u32,
}

#[derive(Deserialize)]
struct Published {
    #[serde(default)]
    audio_config: EncoderFields,
    text_config: TextConfig,
    audio_token_index: Option<u32>,
    audio_token_id: Option<u32>,
}

impl Config {
    pub fn from_folder(folder: &Path) -> Result<Config> {
        let published: Published = read_config(folder, &["qwen2_audio"])?;
        Ok(Config {
            audio: published.audio_config.settle()?,
            text: published.text_config.settle()?,
            audio_token: published
                .audio_token_index
                .or(published.audio_token_id)
                .unwrap_or(151_646),
        })
    }
}
