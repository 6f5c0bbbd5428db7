//! What a language model is to the generator.

use crate::Step;
use candle_core::{Device, Tensor};
use plugin_api::{Error, Part, Prompt, Result};

/// A stack of layers with an embedding in front and an output layer behind.
pub trait Decoder: Send {
    /// Token ids (tokens) to vectors (tokens, hidden).
    fn embed(&self, ids: &Tensor) -> candle_core::Result<Tensor>;

    /// Vectors (tokens, hidden) through all layers and the last norm.
    fn forward(&self, x: &Tensor, step: &mut Step) -> candle_core::Result<Tensor>;

    /// Hidden vectors (tokens, hidden) to logits (tokens, vocabulary). Asked for only where they are needed.
    fn logits(&self, hidden: &Tensor) -> candle_core::Result<Tensor>;

    fn device(&self) -> &Device;

    /// The longest text, prompt and answer together, in tokens.
    fn context(&self) -> usize;

    /// Refuses a prompt with a part that the model cannot read. A model that hears has its own.
    fn check(&self, prompt: &Prompt) -> Result<()> {
        let is_clip = |part: &Part| matches!(part, Part::Clip { .. });
        match prompt.messages.iter().any(|message| message.parts.iter().any(is_clip)) {
            true => Err(Error::unsupported(
                "this model reads text alone, the prompt holds a clip",
            )),
            false => Ok(()),
        }
    }

    /// What goes into the model for a prompt whose text has these tokens. A model that hears puts its sound here.
    fn input(&self, _prompt: &Prompt, tokens: Vec<u32>) -> Result<Input> {
        Ok(Input::text(tokens))
    }
}

/// A prompt as it goes into a model.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// All tokens, placeholders of clips included.
    pub tokens: Vec<u32>,
    /// Vectors (tokens, hidden) that go in instead of the embedded tokens.
    pub embedded: Option<Tensor>,
    pub clip_tokens: usize,
    pub clip_seconds: f64,
}

impl Input {
    pub fn text(tokens: Vec<u32>) -> Input {
        Input {
            tokens,
            ..Input::default()
        }
    }
}
