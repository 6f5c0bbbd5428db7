//! Gemma 3: the text models (270m, 1B), and the text towers of the multimodal ones (4B, 12B, 27B).
//!
//! Most layers look back only as far as a window, with a rope of their own; every sixth one looks at everything. Each
//! half of a layer is normalised in front and behind, by weights that are stored as their distance from one. The
//! vision tower of a multimodal checkpoint is passed over: its tensors are never asked for.
//! `golden/make.py` names the transformers version that the recorded logits come from.

pub mod architecture; // the layers, in the order a token meets them
pub mod config; // config.json as published

use config::Config;
use nn::{Defaults, Generator, GeneratorModel, Limits, Weights, device};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate, register_model};
use text::Chat;

register_model!("gemma", "Gemma 3 text models, and the text towers of its multimodal ones", load, {
    weights: weights required, "folder, GGUF file or hub id of a Gemma 3 checkpoint";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, which is exact, and bf16 on a GPU that has it; on a CPU, bf16 is what matrices are stored as: half the memory, and faster";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what matrices are stored as; the token table and a tied head are q8_0 in any case";
    lora: folders, "LoRAs in PEFT's format, by name; all of them are on where a prompt chooses none";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
    prefix_mb: integer = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("gemma", estimate);
export_plugin!();

/// What of a multimodal checkpoint is never asked for.
const PICTURES: [&str; 4] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

fn load(settings: &Settings) -> Result<GeneratorModel<architecture::Decoder>> {
    let folder = settings.path("weights")?;
    let limits = Limits::from_settings(settings)?;
    let (config, weights, cache) = open(settings)?;
    // The text models share their tokenizer with the multimodal ones, whose table has a row for pictures besides.
    let chat = Chat::from_folder(&folder)
        .and_then(|chat| chat.with_rows(config.vocab_size))
        .map_err(text::Error::told)?;
    let defaults = Defaults::from_folder(&folder).map_err(nn::Error::told)?;
    let weights = weights.fitting(&PICTURES, cache).map_err(nn::Error::told)?;
    let decoder = architecture::Decoder::load(&config, &weights).map_err(nn::Error::told)?;

    let card = ModelCard {
        context: u32::try_from(config.max_position_embeddings).ok(),
        thinks: chat.thinks(),
        batch: limits.rows as u32,
        parameters: Some(weights.loaded_values()),
        precision: Some(weights.precision()),
        device: Some(device::name(weights.device())),
        ..ModelCard::text("gemma").with_choices()
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
    let cache = config.cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
    Ok((config, weights, cache))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let (_, weights, cache) = open(settings)?;
    Ok(weights.foretold(&PICTURES, cache, &Limits::from_settings(settings)?))
}
