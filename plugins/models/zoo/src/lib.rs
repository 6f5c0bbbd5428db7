//! Families of text models that `candle-transformers` computes: those that the dense decoder of the kit does not cover.
//!
//! A family is some fifteen lines in `families/`: its names, what its class takes for granted, what candle does not do
//! of it, and how it is loaded and stepped. Everything around it is the kit's. The decision that a newcomer would
//! question: these models keep their own state and give the logits of the last token alone, so [`decoder`] hands the
//! generator tickets in place of hidden vectors, and computes when the logits of a ticket are asked for.
//!
//! `golden/make.py` names the transformers version that the recorded logits come from. A family without a recording
//! that is reproduced is marked `unverified` in its card, and so beside the numbers of each run.

mod decoder;
mod families;
mod family;
mod fields;
mod weights;

use decoder::Decoder;
use family::Entry;
use fields::Fields;
use model::{Checkpoint, GeneratorModel};
use nn::Weights;
use plugin_api::serde_json::json;
use plugin_api::{
    Code, Error, Estimate, ModelCard, Result, Settings, export_plugin, register_estimate, register_model,
};

register_model!("zoo", "Text models of candle-transformers: Gemma 1 and 2, StableLM, StarCoder, Phi 1 and 2, OLMo, Falcon, Mamba, mixtures of experts", load, {
    weights: weights required, "folder or hub id of a checkpoint in safetensors; its config.json says which family it is of";
    max_tokens: integer = 1024, "longest answer where neither prompt nor checkpoint sets one";
    dtype: text ["auto", "fp32", "bf16"] = "auto", "type to compute in; auto is fp32 on a CPU, and bf16 on a GPU that has it; bf16 is for GPUs alone";
    device: text = "auto", "where to compute: cpu, cuda, or cuda:1 for the second GPU; auto is a GPU if this build has the feature cuda and finds one";
});
register_estimate!("zoo", estimate);
export_plugin!();

/// A checkpoint that is being opened, and its family.
fn open(settings: &Settings) -> Result<(Checkpoint<'_>, &'static Entry, Fields)> {
    let mut checkpoint = Checkpoint::open(settings)?;
    if checkpoint.device.is_cpu() && settings.or("dtype", "auto".to_owned())? == "bf16" {
        let message = "setting `dtype` is `bf16`, which this model computes in on GPUs alone";
        return Err(Error::new(Code::SETTINGS, message).help("leave it out: a CPU computes in fp32"));
    }
    // One text at a time, in one piece: its numbers depend on the text alone.
    checkpoint.limits.rows = 1;
    checkpoint.limits.step_tokens = 1 << 30;
    checkpoint.limits.prefix_bytes = 0;
    let (entry, fields) = checkpoint.read(families::find)?;
    Ok((checkpoint, entry, fields))
}

fn load(settings: &Settings) -> Result<GeneratorModel<Decoder>> {
    let (checkpoint, entry, fields) = open(settings)?;
    let chat = checkpoint.chat(fields.vocabulary())?;
    let weights = checkpoint.weights(&[], |dtype, tokens| fields.cache_bytes(dtype, tokens))?;
    let decoder = Decoder::load(entry, &fields, &weights).map_err(nn::Error::into_plugin_error)?;
    let card = card(entry, &weights);
    checkpoint.model(decoder, chat, &weights, card)
}

fn card(entry: &Entry, weights: &Weights) -> ModelCard {
    let mut card = ModelCard::text(entry.name);
    if weights.device().is_cpu() {
        card.other.insert("kernels".to_owned(), json!(kernel_class()));
    }
    if let Some(why) = entry.unverified {
        let mark = format!("unverified: the family `{}`: {why}", entry.name);
        card.other.insert("marks".to_owned(), json!([mark]));
    }
    card
}

/// The instruction set that candle's products use on this processor, which changes the order of sums.
fn kernel_class() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("avx512f") {
            return "candle-avx512";
        }
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            return "candle-avx2";
        }
    }
    "candle"
}

fn estimate(settings: &Settings) -> Result<Estimate> {
    let (checkpoint, _, fields) = open(settings)?;
    checkpoint.estimate(&[], |dtype, tokens| fields.cache_bytes(dtype, tokens))
}
