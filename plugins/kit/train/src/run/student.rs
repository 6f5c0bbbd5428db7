//! What a run needs from a model's plugin besides the engine.

use crate::{Engine, EngineSettings};
use plugin_api::{Lesson, LessonTokens, Result};
use std::path::PathBuf;

/// Picks an answer's next token by the logits behind its last one; none where it ends.
pub type Picker = Box<dyn FnMut(&mut [f32]) -> Option<u32>>;

/// A model that can be trained.
pub trait Student {
    /// The tokens of a lesson, and which of them are learnt.
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens>;

    /// The engine, its weights loaded.
    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>>;

    /// Files of the base that are copied beside the saved model, so that it can be loaded: tokenizer and template.
    fn companions(&self) -> Vec<PathBuf>;

    /// What picks the tokens of a greedy answer to this prompt.
    fn picker(&self, prompt: &[u32]) -> Picker;

    /// Whether a token ends an answer.
    fn ends(&self, token: u32) -> bool;

    /// The text of tokens, with special ones or without.
    fn text(&self, tokens: &[u32], specials: bool) -> Result<String>;
}
