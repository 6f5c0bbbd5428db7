//! Qwen2-Audio: Whisper's encoder, every two of its steps averaged, a projection, and Qwen2's language model.
//!
//! A clip longer than the encoder's thirty seconds is cut there, as the reference does; the reply then says so in a
//! flag. `golden/README.md` says how the recorded checkpoints were made.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published

use config::Config;
use nn::llama::Hearing;
use nn::{Defaults, Generator, GeneratorModel, Limits, Weights, device};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate, register_model};
use text::Chat;

register_model!("qwen2-audio", "Qwen2-Audio: hears clips of up to 30 seconds", load, {
    weights: weights required, "folder or hub id of a checkpoint: Qwen2-Audio";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, which is exact, and bf16 on a GPU that has it; on a CPU, bf16 is what matrices are stored as: half the memory, and faster";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what the language model's matrices are stored as; its token table is q8_0 then, and the audio encoder stays as it is";
    lora: folders, "LoRAs in PEFT's format, by name; all of them are on where a prompt chooses none";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
    prefix_mb: integer = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("qwen2-audio", estimate);
export_plugin!();

/// How a clip is spelled in a prompt without a chat template, as the base model wants it.
const CLIP: &str = "<|audio_bos|><|AUDIO|><|audio_eos|>";

fn load(settings: &Settings) -> Result<GeneratorModel<Hearing<architecture::Tower>>> {
    let folder = settings.path("weights")?;
    let limits = Limits::from_settings(settings)?;
    let (config, weights, cache) = open(settings)?;
    let chat = Chat::from_folder(&folder)
        .map_err(text::Error::told)?
        .with_clip_words(CLIP);
    chat.tokenizer()
        .check_rows(config.text.vocab_size)
        .map_err(text::Error::told)?;
    let defaults = Defaults::from_folder(&folder).map_err(nn::Error::told)?;
    let weights = weights.fitting(&[], cache).map_err(nn::Error::told)?;
    let decoder = architecture::load(&config, &weights).map_err(nn::Error::told)?;

    let card = ModelCard {
        context: u32::try_from(config.text.max_position_embeddings).ok(),
        thinks: chat.thinks(),
        batch: limits.rows as u32,
        parameters: Some(weights.loaded_values()),
        precision: Some(weights.precision()),
        device: Some(device::name(weights.device())),
        longest_clip: Some(config.audio.samples() as f64 / audio::RATE as f64),
        ..ModelCard::audio("qwen2-audio", audio::RATE as u32).with_choices()
    };
    let loras = weights.loras();
    loras.read_all(settings)?;
    let generator = Generator::new(decoder, chat, defaults, limits, weights.loaded_bytes()).with_loras(loras);
    Ok(GeneratorModel::new(generator, card))
}

/// What the settings name: nothing of the weights is read yet. Last, what the cache of one answer takes.
fn open(settings: &Settings) -> Result<(Config, Weights, u64)> {
    let config = Config::from_folder(&settings.path("weights")?).map_err(nn::Error::told)?;
    let weights = Weights::from_settings(settings)?;
    let cache = config.text.cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
    Ok((config, weights, cache))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let (_, weights, cache) = open(settings)?;
    Ok(weights.foretold(&[], cache, &Limits::from_settings(settings)?))
}
