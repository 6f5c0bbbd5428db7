//! The model of a plugin whose answers are all a generator's.
//!
//! What differs between such models is how they are loaded and what their card says; what they do when they are called
//! is the same, and stands here once.

use super::Generator;
use crate::Decoder;
use plugin_api::{
    Call, Jobs, Lesson, LessonCutter, LessonTokens, Memory, Model, ModelCard, Prompt, PromptTokens, Reply, Result,
};
use serde_json::Value;
use std::path::Path;

/// A generator and what it says of itself.
pub struct GeneratorModel<D> {
    generator: Generator<D>,
    card: ModelCard,
}

impl<D: Decoder> GeneratorModel<D> {
    pub fn new(generator: Generator<D>, card: ModelCard) -> GeneratorModel<D> {
        GeneratorModel { generator, card }
    }
}

impl<D: Decoder + Send> Model for GeneratorModel<D> {
    fn card(&self) -> ModelCard {
        ModelCard {
            loras: self.generator.loras().names(),
            ..self.card.clone()
        }
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        self.generator.reply(prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        self.generator.serve(jobs)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Result<PromptTokens> {
        self.generator.tokens(prompt)
    }

    fn lesson_tokens(&mut self, lesson: &Lesson) -> Result<LessonTokens> {
        self.generator.lesson_tokens(lesson)
    }

    fn lesson_cutter(&self) -> Option<LessonCutter> {
        Some(self.generator.lesson_cutter())
    }

    fn add_lora(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.generator.add_lora(name, folder)
    }

    fn memory(&self) -> Memory {
        self.generator.memory()
    }

    fn work(&mut self, verb: &str, request: &Value, call: &mut Call) -> Result<Value> {
        crate::merge::work(&self.generator, verb, request, call)
    }

    fn trace(&mut self, request: &Value) -> Result<Value> {
        crate::parity::trace(&self.generator, request)
    }
}
