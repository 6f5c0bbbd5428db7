//! Audio Flamingo 3 is the shared audio tower with a projector of two layers, over many windows of a clip.

use crate::config::Config;
use nn::Weights;
use nn::dense::{AudioLanguageModel, AudioTower, TowerShape};

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<AudioTower>> {
    let shape = TowerShape {
        audio: &config.audio,
        text: &config.text,
        audio_token: config.audio_token,
        windows: config.windows,
        projector: &["linear_1", "linear_2"],
        bias: config.projector_bias,
        activation: Some(config.projector_activation),
    };
    AudioTower::with_language_model(shape, weights)
}
