//! Estimates the memory of training from a checkpoint's `config.json`, before anything is loaded.

use plugin_api::{Estimate, Plan, Result, Settings, TrainingEstimate, Workload};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

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
    /// Whether both halves of a layer have a norm after them, as in Gemma 3.
    norms_behind: bool,
    /// Whether the projections before attention are one matrix, and whether gate and up are one.
    fused: [bool; 2],
}

/// Bytes of a four-bit weight: half a byte of code, and scales of blocks of 64, which are bytes as well.
const FOUR_BITS: f64 = 0.516;

/// Logits that are computed together, for whole positions of learnt tokens: at least 96 positions, and at most 1024.
const LOGITS_AT_ONCE: u64 = 48 << 20;

impl Shape {
    fn read(config: &Value) -> Option<Shape> {
        let text = ["text_config", "thinker_config"]
            .iter()
            .find_map(|key| config.get(*key));
        let text = text.and_then(|text| text.get("text_config")).or(text).unwrap_or(config);
        let number = |key: &str| text.get(key).or_else(|| config.get(key)).and_then(Value::as_u64);
        let (hidden, queries) = (number("hidden_size")?, number("num_attention_heads")?);
        let class = text.get("model_type").and_then(Value::as_str).unwrap_or_default();
        Some(Shape {
            hidden,
            layers: number("num_hidden_layers")?,
            queries,
            keys: number("num_key_value_heads").unwrap_or(queries),
            size: number("head_dim").unwrap_or(hidden / queries.max(1)),
            inner: number("intermediate_size")?,
            vocabulary: number("vocab_size")?,
            tied: text.get("tie_word_embeddings").or(config.get("tie_word_embeddings")) != Some(&Value::Bool(false)),
            norms_behind: class.starts_with("gemma") || ["olmo2", "glm4"].contains(&class),
            fused: [class == "phi3", ["phi3", "glm", "glm4"].contains(&class)],
        })
    }

    /// The linear layers of a decoder layer: name, in, out.
    fn linears(&self) -> Vec<(&'static str, u64, u64)> {
        let (all, shared) = (self.queries * self.size, self.keys * self.size);
        let [fused_qkv, fused_mlp] = self.fused;
        let before_attention: &[_] = match fused_qkv {
            true => &[("qkv_proj", all + 2 * shared)],
            false => &[("q_proj", all), ("k_proj", shared), ("v_proj", shared)],
        };
        let gate_and_up: &[_] = match fused_mlp {
            true => &[("gate_up_proj", 2 * self.inner)],
            false => &[("gate_proj", self.inner), ("up_proj", self.inner)],
        };
        let of_hidden = before_attention.iter().chain(gate_and_up);
        of_hidden
            .map(|(name, outputs)| (*name, self.hidden, *outputs))
            .chain([("o_proj", all, self.hidden), ("down_proj", self.inner, self.hidden)])
            .collect()
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
        // A LoRA from which training starts has its own rank and targets.
        let own = plan.other.get("adapter").and_then(Value::as_str).and_then(|folder| {
            let config = std::fs::read(Path::new(folder).join("adapter_config.json")).ok()?;
            serde_json::from_slice::<Map<String, Value>>(&config).ok()
        });
        let settings = own.as_ref().unwrap_or(&plan.other);
        let rank = settings.get("r").and_then(Value::as_u64).unwrap_or(8);
        let wanted = |name: &str| match settings.get("target_modules") {
            None | Some(Value::Null) => ["q_proj", "v_proj"].contains(&name),
            Some(Value::Array(names)) => names
                .iter()
                .filter_map(Value::as_str)
                .any(|one| one.rsplit('.').next() == Some(name)),
            Some(Value::String(pattern)) => pattern == "all-linear" || pattern.contains(name),
            Some(_) => false,
        };
        let hit = self.linears().into_iter().filter(|(name, _, _)| wanted(name));
        let layer: u64 = hit.map(|(_, from, to)| rank * (from + to)).sum();
        layer * self.layers
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

/// Bytes of the stored tensors of a folder.
fn stored_bytes(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let weights = files.filter(|file| file.path().extension().is_some_and(|end| end == "safetensors"));
    // Follows links, since snapshots in a cache consist of them.
    weights
        .filter_map(|file| std::fs::metadata(file.path()).ok())
        .map(|file| file.len())
        .sum()
}

/// The memory of training, given that of answering with the same model.
pub fn estimate(answering: Estimate, settings: &Settings, plan: &Plan, work: &Workload) -> Result<TrainingEstimate> {
    let folder: Option<PathBuf> = settings.path("weights").ok();
    let config = folder
        .as_ref()
        .and_then(|folder| std::fs::read(folder.join("config.json")).ok());
    let config: Option<Value> = config.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    estimate_of_part(answering, folder.as_deref(), config.as_ref(), plan, work)
}

/// The same for a model of several parts, given the folder and the config of its language model.
pub fn estimate_of_part(
    answering: Estimate,
    folder: Option<&Path>,
    config: Option<&Value>,
    plan: &Plan,
    work: &Workload,
) -> Result<TrainingEstimate> {
    let Some(shape) = config.and_then(Shape::read) else {
        let error = plugin_api::Error::unsupported(
            "the memory of training can only be estimated for checkpoints with a `config.json`",
        );
        return Err(error);
    };
    let text = |key: &str| plan.other.get(key).and_then(Value::as_str).unwrap_or_default();
    let flag = |key: &str| plan.other.get(key).and_then(Value::as_bool).unwrap_or_default();
    let states = match text("optim") {
        "sgd" | "adafactor" => 0, // adafactor's are a row and a column of each matrix
        optim if optim.contains("8bit") => 2,
        _ if plan.method == "full" && text("precision") == "bf16-pure" => 4,
        _ => 8,
    };
    // The weight and its gradient.
    let each = 4 + 4 + states;
    let parameters = match plan.method.as_str() {
        "full" => shape.parameters(),
        _ => shape.factors(plan),
    };
    let stored = match folder.map_or(0, stored_bytes) {
        0 => answering.weights_bytes, // files of another kind
        stored => stored,
    };
    let full = plan.method == "full";
    let quantised = config.is_some_and(|config| config["quantization_config"].is_object());
    if let (true, true, Some(folder)) = (full, quantised, folder) {
        return Err(train::not_learnt(&format!("`{}`", folder.display())));
    }
    let frozen = match plan.method.as_str() {
        "full" => 0,
        // Four-bit codes stay as they are stored.
        "qlora" if !quantised => {
            let values = shape.parameters();
            // Linear layers of tensors that are not counted here, such as an audio tower's, are in four bits as well.
            let each = if stored > 3 * values { 4 } else { 2 };
            let linear = shape.linear_parameters() as f64 * FOUR_BITS;
            linear as u64 + each * (values - shape.linear_parameters()) + stored.saturating_sub(each * values)
        }
        _ => stored,
    };
    let learnt_bytes = parameters * each;
    let activation_bytes = shape.activations(work, flag("gradient_checkpointing"));
    let logits_bytes = shape.logits(work, full);
    // Before training, the model is loaded for answers, and freed.
    let loaded = answering
        .weights_bytes
        .saturating_sub(learnt_bytes + activation_bytes + logits_bytes);
    Ok(TrainingEstimate {
        frozen_bytes: frozen.max(loaded),
        parameters,
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
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(
            folder.path().join("adapter_config.json"),
            json!({ "r": 4, "target_modules": ["k_proj"] }).to_string(),
        )
        .unwrap();
        let mut from_folder = plan.clone();
        from_folder
            .other
            .insert("adapter".to_owned(), folder.path().display().to_string().into());
        assert_eq!(shape.factors(&from_folder), 28 * 4 * (1024 + 1024));
        assert!(
            (590_000_000..600_000_000).contains(&shape.parameters()),
            "{}",
            shape.parameters()
        );
        assert_eq!(shape.linear_parameters(), 440_401_920);
    }

    #[test]
    fn fused_projections_have_factors_of_their_own() {
        let config = json!({
            "hidden_size": 3072, "num_hidden_layers": 32, "num_attention_heads": 24, "num_key_value_heads": 8,
            "intermediate_size": 8192, "vocab_size": 200_064, "tie_word_embeddings": true, "model_type": "phi3",
        });
        let shape = Shape::read(&config).unwrap();
        let factors = |targets: Value| {
            let other = json!({ "r": 16, "target_modules": targets });
            let other = other.as_object().unwrap().clone();
            shape.factors(&Plan {
                other,
                ..Plan::default()
            })
        };
        let qkv = 32 * 16 * (3072 + 5120);
        assert_eq!(factors(json!(["qkv_proj"])), qkv);
        assert_eq!(factors(json!(["q_proj", "v_proj"])), 0);
        let others = (3072 + 3072) + (3072 + 16_384) + (8192 + 3072);
        assert_eq!(factors(json!("all-linear")), qkv + 32 * 16 * others);
        assert_eq!(shape.linear_parameters(), 32 * (3072 * (5120 + 3072 + 16_384 + 8192)));
    }

    fn qwen3() -> Shape {
        let config = json!({
            "hidden_size": 1024, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
            "intermediate_size": 3072, "vocab_size": 151_936, "tie_word_embeddings": true, "model_type": "qwen3",
        });
        Shape::read(&config).unwrap()
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
