//! The loading of checkpoints that all models share.
//!
//! The order matters: cheap checks come first, and memory is estimated before any is allocated. A plugin adds its own
//! steps in between.

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

/// Registers a [`GeneratorModel`], like [`plugin_api::register_model!`]; the settings of [`Checkpoint`], [`Limits`]
/// and [`Precision`] follow the model's own.
#[macro_export]
macro_rules! register_generator {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* }) => {
        $crate::register_computed!($name, $about, $load, { $($own)* } {
            lora: folders, "LoRAs in PEFT's format, by name; all are used if a prompt chooses none";
            prefix_mb: integer neutral = 1024, "memory for prefixes that prompts share, such as worked examples; 0 reads every prompt separately";
        });
    };
}

/// Registers a model of a published shape with random weights, which has only the settings for measuring.
#[macro_export]
macro_rules! register_random {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* }) => {
        $crate::register_computed!($name, $about, $load, { $($own)* } {});
    };
}

/// The settings of both.
#[doc(hidden)]
#[macro_export]
macro_rules! register_computed {
    ($name:literal, $about:literal, $load:expr, { $($own:tt)* } { $($more:tt)* }) => {
        plugin_api::register_model!($name, $about, $load, {
            $($own)*
            dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, which is exact, and bf16 on a GPU that has it; on a CPU, bf16 only matrices are stored as bf16: half the memory, and faster; fp32, asked for by name, unpacks the blocks of a GGUF file";
            device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
            quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "block type of the language model's matrices; its token table and a tied head become q8_0, and an audio encoder stays as it is";
            max_batch: integer neutral, "concurrent answers; by default as many as memory allows, up to 32";
            step_tokens: integer neutral = 1024, "tokens in one pass through the model; a longer prompt is read in several";
            $($more)*
        });
    };
}

/// A checkpoint that settings name, while it is loaded.
pub struct Checkpoint<'s> {
    settings: &'s Settings,
    /// A folder, or a GGUF file.
    pub folder: PathBuf,
    pub device: Device,
    pub precision: Precision,
    pub limits: Limits,
    /// The publisher's defaults for answers.
    pub defaults: Defaults,
    plain: &'static [&'static str],
}

impl<'s> Checkpoint<'s> {
    /// The checkpoint that the setting `weights` names.
    pub fn open(settings: &'s Settings) -> plugin_api::Result<Checkpoint<'s>> {
        let folder = settings.path("weights")?;
        if folder.is_file() && !checkpoint::gguf::find(&folder).is_ok_and(|found| found.is_some()) {
            return Err(Error::NoFolder { path: folder }.into_plugin_error());
        }
        let defaults = Defaults::from_folder(&folder).map_err(Error::into_plugin_error)?;
        Checkpoint::of(settings, folder, defaults)
    }

    /// A checkpoint without a folder; `folder` names it in messages.
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

    /// Never quantises weights whose names begin with one of `plain`.
    pub fn keeping(self, plain: &'static [&'static str]) -> Checkpoint<'s> {
        Checkpoint { plain, ..self }
    }

    /// Applies a reader to the folder, with its errors turned into the plugin's.
    pub fn read<T>(&self, read: impl FnOnce(&Path) -> Result<T>) -> plugin_api::Result<T> {
        read(&self.folder).map_err(Error::into_plugin_error)
    }

    /// Its tokenizer and chat template, for an embedding table with this many rows, with the settings `thinking` and
    /// `system` if the model has them.
    pub fn chat(&self, rows: usize) -> plugin_api::Result<Chat> {
        self.chat_that(|chat| chat.tokenizer().check_rows(rows).map(|()| chat))
    }

    /// The same for a family that shares a tokenizer whose last tokens are missing in some members' embedding tables.
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

    /// Its weights, if they fit into memory with the caches of an answer, whose size `cache_bytes` computes for a type
    /// and a number of tokens. Weights whose names begin with one of `left_out` do not count: they will not be loaded.
    pub fn weights(
        &self,
        left_out: &[&str],
        cache_bytes: impl FnOnce(DType, usize) -> u64,
    ) -> plugin_api::Result<Weights> {
        self.weights_with(None, left_out, cache_bytes)
    }

    /// The same, with tensors replaced by those of the same names in a file saved by PyTorch.
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

    /// The memory of its model, without loading it, as [`Checkpoint::weights`] would check it.
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

    /// The model, with the LoRAs of the settings. `card` has the model's own entries.
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

    /// The same for a model of several parts, with the language model's weights first: returns the generator and the
    /// card.
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
