//! What is Audio Flamingo 3's own: a projector of two layers. Everything else is the shared audio tower.

use crate::config::Config;
use candle_core::Tensor;
use nn::dense::{self, AudioLanguageModel, AudioTower};
use nn::{Activation, Linear, Weights};

pub type Tower = AudioTower<Projector>;

pub fn load(config: &Config, weights: &Weights) -> nn::Result<AudioLanguageModel<Tower>> {
    let (width, hidden, bias) = (config.audio.width, config.text.hidden_size, config.projector_bias);
    AudioTower::with_language_model(
        (&config.audio, config.windows),
        (&config.text, config.audio_token),
        weights,
        |weights| {
            Ok(Projector {
                linear_1: Linear::load(&weights.at("linear_1"), width, hidden, bias)?,
                activation: config.projector_activation,
                linear_2: Linear::load(&weights.at("linear_2"), hidden, hidden, bias)?,
            })
        },
    )
}

pub struct Projector {
    linear_1: Linear,
    activation: Activation,
    linear_2: Linear,
}

impl dense::Projector for Projector {
    fn project(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let x = self.activation.forward(&self.linear_1.forward(x)?)?;
        self.linear_2.forward(&x)
    }
}
