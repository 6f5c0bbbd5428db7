//! Qwen2-Audio: Whisper's encoder, every two of its steps averaged, a projection, and Qwen2's language model.
//!
//! A clip longer than the encoder's thirty seconds is cut there, as the reference does; the reply then says so in a
//! flag. `golden/README.md` says how the recorded checkpoints were made.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published

use candle_core::Device;
use config::Config;
use nn::llama::Hearing;
use nn::{Defaults, Generator, Limits, Precision, Weights};
use plugin_api::{
    Call, Jobs, Lesson, LessonTokens, Memory, Model, ModelCard, Prompt, PromptTokens, Reply, Result, Settings,
    export_plugin, register_model,
};
use serde_json::Value;
use std::path::Path;
use text::Chat;

register_model!("qwen2-audio", "Qwen2-Audio: hears clips of up to 30 seconds", Qwen2Audio::load, {
    weights: weights required, "folder or hub id of a checkpoint: Qwen2-Audio";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32, which is exact; on a CPU, bf16 is what matrices are stored as: half the memory, and faster";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what the language model's matrices are stored as; its token table is q8_0 then, and the audio encoder stays as it is";
    lora: folders, "LoRAs in PEFT's format, by name; all of them are on where a prompt chooses none";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
    prefix_mb: integer = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
export_plugin!();

/// How a clip is spelled in a prompt without a chat template, as the base model wants it.
const CLIP: &str = "<|audio_bos|><|AUDIO|><|audio_eos|>";

struct Qwen2Audio {
    generator: Generator<Hearing<architecture::Tower>>,
    card: ModelCard,
}

impl Qwen2Audio {
    fn load(settings: &Settings) -> Result<Qwen2Audio> {
        let folder = settings.path("weights")?;
        let limits = Limits::from_settings(settings)?;
        let precision = Precision::from_settings(settings)?;

        let config = Config::from_folder(&folder).map_err(nn::Error::told)?;
        let chat = Chat::from_folder(&folder)
            .map_err(text::Error::told)?
            .with_clip_words(CLIP);
        chat.tokenizer()
            .check_rows(config.text.vocab_size)
            .map_err(text::Error::told)?;
        let defaults = Defaults::from_folder(&folder).map_err(nn::Error::told)?;
        let weights = Weights::open(&folder, precision.dtype, &Device::Cpu).map_err(nn::Error::told)?;
        let cache = config.text.cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
        let weights = weights.quantised(precision.quant).fitting(&[], cache);
        let weights = weights.map_err(nn::Error::told)?;
        let decoder = architecture::load(&config, &weights).map_err(nn::Error::told)?;

        let card = ModelCard {
            context: u32::try_from(config.text.max_position_embeddings).ok(),
            thinks: chat.thinks(),
            batch: limits.rows as u32,
            parameters: Some(weights.loaded_values()),
            precision: Some(weights.precision()),
            device: Some("cpu".to_owned()),
            longest_clip: Some(config.audio.samples() as f64 / audio::RATE as f64),
            ..ModelCard::audio("qwen2-audio", audio::RATE as u32).with_choices()
        };
        let loras = weights.loras();
        loras.read_all(settings)?;
        let generator = Generator::new(decoder, chat, defaults, limits, weights.loaded_bytes()).with_loras(loras);
        Ok(Qwen2Audio { generator, card })
    }
}

impl Model for Qwen2Audio {
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

    fn add_lora(&mut self, name: &str, folder: &Path) -> Result<()> {
        self.generator.add_lora(name, folder)
    }

    fn memory(&self) -> Memory {
        self.generator.memory()
    }

    fn work(&mut self, verb: &str, request: &Value, call: &mut Call) -> Result<Value> {
        nn::merge::work(&self.generator, verb, request, call)
    }

    fn trace(&mut self, request: &Value) -> Result<Value> {
        nn::parity::trace(&self.generator, request)
    }
}
