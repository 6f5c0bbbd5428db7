//! What is Qwen2-Audio's own: a projector of one layer, and clips of one window. Everything else is the shared audio
//! tower.

use crate::config::Config;
use nn::dense::{AudioLanguageModel, AudioTower};
use nn::{Linear, Weights};

pub type Tower = AudioTower<Linear>;

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<Tower>> {
    let (width, hidden) = (config.audio.width, config.text.hidden_size);
    AudioTower::with_language_model(
        (&config.audio, 1),
        (&config.text, config.audio_token),
        weights,
        |weights| Linear::load(&weights.at("linear"), width, hidden, true),
    )
}
