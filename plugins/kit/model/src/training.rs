//! How a registered model learns: by the engine of the kit, over the same checkpoint.

use generate::Generator;
use nn::{Blueprint, Decoder};
use plugin_api::{Error, Learnt, Lesson, LessonCutter, LessonTokens, Lessons, Plan, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use train::run::Student;
use train::{Engine, EngineSettings, Trainer};

/// Files of a base that go beside what was learnt, so that others load it: the tokenizer's, its template, and what says
/// how sound is read and answers are drawn.
const COMPANIONS: [&str; 13] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
    "generation_config.json",
    "config.json",
];

/// A model on its way from answering to learning.
pub(crate) struct Pupil {
    blueprint: Blueprint,
    placeholder: Option<u32>,
    cutter: LessonCutter,
    folder: PathBuf,
    full: bool,
}

impl Pupil {
    /// What learning needs of a model that answers.
    pub fn of<D: Decoder>(generator: &Generator<D>) -> Result<Pupil> {
        let Some(blueprint) = generator.decoder().blueprint() else {
            return Err(Error::unsupported("this model has layers that cannot learn yet"));
        };
        Ok(Pupil {
            folder: blueprint.model.folder().to_owned(),
            blueprint,
            placeholder: generator.decoder().placeholder(),
            cutter: generator.lesson_cutter(),
            full: false,
        })
    }

    pub fn learn(mut self, plan: &Plan, lessons: &Lessons) -> Result<Learnt> {
        self.full = plan.method == "full";
        train::run::learn(plan, lessons, &mut self)
    }
}

impl Student for Pupil {
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens> {
        (self.cutter)(lesson)
    }

    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Trainer::new(&self.blueprint, self.placeholder, settings)?))
    }

    fn companions(&self) -> Vec<PathBuf> {
        let wanted = |name: &&&str| match **name {
            // A LoRA folder with a `config.json` would pass for a checkpoint; its own settings the engine writes.
            "config.json" | "generation_config.json" => self.full,
            _ => true,
        };
        let files = COMPANIONS.iter().filter(wanted).map(|name| self.folder.join(name));
        files.filter(|path| path.is_file()).collect()
    }
}

/// What [`plugin_api::Model::trace`] answers to `{"training": FOLDER}`.
pub(crate) fn trace<D: Decoder>(generator: &Generator<D>, folder: &Path) -> Result<Value> {
    let model = train::parity::Replayed {
        blueprint: generator.decoder().blueprint(),
        placeholder: generator.decoder().placeholder(),
        read_wav: &|path| parity::read_wav(path).map_err(nn::Error::into_plugin_error),
    };
    let cases = train::parity::replay(&model, folder)?;
    match cases.is_empty() {
        true => Err(Error::msg(format!("`{}` holds no recorded training", folder.display()))),
        false => Ok(json!({ "ok": cases.iter().all(|case| case["ok"] == true), "cases": cases })),
    }
}
