//! `config.json` as published, with the reference class's defaults for missing fields.

use nn::dense::TextConfig;
use nn::encoder::{EncoderConfig, EncoderFields};
use nn::{Error, Extractor, Result, read_config};
use serde::Deserialize;
use serde_json::json;
use std::path::Path;

/// A checkpoint's shape, with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    pub audio: EncoderConfig,
    pub text: nn::dense::Config,
    /// The token that marks the place of a clip.
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
        let config = read_config::<Published>(folder, &["qwen2_audio"])?.settle()?;
        Extractor::from_folder(folder, &config.audio)?.fills(&config.audio)?;
        Ok(config)
    }

    /// A published shape, or the smallest, for random weights.
    pub fn of_shape(name: &str) -> Result<Config> {
        let published = match name {
            "qwen2-audio-7b" => json!({
                "text_config": {
                    "model_type": "qwen2", "vocab_size": 156_032, "hidden_size": 4096, "intermediate_size": 11_008,
                    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
                    "max_position_embeddings": 8192, "rms_norm_eps": 1e-5, "rope_theta": 10_000,
                },
            }),
            "qwen2-audio-nano" => json!({
                "audio_config": {
                    "d_model": 64, "encoder_layers": 2, "encoder_attention_heads": 4, "encoder_ffn_dim": 128,
                    "max_source_positions": 50,
                },
                "text_config": {
                    "model_type": "qwen2", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128,
                    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
                    "max_position_embeddings": 40_960,
                },
                "audio_token_index": 400,
            }),
            _ => {
                return Err(Error::Config {
                    what: "setting `shape`".to_owned(),
                    got: format!("`{name}`"),
                    expected: "qwen2-audio-nano, qwen2-audio-7b".to_owned(),
                });
            }
        };
        let published: Published = serde_json::from_value(published).map_err(|e| Error::Malformed {
            path: name.into(),
            reason: e.to_string(),
        })?;
        published.settle()
    }
}

impl Published {
    fn settle(self) -> Result<Config> {
        let audio_token = self.audio_token_index.or(self.audio_token_id);
        Ok(Config {
            audio: self.audio_config.settle()?,
            text: self.text_config.settle()?,
            audio_token: audio_token.unwrap_or(151_646),
        })
    }
}
