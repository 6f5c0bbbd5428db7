//! The LoRA that was trained with the Q-Former, from the same file.

use crate::files::Files;
use candle_core::{DType, Tensor};
use nn::{Factors, Result};

/// The name of the model's own LoRA. Prompts that choose none use it; with LoRAs off, the language model is the
/// original one.
pub const NAME: &str = "salmonn";

/// The factors of all layers, with the layers' names.
pub fn factors(files: &Files) -> Result<Vec<(String, Factors)>> {
    let mut all = Vec::new();
    if !files.published.lora {
        return Ok(all);
    }
    let trained = files.trained.at("llama_model.base_model.model");
    let head = files.vicuna.head_dim;
    let projections = [
        ("q_proj", files.vicuna.num_attention_heads * head),
        ("v_proj", files.vicuna.num_key_value_heads * head),
    ];
    for layer in 0..files.vicuna.num_hidden_layers {
        for (projection, outputs) in projections {
            let name = format!("model.layers.{layer}.self_attn.{projection}");
            let site = trained.at(&name);
            let rank = site.stored("lora_A.default.weight")?.1.first().copied().unwrap_or(0);
            let get = |factor: &str, shape: [usize; 2]| -> Result<Tensor> {
                let tensor = site.get(&format!("{factor}.default.weight"), &shape)?;
                Ok(tensor.to_dtype(DType::F32)?)
            };
            let factors = Factors {
                a: get("lora_A", [rank, files.vicuna.hidden_size])?,
                b: get("lora_B", [outputs, rank])?,
                scale: files.published.lora_alpha / rank.max(1) as f64,
            };
            all.push((files.vicuna_weights.path(&name), factors));
        }
    }
    Ok(all)
}
