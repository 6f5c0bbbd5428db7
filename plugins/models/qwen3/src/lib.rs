//! Dense text models: Qwen3, Qwen2 and 2.5 (the Coder as well), and what else has Llama's architecture.
//!
//! They share one decoder, `nn::llama`, and `config.json` says which it is: Qwen3 RMS-normalises queries and keys per head before
//! RoPE, Qwen2 has biases on the projections in front of attention, Llama has neither. So they share a plugin, too:
//! three would be the same layers three times. `golden/make.py` names the transformers version that the recorded logits come from.

use nn::llama::{Config, Decoder};
use nn::{Defaults, Generator, GeneratorModel, Limits, Precision, Weights, device};
use plugin_api::{Estimate, ModelCard, Result, Settings, export_plugin, register_estimate, register_model};
use text::Chat;

register_model!("qwen3", "Dense text models: Qwen3, Qwen2, Qwen2.5, and Llama's architecture", load, {
    weights: weights required, "folder, GGUF file or hub id of a checkpoint: Qwen3, Qwen2, Qwen2.5 or Llama's architecture";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, which is exact, and bf16 on a GPU that has it; on a CPU, bf16 is what matrices are stored as: half the memory, and faster";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what matrices are stored as; the token table and a tied head are q8_0 in any case";
    lora: folders, "LoRAs in PEFT's format, by name; all of them are on where a prompt chooses none";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
    prefix_mb: integer = 1024, "memory for beginnings that several prompts share, such as examples in front of every question; 0 reads each by itself";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
    thinking: flag, "whether to reason first where a prompt does not say; the chat template decides if left out";
    last_thought: text = "Considering the limited time by the user, I have to give the solution based on the thinking directly now.", "what the model is made to think last when a budget for reasoning is used up";
});
register_model!("qwen3-random", "Random weights of a known shape, one token a byte: for measuring speed", random, {
    shape: text ["nano", "qwen3-0.6b", "qwen3-1.7b", "qwen3-4b", "qwen3-8b"] required, "the published model whose shape it has";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, and bf16 on a GPU that has it";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
    quant: text ["none", "q8_0", "q6_k", "q4_k"] = "none", "what matrices are stored as; the token table and a tied head are q8_0 in any case";
    max_batch: integer, "answers worked on at a time; if left out, as many as memory allows, up to 32";
    step_tokens: integer = 1024, "tokens in one pass through the model; a longer prompt is read in several";
});
register_estimate!("qwen3", estimate);
export_plugin!();

fn load(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let folder = settings.path("weights")?;
    let (config, weights, cache) = open(settings)?;
    let chat = Chat::from_folder(&folder)
        .map_err(text::Error::told)?
        .with_thinking(settings.get("thinking")?);
    chat.tokenizer()
        .check_rows(config.vocab_size)
        .map_err(text::Error::told)?;
    let defaults = Defaults::from_folder(&folder).map_err(nn::Error::told)?;
    let weights = weights.fitting(left_out(&config), cache).map_err(nn::Error::told)?;
    over(settings, &config, chat, defaults, &weights)
}

/// Some files store the head although it is tied: it is passed over.
fn left_out(config: &Config) -> &'static [&'static str] {
    if config.tie_word_embeddings { &["lm_head."] } else { &[] }
}

/// What the settings name: nothing of the weights is read yet. Last, what the cache of one answer takes.
fn open(settings: &Settings) -> Result<(Config, Weights, u64)> {
    let config = Config::from_folder(&settings.path("weights")?).map_err(nn::Error::told)?;
    let weights = Weights::from_settings(settings)?;
    let cache = config.cache_bytes(weights.dtype(), Limits::PLANNED_TOKENS);
    Ok((config, weights, cache))
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let (config, weights, cache) = open(settings)?;
    Ok(weights.foretold(left_out(&config), cache, &Limits::from_settings(settings)?))
}

/// What has no checkpoint: a published shape, and weights that nobody trained.
fn random(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let config = Config::of_shape(&settings.need::<String>("shape")?).map_err(nn::Error::told)?;
    let chat = Chat::of_bytes().map_err(text::Error::told)?;
    let device = device::from_settings(settings)?;
    let precision = Precision::from_settings(settings, &device)?;
    let weights = Weights::random(precision.dtype, &device).map_err(nn::Error::told)?;
    let weights = weights.quantised(precision.quant);
    over(settings, &config, chat, Defaults::default(), &weights)
}

fn over(
    settings: &Settings,
    config: &Config,
    chat: Chat,
    defaults: Defaults,
    weights: &Weights,
) -> Result<GeneratorModel<Decoder>> {
    let limits = Limits::from_settings(settings)?;
    let decoder = Decoder::load(config, weights).map_err(nn::Error::told)?;

    let card = ModelCard {
        context: u32::try_from(config.max_position_embeddings).ok(),
        thinks: chat.thinks(),
        batch: limits.rows as u32,
        parameters: Some(weights.loaded_values()),
        precision: Some(weights.precision()),
        device: Some(device::name(weights.device())),
        ..ModelCard::text(config.class).with_choices()
    };
    let loras = weights.loras();
    loras.read_all(settings)?;
    let generator = Generator::new(decoder, chat, defaults, limits, weights.loaded_bytes())
        .with_last_thought(settings.get::<String>("last_thought")?.as_deref())
        .with_loras(loras);
    Ok(GeneratorModel::new(generator, card))
}
