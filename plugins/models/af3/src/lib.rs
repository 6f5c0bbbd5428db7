//! Audio Flamingo 3: Whisper's encoder over a clip in windows of thirty seconds, a projection of two layers, and
//! Qwen2.5's language model.
//!
//! The chat template writes one place for a clip in front of all words of a message, wherever its parts stand, and the
//! reference takes one clip a prompt; so a message with more is refused. A clip beyond ten minutes is cut, as there.

pub mod architecture; // the layers, in the order a clip meets them
pub mod config; // config.json as published
mod think; // what the folder `think` changes

use config::Config;
use model::{Checkpoint, GeneratorModel, ModelHooks, register_generator};
use nn::Loras;
use nn::dense::{AudioLanguageModel, AudioTower, OUTSIDE_LANGUAGE_MODEL};
use plugin_api::{
    Estimate, ModelCard, Plan, Result, Settings, TrainingEstimate, Workload, export_plugin, register_estimate,
};
use think::Think;

register_generator!("af3", "Audio Flamingo 3: hears a clip of up to ten minutes", load, {
    weights: weights required, "folder or hub id of a checkpoint: Audio Flamingo 3, as audio-flamingo-3-hf";
    thinking: flag = false, "whether to be the variant that reasons first, which lies in the checkpoint's folder `think`";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_estimate!("af3", estimate, training: training_estimate);
export_plugin!();

/// How a clip is spelled in a prompt without a chat template.
const CLIP: &str = "<sound>";

type Af3 = AudioLanguageModel<AudioTower>;

fn load(settings: &Settings) -> Result<GeneratorModel<Af3>> {
    let checkpoint = Checkpoint::open(settings)?.keeping(&OUTSIDE_LANGUAGE_MODEL);
    let config = checkpoint.read(Config::from_folder)?;
    let think = think::wanted(settings, &checkpoint.folder)?;
    let chat = checkpoint.chat(config.text.vocab_size)?.with_clip_words(CLIP);
    let chat = match &think {
        Some(_) => chat.with_thinking_words(think::WORDS),
        None => chat,
    };
    let changes = think.as_ref().map(|think| think.weights.as_path());
    let cache = |dtype, tokens| config.text.cache_bytes(dtype, tokens);
    let weights = checkpoint.weights_with(changes, &[], cache)?;
    let decoder = checkpoint.read(|_| architecture::load(&config, &weights))?;
    if let Some(think) = &think {
        checkpoint.read(|_| Loras::of(&weights).read(think::NAME, &think.lora, true))?;
    }
    let card = ModelCard {
        longest_clip: Some((config.audio.samples() * config.windows) as f64 / audio::RATE as f64),
        most_clips: Some(1),
        ..ModelCard::audio("af3", audio::RATE as u32)
    };
    let model = checkpoint.model(decoder, chat, &weights, card)?;
    Ok(match think {
        Some(think) => model.with_hooks(think),
        None => model,
    })
}

impl ModelHooks<Af3> for Think {
    fn learnt_weights(&self) -> Result<&'static str> {
        Err(think::not_all_learnt())
    }
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?.keeping(&OUTSIDE_LANGUAGE_MODEL);
    let text = checkpoint.read(Config::from_folder)?.text;
    checkpoint.estimate(&[], |dtype, tokens| text.cache_bytes(dtype, tokens))
}

fn training_estimate(settings: &Settings, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
    if settings.or("thinking", false)? && plan.method == "full" {
        return Err(think::not_all_learnt());
    }
    model::training_memory::estimate(estimate(settings)?, settings, plan, work)
}
