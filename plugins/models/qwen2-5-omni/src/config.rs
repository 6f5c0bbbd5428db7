//! The thinker's part of `config.json` as published, with the defaults of the reference's classes.

use nn::dense::TextConfig;
use nn::encoder::{EncoderConfig, EncoderFields};
use nn::{Error, Extractor, Result, read_config, within};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// Samples of a clip that the reference's processor keeps, as published: five minutes.
const LONGEST: usize = 300 * audio::RATE;

/// A checkpoint's shape, with all defaults filled in.
#[derive(Debug, Clone)]
pub struct Config {
    pub audio: EncoderConfig,
    pub text: nn::dense::Config,
    /// Frames in a block of the encoder.
    pub block: usize,
    /// The length to which clips are cut, in samples.
    pub longest: usize,
    /// The token that marks the place of a clip.
    pub audio_token: u32,
    /// The tokens of images and videos, which are not supported.
    pub image_token: u32,
    pub video_token: u32,
    /// The end token if `generation_config.json` names none.
    pub stop_token: u32,
}

#[derive(Deserialize)]
struct Thinker {
    #[serde(default)]
    audio_config: Value,
    #[serde(default)]
    text_config: Value,
    audio_token_index: Option<u32>,
    image_token_index: Option<u32>,
    video_token_index: Option<u32>,
    eos_token_id: Option<u32>,
}

impl Config {
    /// Reads the config of a whole checkpoint or of the thinker alone.
    pub fn from_folder(folder: &Path) -> Result<Config> {
        let config: Value = read_config(folder, &["qwen2_5_omni", "qwen2_5_omni_thinker"])?;
        let malformed = |e: serde_json::Error| Error::Malformed {
            path: folder.join("config.json"),
            reason: e.to_string(),
        };
        let thinker = match config.get("thinker_config") {
            Some(thinker) => thinker.clone(),
            None => config,
        };
        let thinker: Thinker = serde_json::from_value(thinker).map_err(malformed)?;
        let half = thinker.audio_config["n_window"].as_u64().unwrap_or(100);
        let audio = match thinker.audio_config {
            Value::Null => EncoderFields::default(),
            fields => serde_json::from_value(fields).map_err(malformed)?,
        };
        let audio = EncoderConfig {
            stored_positions: false,
            ..audio.settle()?
        };
        let longest = Extractor::from_folder(folder, &audio)?.longest(LONGEST)?;
        let half = within(
            "n_window",
            usize::try_from(half).unwrap_or(usize::MAX),
            1..=audio.positions,
        )?;
        let text: TextConfig = serde_json::from_value(plain_text(thinker.text_config)).map_err(malformed)?;
        Ok(Config {
            block: 2 * half,
            longest,
            audio,
            text: text.settle()?,
            audio_token: thinker.audio_token_index.unwrap_or(151_646),
            image_token: thinker.image_token_index.unwrap_or(151_655),
            video_token: thinker.video_token_index.unwrap_or(151_656),
            stop_token: thinker.eos_token_id.unwrap_or(151_645),
        })
    }
}

/// The fields that make a Qwen2 of this class. Its rope has three axes, for time, height and width; for audio and text
/// they are equal, which is the ordinary rope.
fn plain_text(published: Value) -> Value {
    let mut text = json!({
        "vocab_size": 152_064, "hidden_size": 3584, "intermediate_size": 18_944, "num_hidden_layers": 28,
        "num_attention_heads": 28, "num_key_value_heads": 4, "rope_theta": 1e6,
    });
    if let (Some(text), Value::Object(published)) = (text.as_object_mut(), published) {
        text.extend(published);
        text.insert("model_type".to_owned(), "qwen2".into());
        for name in ["rope_scaling", "rope_parameters"] {
            let axes = text.get_mut(name).and_then(Value::as_object_mut);
            if let Some(axes) = axes.filter(|axes| axes.contains_key("mrope_section")) {
                axes.retain(|field, _| field == "rope_theta");
            }
        }
    } else {
        text["model_type"] = "qwen2".into();
    }
    text
}
