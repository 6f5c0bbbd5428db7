//! What loading a checkpoint has in common, whatever the model.
//!
//! The order matters: what is cheap to find wrong comes first, and memory is counted before any of it is taken. A
//! plugin adds what is particular to it in between.

use crate::GeneratorModel;
use candle_core::{DType, Device};
use checkpoint::{Error, Result, Weights};
use generate::{Defaults, Generator, Limits};
use kernels::device;
use kernels::precision::Precision;
use nn::{Decoder, Loras};
use plugin_api::{Estimate, ModelCard, Settings};
use std::path::{Path, PathBuf};
use text::Chat;

/// Announces a model that is a [`GeneratorModel`]: as [`plugin_api::register_model!`] does, with the settings that
/// [`Checkpoint`], [`Limits`] and [`Precision`] read behind its own.
#[macro_export]
macro_rules! register_generator {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* }) => {
        $crate::register_computed!($name, $about, $load, { $($own)* } {
            lora: folders, "LoRAs in PEFT's format, by name; all of them are on where a prompt chooses none";
            prefix_mb: integer neutral = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
        });
    };
}

/// Announces one of a published shape with weights that nobody trained: it has what there is to measure.
#[macro_export]
macro_rules! register_random {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* }) => {
        $crate::register_computed!($name, $about, $load, { $($own)* } {});
    };
}

/// What both have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! register_computed {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* } { $($more:tt)* }) => {
        plugin_api::register_model!($name, $about, $load, {
            $($own)*
            dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, which is exact, and bf16 on a GPU that has it; on a CPU, bf16 is what matrices are stored as: half the memory, and faster; fp32, asked for by name, unpacks the blocks of a GGUF file";
            device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
            quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what the language model's matrices are stored as; its token table and a tied head are q8_0 then, and an encoder of sound stays as it is";
            max_batch: integer neutral, "answers worked on at a time; if left out, as many as memory allows, up to 32";
            step_tokens: integer neutral = 1024, "tokens in one pass through the model; a longer prompt is read in several";
            $($more)*
        });
    };
}

/// A checkpoint that settings name, on its way to becoming a model.
pub struct Checkpoint<'s> {
    settings: &'s Settings,
    /// Where it lies: a folder, or a GGUF file.
    pub folder: PathBuf,
    pub device: Device,
    pub precision: Precision,
    pub limits: Limits,
    /// What its publisher wants of answers.
    pub defaults: Defaults,
    plain: &'static [&'static str],
}

impl<'s> Checkpoint<'s> {
    /// The one that the setting `weights` names.
    pub fn open(settings: &'s Settings) -> plugin_api::Result<Checkpoint<'s>> {
        let folder = settings.path("weights")?;
        if folder.is_file() && !checkpoint::gguf::find(&folder).is_ok_and(|found| found.is_some()) {
            return Err(Error::NoFolder { path: folder }.into_plugin_error());
        }
        let defaults = Defaults::from_folder(&folder).map_err(Error::into_plugin_error)?;
        Checkpoint::of(settings, folder, defaults)
    }

    /// One that is made of other things than a folder; `folder` is what messages call it.
    pub fn of(settings: &'s Settings, folder: PathBuf, defaults: Defaults) -> plugin_api::Result<Checkpoint<'s>> {
        let device = device::from_settings(settings)?;
        Ok(Checkpoint {
            settings,
            folder,
            precision: Precision::from_settings(settings, &device)?,
            device,
            limits: Limits::from_settings(settings)?,
            defaults,
            plain: &[],
        })
    }

    /// The same, of which the weights whose names begin like one of `plain` are never quantised.
    pub fn keeping(self, plain: &'static [&'static str]) -> Checkpoint<'s> {
        Checkpoint { plain, ..self }
    }

    /// What a reader of one of its files makes of it.
    pub fn read<T>(&self, read: impl FnOnce(&Path) -> Result<T>) -> plugin_api::Result<T> {
        read(&self.folder).map_err(Error::into_plugin_error)
    }

    /// Its tokenizer and chat template, for a table with that many rows, with the settings `thinking` and `system`
    /// where the model has them.
    pub fn chat(&self, rows: usize) -> plugin_api::Result<Chat> {
        self.chat_that(|chat| chat.tokenizer().check_rows(rows).map(|()| chat))
    }

    /// The same for a family that shares a tokenizer, whose last tokens only some of the tables have rows for.
    pub fn chat_of_family(&self, rows: usize) -> plugin_api::Result<Chat> {
        self.chat_that(|chat| chat.with_rows(rows))
    }

    fn chat_that(&self, fits: impl FnOnce(Chat) -> text::Result<Chat>) -> plugin_api::Result<Chat> {
        let chat = Chat::from_folder(&self.folder)
            .and_then(fits)
            .map_err(text::Error::into_plugin_error)?;
        let (thinking, system) = (self.settings.get("thinking")?, self.settings.get("system")?);
        Ok(chat.with_thinking(thinking).with_system(system))
    }

    /// Its weights, if there is memory for them and for the caches of an answer, which `cache_bytes` counts for a type
    /// and this many tokens. Those whose names begin like one of `left_out` will not be asked for.
    pub fn weights(
        &self,
        left_out: &[&str],
        cache_bytes: impl FnOnce(DType, usize) -> u64,
    ) -> plugin_api::Result<Weights> {
        self.weights_with(None, left_out, cache_bytes)
    }

    /// The same, where the tensors of a file that PyTorch saved count instead of those of the same names.
    pub fn weights_with(
        &self,
        changes: Option<&Path>,
        left_out: &[&str],
        cache_bytes: impl FnOnce(DType, usize) -> u64,
    ) -> plugin_api::Result<Weights> {
        self.read(|folder| {
            let mut weights = self.unread(folder)?;
            if let Some(changes) = changes {
                weights = weights.changed_by(changes)?;
            }
            let cache = cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
            weights.fitting(left_out, cache)
        })
    }

    /// What a model of it will take, without loading it: as [`Checkpoint::weights`] would check it.
    pub fn estimate(
        &self,
        left_out: &[&str],
        cache_bytes: impl FnOnce(DType, usize) -> u64,
    ) -> plugin_api::Result<Estimate> {
        let weights = self.read(|folder| self.unread(folder))?;
        let cache = cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
        Ok(weights.memory_estimate(left_out, cache, Limits::PLANNED_TOKENS, self.limits.rows))
    }

    fn unread(&self, folder: &Path) -> Result<Weights> {
        let weights = Weights::open(folder, self.precision.dtype, &self.device)?;
        let weights = weights.quantised(self.precision.quant).keeping(self.plain);
        Ok(weights.unpacked(self.precision.unpack))
    }

    /// The model, with the LoRAs that settings name. `card` says what is particular to it.
    pub fn model<D: Decoder>(
        self,
        decoder: D,
        chat: Chat,
        weights: &Weights,
        mut card: ModelCard,
    ) -> plugin_api::Result<GeneratorModel<D>> {
        let generator = self.generator(decoder, chat, &[weights], &mut card)?;
        Ok(GeneratorModel::new(generator, card))
    }

    /// The same for a model of several parts, its language model's weights first: the generator, and what is to be said
    /// of it on the card.
    pub fn generator<D: Decoder>(
        self,
        decoder: D,
        chat: Chat,
        weights: &[&Weights],
        card: &mut ModelCard,
    ) -> plugin_api::Result<Generator<D>> {
        let (bytes, values) = Weights::loaded(weights);
        card.context = u32::try_from(decoder.context()).ok();
        card.thinks = chat.thinks();
        card.batch = self.limits.rows as u32;
        card.parameters = Some(values);
        card.precision = weights.first().map(|weights| weights.precision());
        card.device = Some(device::name(&self.device));
        card.scores_choices = true;
        let last_thought: Option<String> = self.settings.get("last_thought")?;
        let generator = Generator::new(decoder, chat, self.defaults, self.limits, bytes);
        let generator = generator.with_last_thought(last_thought.as_deref());
        let Some(loras) = weights.first().map(|weights| Loras::of(weights)) else {
            return Ok(generator);
        };
        loras.read_all(self.settings)?;
        Ok(generator.with_loras(&loras))
    }
}
