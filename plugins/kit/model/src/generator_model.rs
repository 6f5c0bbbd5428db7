//! A model whose answers all come from a [`Generator`].
//!
//! Such models differ in loading and in their card. What they do when they are called is the same, and implemented
//! here once.

use crate::training;
use generate::Generator;
use nn::Decoder;
use plugin_api::{
    Call, Error, Jobs, Learnt, Lesson, LessonCutter, LessonTokens, Lessons, Memory, Model, ModelCard, Plan, Prompt,
    PromptTokens, Reply, Result,
};
use serde_json::Value;
use std::path::Path;

/// A generator and its card.
pub struct GeneratorModel<D> {
    /// None until something needs the weights.
    generator: Option<Generator<D>>,
    card: ModelCard,
    hooks: Box<dyn ModelHooks<D>>,
}

/// What differs between models, and extra abilities.
pub trait ModelHooks<D: Decoder>: Send {
    /// Reads the weights of a model that was created without them.
    fn read(&mut self, _card: &mut ModelCard) -> Result<Generator<D>> {
        Err(Error::unsupported("this model has no weights to read"))
    }

    /// Answers [`Model::replay`].
    fn replay(&self, generator: &mut Generator<D>, request: &Value) -> Result<Value> {
        parity::trace(generator, request)
    }

    /// The setting that takes a checkpoint in which all weights of the language model were learnt, or why none does.
    fn learnt_weights(&self) -> Result<&'static str> {
        Ok("weights")
    }

    /// Answers [`Model::run_command`] without weights; `None` for a command that every model knows.
    fn run_command(&mut self, _command: &str, _request: &Value, _call: &mut Call) -> Option<Result<Value>> {
        None
    }
}

/// A model without hooks.
struct Plain;

impl<D: Decoder> ModelHooks<D> for Plain {}

impl<D: Decoder> GeneratorModel<D> {
    pub fn new(generator: Generator<D>, card: ModelCard) -> GeneratorModel<D> {
        GeneratorModel {
            generator: Some(generator),
            card,
            hooks: Box::new(Plain),
        }
    }

    /// The same with other hooks.
    pub fn with_hooks(self, hooks: impl ModelHooks<D> + 'static) -> GeneratorModel<D> {
        GeneratorModel {
            hooks: Box::new(hooks),
            ..self
        }
    }

    /// A model that reads its weights when something needs them.
    pub fn unread(hooks: impl ModelHooks<D> + 'static, card: ModelCard) -> GeneratorModel<D> {
        GeneratorModel {
            generator: None,
            card,
            hooks: Box::new(hooks),
        }
    }

    /// The generator; reads the weights first if that was not done.
    pub fn read(&mut self) -> Result<&mut Generator<D>> {
        self.parts().map(|(generator, _)| generator)
    }

    fn parts(&mut self) -> Result<(&mut Generator<D>, &mut dyn ModelHooks<D>)> {
        let generator = match self.generator.take() {
            Some(generator) => generator,
            None => self.hooks.read(&mut self.card)?,
        };
        Ok((self.generator.insert(generator), self.hooks.as_mut()))
    }
}

impl<D: Decoder + Send> Model for GeneratorModel<D> {
    fn card(&self) -> ModelCard {
        let generator = self.generator.as_ref();
        let mut card = self.card.clone();
        card.learns = generator.is_none_or(|it| it.decoder().blueprint().is_some());
        card.loras = generator.map(|it| it.loras().names()).unwrap_or_default();
        if card.device.as_deref() == Some("cpu") {
            let kernels = card.other.entry("kernels");
            kernels.or_insert_with(|| Value::from(nn::kernel_class()));
        }
        card
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        self.read()?.reply(prompt, call)
    }

    fn serve(&mut self, jobs: &mut Jobs) -> Result<()> {
        self.read()?.serve(jobs)
    }

    fn tokens(&mut self, prompt: &Prompt) -> Result<PromptTokens> {
        self.read()?.tokens(prompt)
    }

    fn lesson_tokens(&mut self, lesson: &Lesson) -> Result<LessonTokens> {
        let rate = self.card.sample_rate;
        training::lesson_tokens(self.read()?, rate, lesson)
    }

    fn lesson_cutter(&self) -> Option<LessonCutter> {
        self.generator.as_ref().map(training::cutter)
    }

    fn learn(&mut self, plan: &Plan, lessons: &mut Lessons) -> Result<Learnt> {
        let (generator, hooks) = self.parts()?;
        let setting = match plan.method.as_str() {
            "full" => Some(hooks.learnt_weights()?.to_owned()),
            _ => None,
        };
        let mut pupil = training::Pupil::of(generator)?;
        // Training reads the checkpoint in its own form, and needs the memory.
        self.generator = None;
        let learnt = train::run::learn(plan, lessons, &mut pupil)?;
        Ok(Learnt { setting, ..learnt })
    }

    fn add_lora(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.read()?.add_lora(name, folder)
    }

    fn memory(&self) -> Memory {
        self.generator.as_ref().map(Generator::memory).unwrap_or_default()
    }

    fn run_command(&mut self, command: &str, request: &Value, call: &mut Call) -> Result<Value> {
        match self.hooks.run_command(command, request, call) {
            Some(done) => done,
            None => {
                let (generator, hooks) = self.parts()?;
                let mut answer = crate::merge::run(generator, command, request, call)?;
                if let Ok(setting) = hooks.learnt_weights() {
                    answer["setting"] = setting.into();
                }
                Ok(answer)
            }
        }
    }

    fn replay(&mut self, request: &Value) -> Result<Value> {
        let (generator, hooks) = self.parts()?;
        match request["training"].as_str() {
            Some(folder) => training::trace(generator, Path::new(folder)),
            None => hooks.replay(generator, request),
        }
    }
}
