//! What a run needs of a model's plugin besides the engine.

use crate::{Engine, EngineSettings};
use plugin_api::{Lesson, LessonTokens, Result};
use std::path::PathBuf;

/// A model that can be made to learn.
pub trait Student {
    /// The tokens of a lesson, and which of them are learnt.
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens>;

    /// The engine, its weights loaded.
    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>>;

    /// Files of the base that go beside what is saved, so that others load it: the tokenizer's, and its template.
    fn companions(&self) -> Vec<PathBuf>;
}
