//! How a registered model learns: by the engine of the kit, over the same checkpoint.

use generate::{Generator, Greedy};
use nn::{Blueprint, Decoder};
use plugin_api::{Error, Lesson, LessonCutter, LessonTokens, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use train::run::{Picker, Student};
use train::{Engine, EngineSettings, Trainer};

/// What of a model's folder goes beside what it learnt.
const COMPANIONS: [&str; 11] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
    "preprocessor_config.json",
    "processor_config.json",
];

/// What learning needs of a model. The weights that it answers with are not among it, and may be given back first.
pub(crate) struct Pupil {
    blueprint: Option<Blueprint>,
    placeholder: Option<u32>,
    cut: LessonCutter,
    greedy: Greedy,
}

impl Pupil {
    pub fn of<D: Decoder>(generator: &Generator<D>) -> Pupil {
        Pupil {
            blueprint: generator.decoder().blueprint().map(Blueprint::unshared),
            placeholder: generator.decoder().placeholder(),
            cut: generator.lesson_cutter(),
            greedy: Greedy::of(generator),
        }
    }

    fn blueprint(&self) -> Result<&Blueprint> {
        let blueprint = self.blueprint.as_ref();
        blueprint.ok_or_else(|| {
            Error::unsupported("this model can't learn: its layers are of a kind that is not learnt here")
        })
    }
}

impl Student for Pupil {
    fn cut(&mut self, lesson: &Lesson) -> Result<LessonTokens> {
        (self.cut)(lesson)
    }

    fn engine(&mut self, settings: &EngineSettings) -> Result<Box<dyn Engine>> {
        Ok(Box::new(Trainer::new(self.blueprint()?, self.placeholder, settings)?))
    }

    fn companions(&self) -> Vec<PathBuf> {
        let Some(blueprint) = &self.blueprint else {
            return Vec::new();
        };
        let folder = blueprint.model.folder();
        let paths = COMPANIONS.iter().map(|name| folder.join(name));
        paths.filter(|path| path.is_file()).collect()
    }

    fn picker(&self, prompt: &[u32]) -> Picker {
        Box::new(self.greedy.picker(prompt))
    }

    fn ends(&self, token: u32) -> bool {
        self.greedy.ends(token)
    }

    fn text(&self, tokens: &[u32], specials: bool) -> Result<String> {
        self.greedy.text(tokens, specials)
    }
}

/// What [`plugin_api::Model::replay`] answers to `{"training": FOLDER}`.
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
