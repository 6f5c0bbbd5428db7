//! What memory training would take, by the shape that a checkpoint's `config.json` tells, before anything is loaded.

use plugin_api::{Estimate, Plan, Result, Settings, TrainingEstimate, Workload};
use serde_json::Value;
use std::path::PathBuf;

/// The shape of a dense decoder.
#[derive(Debug, Clone, Copy, Default)]
struct Shape {
    hidden: u64,
    layers: u64,
    queries: u64,
    keys: u64,
    size: u64,
    inner: u64,
    vocabulary: u64,
    tied: bool,
}

/// The vocabulary's rows that are computed at a time, of learnt tokens.
const LOGITS_AT_ONCE: u64 = 96;

impl Shape {
    fn read(config: &Value) -> Option<Shape> {
        let text = ["text_config", "thinker_config"]
            .iter()
            .find_map(|key| config.get(*key));
        let text = text.and_then(|text| text.get("text_config")).or(text).unwrap_or(config);
        let number = |key: &str| text.get(key).or_else(|| config.get(key)).and_then(Value::as_u64);
        let (hidden, queries) = (number("hidden_size")?, number("num_attention_heads")?);
        Some(Shape {
            hidden,
            layers: number("num_hidden_layers")?,
            queries,
            keys: number("num_key_value_heads").unwrap_or(queries),
            size: number("head_dim").unwrap_or(hidden / queries.max(1)),
            inner: number("intermediate_size")?,
            vocabulary: number("vocab_size")?,
            tied: text.get("tie_word_embeddings").or(config.get("tie_word_embeddings")) != Some(&Value::Bool(false)),
        })
    }

    /// The linear layers of a decoder layer: name, in, out.
    fn linears(&self) -> [(&'static str, u64, u64); 7] {
        let (all, shared) = (self.queries * self.size, self.keys * self.size);
        [
            ("q_proj", self.hidden, all),
            ("k_proj", self.hidden, shared),
            ("v_proj", self.hidden, shared),
            ("o_proj", all, self.hidden),
            ("gate_proj", self.hidden, self.inner),
            ("up_proj", self.hidden, self.inner),
            ("down_proj", self.inner, self.hidden),
        ]
    }

    fn linear_parameters(&self) -> u64 {
        let layer: u64 = self.linears().iter().map(|(_, from, to)| from * to).sum();
        layer * self.layers
    }

    fn parameters(&self) -> u64 {
        let tables = if self.tied { 1 } else { 2 };
        self.linear_parameters() + tables * self.vocabulary * self.hidden + (2 * self.layers + 1) * self.hidden
    }

    fn factors(&self, plan: &Plan) -> u64 {
        let rank = plan.other.get("r").and_then(Value::as_u64).unwrap_or(8);
        let wanted = |name: &str| match plan.other.get("target_modules") {
            None | Some(Value::Null) => ["q_proj", "v_proj"].contains(&name),
            Some(Value::Array(names)) => names
                .iter()
                .any(|one| one.as_str().is_some_and(|one| one.ends_with(name))),
            Some(Value::String(pattern)) => pattern == "all-linear" || pattern.contains(name),
            Some(_) => false,
        };
        let hit = self.linears().into_iter().filter(|(name, _, _)| wanted(name));
        let layer: u64 = hit.map(|(_, from, to)| rank * (from + to)).sum();
        layer * self.layers
    }

    /// Bytes that a token of a batch keeps for the way back.
    fn token(&self, checkpointing: bool) -> u64 {
        let kept = 3 * self.hidden + 2 * self.queries * self.size + 2 * self.keys * self.size + 2 * self.inner;
        4 * match checkpointing {
            true => self.layers * self.hidden + 2 * kept,
            false => (self.layers + 1) * kept,
        }
    }
}

/// The memory of training, beside what an answer of the same model would take.
pub fn estimate(answering: Estimate, settings: &Settings, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
    let folder: Option<PathBuf> = settings.path("weights").ok();
    let config = folder.and_then(|folder| std::fs::read(folder.join("config.json")).ok());
    let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(shape) = config.as_ref().and_then(Shape::read) else {
        let error = plugin_api::Error::unsupported(
            "the memory of training is known for checkpoints with a `config.json` alone",
        );
        return Err(error);
    };
    let text = |key: &str| plan.other.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| plan.other.get(key).and_then(Value::as_bool).unwrap_or_default();
    let few = text("optim").contains("8bit");
    let pure = text("precision") == "bf16-pure";
    let (parameters, each) = match plan.method.as_str() {
        // Weight, gradient, and the two states.
        "full" => (
            shape.parameters(),
            match (pure, few) {
                (false, false) => 16,
                (false, true) => 10,
                (true, false) => 8,
                (true, true) => 6,
            },
        ),
        _ => (shape.factors(plan), if few { 10 } else { 16 }),
    };
    let frozen = match plan.method.as_str() {
        "full" => 0,
        // Codes of half a byte and scales; what is no linear layer stays in fp32.
        "qlora" => {
            (shape.linear_parameters() as f64 * 0.516) as u64 + 4 * (shape.parameters() - shape.linear_parameters())
        }
        _ => answering.weights_bytes,
    };
    Ok(TrainingEstimate {
        frozen_bytes: frozen,
        parameters,
        learnt_bytes: parameters * each,
        activation_bytes: work.tokens * shape.token(flag("gradient_checkpointing")),
        logits_bytes: 4 * shape.vocabulary * work.learnt.min(LOGITS_AT_ONCE),
        device: answering.device,
        available_bytes: answering.available_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn qwen3_has_the_factors_that_peft_counts() {
        let config = json!({
            "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 3072, "vocab_size": 151_936, "tie_word_embeddings": true,
        });
        let shape = Shape::read(&config).unwrap();
        let targets = json!([
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj"
        ]);
        let other = json!({ "r": 16, "target_modules": targets });
        let plan = Plan {
            other: other.as_object().unwrap().clone(),
            ..Plan::default()
        };
        assert_eq!(shape.factors(&plan), 10_092_544);
        assert!(
            (590_000_000..600_000_000).contains(&shape.parameters()),
            "{}",
            shape.parameters()
        );
        assert_eq!(shape.linear_parameters(), 440_401_920);
    }
}
