//! Qwen2-Audio: Whisper's encoder, every two of its steps averaged, a projection, and Qwen2's language model.
//!
//! A clip longer than the encoder's thirty seconds is cut there, as the reference does; the reply then says so in a
//! flag. `golden/README.md` says how the recorded checkpoints were made.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published

use config::Config;
use nn::llama::Hearing;
use nn::{Checkpoint, GeneratorModel, register_generator};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};

register_generator!("qwen2-audio", "Qwen2-Audio: hears clips of up to 30 seconds", load, {
    weights: weights required, "folder or hub id of a checkpoint: Qwen2-Audio";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("qwen2-audio", estimate);
export_plugin!();

/// How a clip is spelled in a prompt without a chat template, as the base model wants it.
const CLIP: &str = "<|audio_bos|><|AUDIO|><|audio_eos|>";

fn load(settings: &Settings) -> Result<GeneratorModel<Hearing<architecture::Tower>>> {
    let checkpoint = Checkpoint::open(settings)?;
    let config = checkpoint.read(Config::from_folder)?;
    let chat = checkpoint.chat(config.text.vocab_size)?.with_clip_words(CLIP);
    let weights = checkpoint.weights(&[], |dtype, tokens| config.text.cache_bytes(dtype, tokens))?;
    let decoder = checkpoint.read(|_| architecture::load(&config, &weights))?;
    let card = ModelCard {
        longest_clip: Some(config.audio.samples() as f64 / audio::RATE as f64),
        ..ModelCard::audio("qwen2-audio", audio::RATE as u32)
    };
    checkpoint.model(decoder, chat, &weights, card)
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?;
    let text = checkpoint.read(Config::from_folder)?.text;
    checkpoint.estimate(&[], |dtype, tokens| text.cache_bytes(dtype, tokens))
}
