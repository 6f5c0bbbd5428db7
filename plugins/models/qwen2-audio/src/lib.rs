//! Qwen2-Audio: Whisper's encoder, every two of its steps averaged, a projection, and Qwen2's language model.
//!
//! A clip longer than the encoder's thirty seconds is cut there, as the reference does; the reply then says so in a
//! flag. `golden/README.md` says how the recorded checkpoints were made.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published

use config::Config;
use model::{Checkpoint, Defaults, GeneratorModel, register_generator, register_random};
use nn::Weights;
use nn::dense::{AudioLanguageModel, AudioTower, OUTSIDE_LANGUAGE_MODEL};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};
use text::Chat;

register_generator!("qwen2-audio", "Qwen2-Audio: hears clips of up to 30 seconds", load, {
    weights: weights required, "folder or hub id of a checkpoint: Qwen2-Audio";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_random!("qwen2-audio-random", "Random weights of Qwen2-Audio's shape, one token a byte: for measuring speed and memory", random, {
    shape: text ["qwen2-audio-nano", "qwen2-audio-7b"] required, "the published model whose shape it has, or the smallest";
});
register_estimate!("qwen2-audio", estimate, training: |settings, plan, work| {
    model::training_memory::estimate(estimate(settings)?, settings, plan, work)
});
export_plugin!();

/// How a clip is spelled in a prompt without a chat template, as the base model wants it.
const CLIP: &str = "<|audio_bos|><|AUDIO|><|audio_eos|>";

fn load(settings: &Settings) -> Result<GeneratorModel<AudioLanguageModel<AudioTower>>> {
    let checkpoint = Checkpoint::open(settings)?.keeping(&OUTSIDE_LANGUAGE_MODEL);
    let config = checkpoint.read(Config::from_folder)?;
    let chat = checkpoint.chat(config.text.vocab_size)?.with_clip_words(CLIP);
    let weights = checkpoint.weights(&[], |dtype, tokens| config.text.cache_bytes(dtype, tokens))?;
    over(checkpoint, &config, chat, &weights)
}

/// A model of a published shape with random weights.
fn random(settings: &Settings) -> Result<GeneratorModel<AudioLanguageModel<AudioTower>>> {
    let config = Config::of_shape(&settings.need::<String>("shape")?).map_err(nn::Error::into_plugin_error)?;
    let chat = Chat::of_bytes_and_clips(config.audio_token).map_err(text::Error::into_plugin_error)?;
    let checkpoint = Checkpoint::of(settings, "random weights".into(), Defaults::default())?;
    let precision = checkpoint.precision;
    let weights = Weights::random(precision.dtype, &checkpoint.device).map_err(nn::Error::into_plugin_error)?;
    let weights = weights.quantised(precision.quant).keeping(&OUTSIDE_LANGUAGE_MODEL);
    over(checkpoint, &config, chat, &weights)
}

fn over(
    checkpoint: Checkpoint,
    config: &Config,
    chat: Chat,
    weights: &Weights,
) -> Result<GeneratorModel<AudioLanguageModel<AudioTower>>> {
    let decoder = architecture::load(config, weights).map_err(nn::Error::into_plugin_error)?;
    let card = ModelCard {
        longest_clip: Some(config.audio.samples() as f64 / audio::RATE as f64),
        ..ModelCard::audio("qwen2-audio", audio::RATE as u32)
    };
    checkpoint.model(decoder, chat, weights, card)
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?.keeping(&OUTSIDE_LANGUAGE_MODEL);
    let text = checkpoint.read(Config::from_folder)?.text;
    checkpoint.estimate(&[], |dtype, tokens| text.cache_bytes(dtype, tokens))
}
