//! Estimates the memory of training from a checkpoint's `config.json` and the shapes of its tensors, before anything is
//! loaded.

mod tower;

use candle_core::{DType, Device};
use checkpoint::plain_name;
use nn::Weights;
use plugin_api::{Error, Estimate, Plan, Result, Settings, TrainingEstimate, Workload};
use serde_json::Value;
use std::fmt::Display;
use tower::TowerShape;
use train::{Counted, Method};

/// The shape of a dense decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Shape {
    hidden: u64,
    layers: u64,
    queries: u64,
    keys: u64,
    size: u64,
    inner: u64,
    vocabulary: u64,
    /// Whether the head is the table of tokens.
    tied: bool,
    /// Whether both halves of a layer have a norm after them, as in Gemma 3.
    norms_behind: bool,
}

/// The width of a head where neither `config.json` nor a tensor tells it.
const USUAL_HEAD: u64 = 128;

/// Logits that are computed together, for whole positions of learnt tokens: at least 96 positions, and at most 1024.
const LOGITS_AT_ONCE: u64 = 48 << 20;

impl Shape {
    /// `config.json` may leave out what its class has as default; the tensors tell it.
    fn read(config: &Value, weights: &Weights) -> Option<Shape> {
        let text = ["text_config", "thinker_config"]
            .iter()
            .find_map(|key| config.get(*key));
        let text = text.and_then(|text| text.get("text_config")).or(text).unwrap_or(config);
        let field = |key: &str| text.get(key).or_else(|| config.get(key)).and_then(Value::as_u64);
        let names = weights.names();
        let of = |part: &str| {
            let name = names.iter().find(|name| plain_name(name) == part)?;
            if weights.has_four_bits(name) {
                return None;
            }
            let (_, shape) = weights.stored(name).ok()?;
            Some([shape.first().copied()? as u64, shape.get(1).copied()? as u64])
        };
        let table = of("embed_tokens.weight");
        let layers = || {
            let own = names.iter().filter_map(|name| plain_name(name).strip_prefix("layers."));
            let numbers = own.filter_map(|name| name.split('.').next()?.parse::<u64>().ok());
            numbers.max().map(|last| last + 1)
        };
        let rows = |part: &str| of(part).map(|[rows, _]| rows);
        let hidden = field("hidden_size").or(table.map(|[_, hidden]| hidden))?;
        let queries = field("num_attention_heads");
        let share = queries.map(|queries| hidden / queries.max(1));
        let size = field("head_dim").or(share).unwrap_or(USUAL_HEAD).max(1);
        let heads = |part: &str| rows(part).map(|rows| rows / size);
        let queries = queries.or_else(|| heads("layers.0.self_attn.q_proj.weight"))?;
        let keys = field("num_key_value_heads").or_else(|| heads("layers.0.self_attn.k_proj.weight"));
        let class = text.get("model_type").and_then(Value::as_str).unwrap_or_default();
        let tied = text.get("tie_word_embeddings").or(config.get("tie_word_embeddings"));
        let has_head = names.iter().any(|name| plain_name(name).starts_with("lm_head."));
        Some(Shape {
            hidden,
            layers: field("num_hidden_layers").or_else(layers)?,
            queries,
            keys: keys.unwrap_or(queries),
            size,
            inner: field("intermediate_size").or_else(|| rows("layers.0.mlp.gate_proj.weight"))?,
            vocabulary: field("vocab_size").or(table.map(|[rows, _]| rows))?,
            tied: !has_head || tied.and_then(Value::as_bool).unwrap_or(class.starts_with("gemma")),
            norms_behind: class.starts_with("gemma") || ["olmo2", "glm4"].contains(&class),
        })
    }

    /// How many numbers of a layer are kept for each token for the backward pass: its input and the sum between both
    /// halves, queries and attention's output, keys and values, gate and up, and the outputs of norms after them.
    fn kept(&self) -> u64 {
        let halves = if self.norms_behind { 4 } else { 2 };
        halves * self.hidden + 2 * self.queries * self.size + self.queries + 2 * self.keys * self.size + 2 * self.inner
    }

    /// Bytes that a batch keeps, and that the layer being computed needs besides. In the last layer, only learnt
    /// tokens pass all of it.
    fn activations(&self, work: &Workload, checkpointing: bool) -> u64 {
        let at_work = 4 * self.hidden + 3 * self.inner;
        let of_all = match checkpointing {
            true => self.layers * self.hidden + self.kept() + at_work,
            false => (self.layers - 1).max(1) * self.kept() + at_work,
        };
        let last = self.hidden + 2 * self.keys * self.size;
        4 * (work.tokens * (of_all + last) + work.learnt * (self.kept() - last))
    }

    /// Bytes of some logits and of their packed copies for two products: with the head, rounded or not, and, if the
    /// head is learnt, with the head's input.
    fn logits(&self, work: &Workload, full: bool) -> u64 {
        let copies = if full { 3 } else { 2 };
        let most = (LOGITS_AT_ONCE / self.vocabulary.max(1)).clamp(96, 1024);
        let together = work.learnt.div_ceil(work.learnt.div_ceil(most).max(1));
        copies * 4 * self.vocabulary * together
    }
}

/// The memory of training, given that of answering with the same model.
pub fn estimate(answering: Estimate, settings: &Settings, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
    let folder = settings.path("weights").map_err(unknown)?;
    let config = std::fs::read(folder.join("config.json")).map_err(unknown)?;
    let config: Value = serde_json::from_slice(&config).map_err(unknown)?;
    let weights = Weights::open(&folder, DType::F32, &Device::Cpu).map_err(unknown)?;
    estimate_of_part(answering, &config, &weights, 0, plan, work)
}

fn unknown(why: impl Display) -> Error {
    let message = "the memory of training can only be estimated for checkpoints with a `config.json`";
    Error::unsupported(message).cause(why.to_string())
}

/// The same for a model of several parts, given the config and the weights of its language model, and the bytes of the
/// others.
pub fn estimate_of_part(
    answering: Estimate,
    config: &Value,
    weights: &Weights,
    others: u64,
    plan: &Plan,
    work: &Workload,
) -> Result<TrainingEstimate> {
    let shape = Shape::read(config, weights).ok_or_else(|| unknown("it lacks sizes"))?;
    // What is wrong with them, the run says itself.
    let engine = train::run::Settings::read(plan).map_err(unknown)?.engine;
    let full = engine.method == Method::Full;
    if full && weights.any_in_four_bits() {
        return Err(train::not_learnt(&format!("`{}`", weights.folder().display())));
    }
    let counted = Counted::of(weights, &engine, shape.tied).map_err(unknown)?;
    // The weight and its gradient.
    let learnt_bytes = (4 + 4) * counted.learnt + counted.states;
    let of_text = shape.activations(work, engine.gradient_checkpointing);
    let heard = TowerShape::read(config).map_or(0, |tower| tower.activations(work, &counted));
    let (activation_bytes, logits_bytes) = (of_text + heard, shape.logits(work, full));
    // Before training, the model is loaded for answers, and freed.
    let loaded = answering
        .weights_bytes
        .saturating_sub(learnt_bytes + activation_bytes + logits_bytes);
    Ok(TrainingEstimate {
        frozen_bytes: (counted.frozen + others).max(loaded),
        parameters: counted.learnt,
        learnt_bytes,
        activation_bytes,
        logits_bytes,
        device: answering.device,
        available_bytes: answering.available_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn qwen3() -> Shape {
        Shape {
            hidden: 1024,
            layers: 28,
            queries: 16,
            keys: 8,
            size: 128,
            inner: 3072,
            vocabulary: 151_936,
            tied: true,
            norms_behind: false,
        }
    }

    #[test]
    fn sizes_that_a_config_leaves_out_are_those_of_the_tensors() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../train/golden/qwen2audio");
        let weights = Weights::open(&folder, DType::F32, &Device::Cpu).unwrap();
        let config = std::fs::read(folder.join("config.json")).unwrap();
        let mut config: Value = serde_json::from_slice(&config).unwrap();
        let whole = Shape::read(&config, &weights).unwrap();
        assert_eq!(
            (whole.hidden, whole.layers, whole.queries, whole.tied),
            (32, 2, 4, false)
        );
        config["text_config"] = serde_json::json!({ "model_type": "qwen2", "head_dim": 8 });
        assert_eq!(Shape::read(&config, &weights), Some(whole));
    }

    #[test]
    fn what_a_batch_keeps_is_counted_by_layer() {
        let shape = qwen3();
        // 2 x 1024 + 2 x 2048 + 16 + 2 x 1024 + 2 x 3072.
        assert_eq!(shape.kept(), 14_352);
        let work = Workload {
            tokens: 320,
            learnt: 16,
            ..Workload::default()
        };
        let last = 1024 + 2048;
        let of_all = 27 * 14_352 + 4 * 1024 + 3 * 3072;
        let expected = 4 * (320 * (of_all + last) + 16 * (14_352 - last));
        assert_eq!(shape.activations(&work, false), expected);
        let of_all = 28 * 1024 + 14_352 + 4 * 1024 + 3 * 3072;
        assert_eq!(
            shape.activations(&work, true),
            4 * (320 * (of_all + last) + 16 * (14_352 - last))
        );
        assert_eq!(
            Shape {
                norms_behind: true,
                ..shape
            }
            .kept(),
            14_352 + 2048
        );
    }

    #[test]
    fn logits_are_counted_with_the_copies_that_products_read() {
        let shape = qwen3();
        let work = |learnt| Workload {
            learnt,
            ..Workload::default()
        };
        assert_eq!(shape.logits(&work(16), false), 2 * 4 * 151_936 * 16);
        assert_eq!(shape.logits(&work(16), true), 3 * 4 * 151_936 * 16);
        // Four times 250, since 331 positions are the most that have 48 Mi logits.
        assert_eq!(shape.logits(&work(1000), false), 2 * 4 * 151_936 * 250);
    }
}
