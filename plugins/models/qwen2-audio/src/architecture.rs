//! Qwen2-Audio is the shared audio tower with a projector of one layer, over one window of a clip.

use crate::config::Config;
use nn::Weights;
use nn::dense::{AudioLanguageModel, AudioTower, TowerShape};

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<AudioTower>> {
    let shape = TowerShape {
        audio: &config.audio,
        text: &config.text,
        audio_token: config.audio_token,
        windows: 1,
        projector: &["linear"],
        bias: true,
        activation: None,
    };
    AudioTower::with_language_model(shape, weights)
}
