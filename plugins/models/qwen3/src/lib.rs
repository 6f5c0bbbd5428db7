//! Dense text models: Qwen3, Qwen2 and 2.5 (the Coder as well), Llama, and those that differ from it in little.
//!
//! They share one decoder, `nn::dense`, and `config.json` says which it is: Qwen3 RMS-normalises queries and keys per
//! head before RoPE, Qwen2 has biases on the projections in front of attention, OLMo 2 has its norms behind each half
//! of a layer. So they share a plugin, too: ten would be the same layers ten times. `golden/make.py` names the
//! transformers version that the recorded logits come from.

use model::{Checkpoint, Defaults, GeneratorModel, register_generator, register_random};
use nn::Weights;
use nn::dense::{Config, Decoder};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate};
use text::Chat;

register_generator!("qwen3", "Dense text models: Qwen, Llama, Mistral, SmolLM3, Phi, OLMo 2, Granite, GLM 4", load, {
    weights: weights required, "folder, GGUF file or hub id of a checkpoint: Qwen, Llama, Mistral, SmolLM3, Phi, OLMo 2, Granite or GLM 4";
    thinking: flag, "whether to reason first where a prompt does not say; the chat template decides if left out";
    last_thought: text = "Considering the limited time by the user, I have to give the solution based on the thinking directly now.", "what the model is made to think last when a budget for reasoning is used up";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
});
register_random!("qwen3-random", "Random weights of a known shape, one token a byte: for measuring speed", random, {
    shape: text ["nano", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b"] required, "the published model whose shape it has";
});
register_estimate!("qwen3", estimate, training: |settings, plan, work| {
    model::training_memory::estimate(estimate(settings)?, settings, plan, work)
});
export_plugin!();

fn load(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let checkpoint = Checkpoint::open(settings)?;
    let config = checkpoint.read(Config::from_folder)?;
    let chat = checkpoint.chat(config.vocab_size)?;
    let weights = checkpoint.weights(left_out(&config), |dtype, tokens| config.cache_bytes(dtype, tokens))?;
    over(checkpoint, &config, chat, &weights)
}

/// A model of a published shape with random weights.
fn random(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let config = Config::of_shape(&settings.need::<String>("shape")?).map_err(nn::Error::into_plugin_error)?;
    let chat = Chat::of_bytes().map_err(text::Error::into_plugin_error)?;
    let checkpoint = Checkpoint::of(settings, "random weights".into(), Defaults::default())?;
    let precision = checkpoint.precision;
    let weights = Weights::random(precision.dtype, &checkpoint.device).map_err(nn::Error::into_plugin_error)?;
    over(checkpoint, &config, chat, &weights.quantised(precision.quant))
}

fn over(checkpoint: Checkpoint, config: &Config, chat: Chat, weights: &Weights) -> Result<GeneratorModel<Decoder>> {
    let decoder = Decoder::load(config, weights).map_err(nn::Error::into_plugin_error)?;
    checkpoint.model(decoder, chat, weights, ModelCard::text(config.class))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let checkpoint = Checkpoint::open(settings)?;
    let config = checkpoint.read(Config::from_folder)?;
    checkpoint.estimate(left_out(&config), |dtype, tokens| config.cache_bytes(dtype, tokens))
}

/// Some files store the head although it is tied: it is ignored.
fn left_out(config: &Config) -> &'static [&'static str] {
    if config.tie_word_embeddings { &["lm_head."] } else { &[] }
}
