//! Gemma 3: the text models (270m, 1B), and the text towers of the multimodal ones (4B, 12B, 27B).
//!
//! Most layers look back only as far as a window, with a rope of their own; every sixth one looks at everything. Each
//! half of a layer is normalised in front and behind, by weights that are stored as their distance from one. The
//! vision tower of a multimodal checkpoint is passed over: its tensors are never asked for.
//! `golden/make.py` names the transformers version that the recorded logits come from.

pub mod architecture; // the layers, in the order a token meets them
pub mod config; // config.json as published

use architecture::Decoder;
use config::Config;
use model::{Checkpoint, GeneratorModel, register_generator};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};

register_generator!("gemma", "Gemma 3 text models, and the text towers of its multimodal ones", load, {
    weights: weights required, "folder, GGUF file or hub id of a Gemma 3 checkpoint";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("gemma", estimate, training: |settings, plan, work| {
    model::training_memory::estimate(estimate(settings)?, settings, plan, work)
});
export_plugin!();

/// Tensors of a multimodal checkpoint that are never read.
const PICTURES: [&str; 4] = [
    "vision_tower.",
    "multi_modal_projector.",
    "model.vision_tower.",
    "model.multi_modal_projector.",
];

fn load(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let checkpoint = Checkpoint::open(settings)?;
    let config = checkpoint.read(Config::from_folder)?;
    // The text models share their tokenizer with the multimodal ones, which have an additional row for pictures.
    let chat = checkpoint.chat_of_family(config.vocab_size)?;
    let weights = checkpoint.weights(&PICTURES, |dtype, tokens| config.cache_bytes(dtype, tokens))?;
    let decoder = checkpoint.read(|_| Decoder::load(&config, &weights))?;
    checkpoint.model(decoder, chat, &weights, ModelCard::text("gemma"))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?;
    let config = checkpoint.read(Config::from_folder)?;
    checkpoint.estimate(&PICTURES, |dtype, tokens| config.cache_bytes(dtype, tokens))
}
