//! Families of dense layers with attention.

use crate::family::Family;
use crate::fields::Fields;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{bigcode, falcon, gemma, gemma2, helium, olmo, phi, stable_lm, starcoder2};
use plugin_api::serde_json::{Value, json};

pub use bigcode::GPTBigCode as BigCode;
pub use falcon::Falcon;
pub use gemma::Model as Gemma;
pub use gemma2::Model as Gemma2;
pub use helium::Model as Helium;
pub use olmo::Model as Olmo;
pub use phi::Model as Phi;
pub use stable_lm::Model as StableLm;
pub use starcoder2::Model as Starcoder2;

impl Family for Gemma {
    const NAME: &'static str = "gemma";
    const CLASS: &'static str = "GemmaForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 256_000, "hidden_size": 3072, "intermediate_size": 24_576, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "attention_bias": false, "tie_word_embeddings": true })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        // The first files say `gelu` and mean its approximation, and the reference reads it so.
        if fields.get("hidden_act") == "gelu" {
            fields.set("hidden_act", "gelu_pytorch_tanh");
        }
        fields.set("hidden_activation", Value::Null);
        fields.expect("tie_word_embeddings", true)?;
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        gemma::Model::new(false, &fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Gemma2 {
    const NAME: &'static str = "gemma2";
    const CLASS: &'static str = "Gemma2ForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 256_000, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
            "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "attention_bias": false, "tie_word_embeddings": true,
            "query_pre_attn_scalar": 256, "sliding_window": 4096, "final_logit_softcapping": 30.0,
            "attn_logit_softcapping": 50.0 })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.end_at_window(fields.number("sliding_window"));
        // Candle divides by the square root of the head size and ignores this field; Gemma 2 27B has another value.
        fields.expect("query_pre_attn_scalar", fields.get("head_dim").clone())?;
        fields.expect("tie_word_embeddings", true)?;
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        gemma2::Model::new(false, &fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for StableLm {
    const NAME: &'static str = "stablelm";
    const CLASS: &'static str = "StableLmForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 50_304, "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 4096,
            "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.25, "use_qkv_bias": false, "qk_layernorm": false,
            "use_parallel_residual": false, "tie_word_embeddings": false })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("qk_layernorm", false)?;
        fields.expect("use_parallel_residual", false)?;
        fields.set("use_cache", true);
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        stable_lm::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        None
    }
}

impl Family for Starcoder2 {
    const NAME: &'static str = "starcoder2";
    const CLASS: &'static str = "Starcoder2ForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 49_152, "hidden_size": 3072, "intermediate_size": 12_288, "num_hidden_layers": 30,
            "num_attention_heads": 24, "num_key_value_heads": 2, "hidden_act": "gelu_pytorch_tanh",
            "max_position_embeddings": 4096, "norm_epsilon": 1e-5, "use_bias": true, "tie_word_embeddings": true })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.end_at_window(fields.number("sliding_window"));
        fields.expect("tie_word_embeddings", true)?;
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        starcoder2::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for BigCode {
    const NAME: &'static str = "gpt_bigcode";
    const CLASS: &'static str = "GPTBigCodeForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 50_257, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "max_position_embeddings": 1024, "layer_norm_epsilon": 1e-5, "multi_query": true,
            "activation_function": "gelu_pytorch_tanh", "scale_attn_weights": true, "tie_word_embeddings": true })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("activation_function", "gelu_pytorch_tanh")?;
        fields.expect("scale_attn_weights", true)?;
        fields.expect("tie_word_embeddings", true)?;
        if fields.get("multi_query") == true {
            fields.set("num_key_value_heads", 1);
        }
        // Its mask is a table of the longest text's length squared.
        nn::within("n_positions", fields.context(), 1..=1 << 14).map(drop)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        let number = |name| fields.number(name).unwrap_or(0);
        let config = bigcode::Config {
            vocab_size: number("vocab_size"),
            max_position_embeddings: number("max_position_embeddings"),
            num_hidden_layers: number("num_hidden_layers"),
            hidden_size: number("hidden_size"),
            layer_norm_epsilon: fields.get("layer_norm_epsilon").as_f64().unwrap_or(1e-5),
            n_inner: fields.number("intermediate_size"),
            num_attention_heads: number("num_attention_heads"),
            multi_query: fields.get("multi_query") == true,
            use_cache: true,
        };
        bigcode::GPTBigCode::load(weights, config)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        None
    }
}

impl Family for Phi {
    const NAME: &'static str = "phi";
    const CLASS: &'static str = "PhiForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 51_200, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 32, "hidden_act": "gelu_new", "max_position_embeddings": 2048, "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.5, "qk_layernorm": false, "tie_word_embeddings": false })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("qk_layernorm", false)?;
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        phi::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, _past: usize) -> Result<Tensor> {
        self.forward(tokens)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Olmo {
    const NAME: &'static str = "olmo";
    const CLASS: &'static str = "OlmoForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 50_304, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
            "attention_bias": false, "tie_word_embeddings": false })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.plain_rope(1e4)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        olmo::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Helium {
    const NAME: &'static str = "helium";
    const CLASS: &'static str = "HeliumForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 48_000, "hidden_size": 2560, "intermediate_size": 7040, "num_hidden_layers": 24,
            "num_attention_heads": 20, "num_key_value_heads": 20, "head_dim": 128, "hidden_act": "silu",
            "max_position_embeddings": 4096, "rms_norm_eps": 1e-8, "attention_bias": false, "mlp_bias": false,
            "tie_word_embeddings": false, "bos_token_id": 1 })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        // Candle requires one value and does not use it; files may have several.
        fields.set("eos_token_id", 2);
        fields.plain_rope(1e5)
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        helium::Model::new(&fields.config()?, weights)
    }

    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        self.forward(tokens, past)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}

impl Family for Falcon {
    const NAME: &'static str = "falcon";
    const CLASS: &'static str = "FalconForCausalLM";
    const UNVERIFIED: Option<&'static str> = Some(
        "candle approximates its GELU by tanh where the reference has the exact one, and logits differ in the third decimal",
    );

    fn defaults() -> Value {
        json!({ "vocab_size": 65_024, "hidden_size": 4544, "num_hidden_layers": 32, "num_attention_heads": 71,
            "layer_norm_epsilon": 1e-5, "initializer_range": 0.02, "bos_token_id": 11, "eos_token_id": 11,
            "hidden_dropout": 0.0, "attention_dropout": 0.0, "alibi": false, "new_decoder_architecture": false,
            "multi_query": true, "parallel_attn": true, "bias": false, "max_position_embeddings": 2048,
            "tie_word_embeddings": true })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        fields.expect("alibi", false)?;
        fields.expect("new_decoder_architecture", false)?;
        fields.expect("multi_query", true)?;
        fields.plain_rope(1e4)?;
        fields.expect("rope_theta", 1e4)?;
        fields.set("use_cache", true);
        fields.set("num_key_value_heads", 1);
        // Its table of angles has this length.
        fields.end_at(5000);
        Ok(())
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        falcon::Falcon::load(weights, fields.config()?)
    }

    fn step(&mut self, tokens: &Tensor, _past: usize) -> Result<Tensor> {
        self.forward(tokens)
    }

    fn fork(&self) -> Option<Self> {
        Some(self.clone())
    }
}
