//! Training of a registered model, with the kit's engine, from the same checkpoint.

use generate::{Generator, Greedy};
use nn::{Blueprint, Decoder};
use plugin_api::{Clip, Code, Error, Lesson, LessonCutter, LessonTokens, LoraUse, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use train::run::{Picker, Student};
use train::{Engine, EngineSettings, Trainer};

/// Files of a model's folder that are copied beside the trained weights.
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

/// What training needs of a model, without the weights for answering, which can be freed first.
pub(crate) struct Pupil {
    blueprint: Option<Blueprint>,
    placeholder: Option<u32>,
    cut: LessonCutter,
    greedy: Greedy,
}

impl Pupil {
    pub fn of<D: Decoder>(generator: &Generator<D>) -> Result<Pupil> {
        Ok(Pupil {
            blueprint: blueprint(generator)?.map(Blueprint::unshared),
            placeholder: generator.decoder().placeholder(),
            cut: cutter(generator),
            greedy: Greedy::of(generator),
        })
    }

    fn blueprint(&self) -> Result<&Blueprint> {
        let blueprint = self.blueprint.as_ref();
        blueprint.ok_or_else(|| {
            Error::unsupported(
                "this model cannot be trained: its layers are of a kind that is not supported in training",
            )
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

/// Tokenises lessons without the model. A place for a clip in a lesson without clips is refused.
pub(crate) fn cutter<D: Decoder>(generator: &Generator<D>) -> LessonCutter {
    let (cut, mark) = (generator.lesson_cutter(), generator.decoder().placeholder());
    Arc::new(move |lesson| {
        let tokens = cut(lesson)?;
        let silent = lesson.clips.is_empty() && lesson.clip_samples.is_empty();
        match mark.filter(|mark| silent && tokens.ids.contains(mark)) {
            Some(mark) => Err(Error::new(
                Code::DATA,
                format!("it has the token {mark}, the place of a clip, and no clip"),
            )),
            None => Ok(tokens),
        }
    })
}

/// The layers to train, and what LoRAs add to them: those with which the model answers if a prompt names none.
fn blueprint<D: Decoder>(generator: &Generator<D>) -> Result<Option<Blueprint>> {
    let loras = generator.loras();
    let added = loras.changes(&loras.choose(&LoraUse::AsLoaded)?);
    Ok(generator.decoder().blueprint().map(|blueprint| Blueprint {
        added: added
            .into_iter()
            .map(|(layer, factors)| (layer.name.clone(), factors))
            .collect(),
        ..blueprint
    }))
}

/// Answers [`plugin_api::Model::lesson_tokens`]. How many vectors a clip becomes follows from its length.
pub(crate) fn lesson_tokens<D: Decoder>(
    generator: &Generator<D>,
    rate: Option<u32>,
    lesson: &Lesson,
) -> Result<LessonTokens> {
    let tokens = generator.lesson_tokens(lesson)?;
    if lesson.clip_samples.is_empty() {
        return Ok(tokens);
    }
    let decoder = generator.decoder();
    let learns_from_clips = decoder.blueprint().is_some_and(|blueprint| blueprint.audio.is_some());
    let mark = decoder
        .placeholder()
        .filter(|_| learns_from_clips)
        .ok_or_else(train::run::deaf)?;
    let silence = |samples: &u64| Clip::new(rate.unwrap_or_default(), vec![0.0; *samples as usize]);
    let clips: Vec<Clip> = lesson.clip_samples.iter().map(silence).collect();
    let mut lengths = vec![0; clips.len()];
    for chunk in decoder.audio_chunks(&clips.iter().collect::<Vec<_>>())?.each {
        lengths[chunk.clip] += chunk.tokens;
    }
    train::run::expanded(tokens, mark, &lengths)
}

/// Answers [`plugin_api::Model::replay`] for `{"training": FOLDER}`.
pub(crate) fn trace<D: Decoder>(generator: &Generator<D>, folder: &Path) -> Result<Value> {
    let model = train::parity::Replayed {
        blueprint: blueprint(generator)?,
        placeholder: generator.decoder().placeholder(),
        read_wav: &|path| parity::read_wav(path).map_err(nn::Error::into_plugin_error),
    };
    let cases = train::parity::replay(&model, folder)?;
    match cases.is_empty() {
        true => Err(Error::msg(format!("`{}` holds no recorded training", folder.display()))),
        false => Ok(json!({ "ok": cases.iter().all(|case| case["ok"] == true), "cases": cases })),
    }
}
