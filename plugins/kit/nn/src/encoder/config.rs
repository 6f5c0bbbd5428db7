//! The encoder's part of `config.json`, in either of its two spellings.

use crate::{Activation, Error, Result, within};
use serde::Deserialize;

/// The shape of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Mel bins of a frame.
    pub bins: usize,
    pub width: usize,
    pub layers: usize,
    pub heads: usize,
    /// The inner width of the feed-forward.
    pub inner: usize,
    /// The most steps in a block.
    pub positions: usize,
    /// Whether the table of positions is in the checkpoint; otherwise it is computed.
    pub stored_positions: bool,
}

impl EncoderConfig {
    /// Samples in a block of all positions.
    pub fn samples(&self) -> usize {
        self.positions * 2 * audio::HOP
    }
}

/// The fields as published. Defaults are those of Whisper's large encoder, as in all classes of the reference.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct EncoderFields {
    num_mel_bins: Option<usize>,
    d_model: Option<usize>,
    hidden_size: Option<usize>,
    encoder_layers: Option<usize>,
    num_hidden_layers: Option<usize>,
    encoder_attention_heads: Option<usize>,
    num_attention_heads: Option<usize>,
    encoder_ffn_dim: Option<usize>,
    intermediate_size: Option<usize>,
    max_source_positions: Option<usize>,
    activation_function: Option<String>,
}

impl EncoderFields {
    /// The shape, with the defaults filled in. For a checkpoint that computes its positions, set
    /// [`EncoderConfig::stored_positions`] to false.
    pub fn settle(self) -> Result<EncoderConfig> {
        let size = |what: &str, older: Option<usize>, newer: Option<usize>, default, most| {
            within(&format!("audio {what}"), older.or(newer).unwrap_or(default), 1..=most)
        };
        let width = size("d_model", self.d_model, self.hidden_size, 1280, 65_536)?;
        let layers = size("encoder_layers", self.encoder_layers, self.num_hidden_layers, 32, 1024)?;
        let heads = size(
            "encoder_attention_heads",
            self.encoder_attention_heads,
            self.num_attention_heads,
            20,
            1024,
        )?;
        within("audio d_model modulo encoder_attention_heads", width % heads, 0..=0)?;
        within("audio d_model modulo 2", width % 2, 0..=0)?;
        let activation = self.activation_function.as_deref().unwrap_or("gelu");
        if Activation::from_config("activation_function", activation)? != Activation::GeluErf {
            return Err(Error::Config {
                what: "audio `activation_function` in config.json".to_owned(),
                got: format!("`{activation}`"),
                expected: "gelu".to_owned(),
            });
        }
        Ok(EncoderConfig {
            bins: size("num_mel_bins", self.num_mel_bins, None, 128, 1024)?,
            width,
            layers,
            heads,
            inner: size(
                "encoder_ffn_dim",
                self.encoder_ffn_dim,
                self.intermediate_size,
                5120,
                1_048_576,
            )?,
            positions: size("max_source_positions", self.max_source_positions, None, 1500, 65_536)?,
            stored_positions: true,
        })
    }
}
