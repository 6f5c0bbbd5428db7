//! Qwen2.5-Omni's thinker: Whisper's encoder over blocks of two seconds, a projection, and Qwen2.5's language model.
//!
//! It hears and reads. What the checkpoint holds for seeing and for speaking stays unread, and a prompt with a place
//! for an image or a video is refused. Where a conversation brings no system text, the one stands before it that its
//! publisher gives in every example, and not the chat template's shorter one.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published

use config::Config;
use model::{Checkpoint, GeneratorModel, register_generator};
use nn::dense::AudioLanguageModel;
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};

register_generator!("qwen2.5-omni", "Qwen2.5-Omni, the thinker: hears clips of up to five minutes", load, {
    weights: weights required, "folder or hub id of a checkpoint: Qwen2.5-Omni";
    system: text, "what stands before a conversation that has no system text: if left out, the publisher's `You are Qwen, a virtual human …`; if empty, the chat template's own";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("qwen2.5-omni", estimate, training: |settings, plan, work| {
    model::training_memory::estimate(estimate(settings)?, settings, plan, work)
});
export_plugin!();

/// How a clip is spelled in a prompt without a chat template.
const CLIP: &str = "<|audio_bos|><|AUDIO|><|audio_eos|>";

/// The publisher's system message.
const SYSTEM: &str = "You are Qwen, a virtual human developed by the Qwen Team, Alibaba Group, capable of perceiving \
                      auditory and visual inputs, as well as generating text and speech.";

/// Tensors of a checkpoint that are never read: for seeing and for speaking.
const UNUSED: [&str; 6] = [
    "talker.",
    "token2wav.",
    "thinker.visual.",
    "thinker.model.visual.",
    "visual.",
    "model.visual.",
];

fn load(settings: &Settings) -> Result<GeneratorModel<AudioLanguageModel<architecture::Tower>>> {
    let mut checkpoint = Checkpoint::open(settings)?.keeping(&architecture::OUTSIDE_LANGUAGE_MODEL);
    let config = checkpoint.read(Config::from_folder)?;
    let chat = checkpoint
        .chat(config.text.vocab_size)?
        .with_clip_words(CLIP)
        .with_system(Some(settings.or("system", SYSTEM.to_owned())?));
    if checkpoint.defaults.stop_tokens.is_empty() {
        checkpoint.defaults.stop_tokens.push(config.stop_token);
    }
    let weights = checkpoint.weights(&UNUSED, |dtype, tokens| config.text.cache_bytes(dtype, tokens))?;
    let decoder = checkpoint.read(|_| architecture::load(&config, &weights))?;
    let card = ModelCard {
        longest_clip: Some(config.longest as f64 / audio::RATE as f64),
        ..ModelCard::audio("qwen2.5-omni", audio::RATE as u32)
    };
    checkpoint.model(decoder, chat, &weights, card)
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?.keeping(&architecture::OUTSIDE_LANGUAGE_MODEL);
    let text = checkpoint.read(Config::from_folder)?.text;
    checkpoint.estimate(&UNUSED, |dtype, tokens| text.cache_bytes(dtype, tokens))
}
