//! Families in which each token goes through a few of many feed-forwards.

use crate::family::Family;
use crate::fields::Fields;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{deepseek2, mixtral, qwen2_moe, qwen3_moe};
use plugin_api::serde_json::{Value, json};

pub use deepseek2::DeepSeekV2 as DeepSeek2;
pub use mixtral::Model as Mixtral;
pub use qwen2_moe::Model as Qwen2Moe;
pub use qwen3_moe::ModelForCausalLM as Qwen3Moe;

impl Family for Mixtral {
    const NAME: &'static str = "mixtral";
    const CLASS: &'static str = "MixtralForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5, "num_experts_per_tok": 2, "num_local_experts": 8, "tie_word_embeddings": false,
            "use_flash_attn": false })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.end_at_window(fields.number("sliding_window"));
        fields.plain_rope(1e6)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        mixtral::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Qwen2Moe {
    const NAME: &'static str = "qwen2_moe";
    const CLASS: &'static str = "Qwen2MoeForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 16, "num_key_value_heads": 16, "hidden_act": "silu", "max_position_embeddings": 32_768,
            "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "use_sliding_window": false, "max_window_layers": 28,
            "decoder_sparse_step": 1, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
            "num_experts_per_tok": 4, "num_experts": 60, "norm_topk_prob": false, "mlp_only_layers": [], "qkv_bias": true })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("mlp_only_layers", json!([]))?;
        fields.expect("qkv_bias", true)?;
        let windowed = fields.get("use_sliding_window") == true;
        fields.end_at_window(fields.number("sliding_window").filter(|_| windowed));
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        qwen2_moe::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Qwen3Moe {
    const NAME: &'static str = "qwen3_moe";
    const CLASS: &'static str = "Qwen3MoeForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 151_936, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 24,
            "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "hidden_act": "silu",
            "max_position_embeddings": 32_768, "rms_norm_eps": 1e-6, "tie_word_embeddings": false,
            "use_sliding_window": false, "max_window_layers": 28, "attention_bias": false, "decoder_sparse_step": 1,
            "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128, "norm_topk_prob": false,
            "mlp_only_layers": [] })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("mlp_only_layers", json!([]))?;
        fields.expect("use_sliding_window", false)?;
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        qwen3_moe::ModelForCausalLM::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for DeepSeek2 {
    const NAME: &'static str = "deepseek_v2";
    const CLASS: &'static str = "DeepseekV2ForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 102_400, "hidden_size": 4096, "intermediate_size": 11_008, "moe_intermediate_size": 1407,
            "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
            "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "tie_word_embeddings": false, "attention_bias": false,
            "first_k_dense_replace": 0, "moe_layer_freq": 1, "kv_lora_rank": 512, "n_group": 1, "topk_group": 1,
            "n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "norm_topk_prob": false,
            "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128, "routed_scaling_factor": 1.0,
            "scoring_func": "softmax", "topk_method": "greedy", "rope_theta": 10_000.0 })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        // Candle restricts experts to the groups of the most likely experts; the reference, to the most likely groups.
        fields.expect("topk_method", "greedy")?;
        // The reference scales the chosen experts' shares and never normalises their sum.
        fields.expect("norm_topk_prob", false)?;
        fields.expect("moe_layer_freq", 1)?;
        let scaling = [fields.get("rope_scaling"), fields.get("rope_parameters")];
        let scaling = scaling.into_iter().find(|scaling| scaling.is_object()).cloned();
        let mut scaling = scaling.unwrap_or_else(|| json!({}));
        let kind = [&scaling["rope_type"], &scaling["type"]]
            .into_iter()
            .find_map(Value::as_str);
        let Some(kind) = kind.filter(|kind| *kind != "default").map(str::to_owned) else {
            fields.set("rope_scaling", Value::Null);
            return fields.plain_rope(1e4);
        };
        if let Some(theta) = scaling.get("rope_theta").cloned() {
            fields.set("rope_theta", theta);
        }
        scaling["type"] = kind.into();
        fields.set("rope_scaling", scaling);
        fields.expect_in("rope_scaling", "type", "yarn")
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        deepseek2::DeepSeekV2::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        None
    }
}
