//! What a run needs from a model's plugin besides the engine.

use crate::{Engine, EngineSettings};
use plugin_api::{Lesson, LessonTokens, Result};
use std::path::PathBuf;

/// A model that can be trained.
pub trait Student {
    /// The tokens of a lesson, and which of them are learnt.
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens>;

    /// The engine, its weights loaded.
    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>>;

    /// Files of the base that are copied beside the saved model, so that it can be loaded: tokenizer and template.
    fn companions(&self) -> Vec<PathBuf>;
}
