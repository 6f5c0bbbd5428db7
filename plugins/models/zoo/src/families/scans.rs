//! Families whose state does not grow with the text.

use crate::family::Family;
use crate::fields::Fields;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::{mamba, mamba2};
use plugin_api::serde_json::{Value, json};

pub struct Mamba {
    model: mamba::Model,
    state: mamba::State,
}

impl Family for Mamba {
    const NAME: &'static str = "mamba";
    const CLASS: &'static str = "MambaForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 50_280, "hidden_size": 768, "num_hidden_layers": 32, "state_size": 16, "conv_kernel": 4,
            "expand": 2, "layer_norm_epsilon": 1e-5, "use_bias": false, "use_conv_bias": true, "hidden_act": "silu",
            "tie_word_embeddings": true, "time_step_rank": "auto" })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        expect_what_candle_fixes(fields)?;
        fields.expect("state_size", 16)?;
        fields.expect("expand", 2)?;
        let hidden = fields.number("hidden_size").unwrap_or(0);
        if fields.get("time_step_rank") != "auto" {
            fields.expect("time_step_rank", hidden.div_ceil(16))?;
        }
        if fields.number("intermediate_size").is_some() {
            fields.expect("intermediate_size", 2 * hidden)?;
        }
        fields.set("d_model", hidden);
        fields.set("n_layer", fields.get("num_hidden_layers").clone());
        Ok(())
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        let config: mamba::Config = fields.config()?;
        let model = mamba::Model::new(&config, weights.pp("backbone"))?;
        let state = mamba::State::new(1, &config, weights.dtype(), weights.device())?;
        Ok(Mamba { model, state })
    }

    fn step(&mut self, tokens: &Tensor, _past: usize) -> Result<Tensor> {
        one_by_one(tokens, |token| self.model.forward(token, &mut self.state))
    }

    fn fork(&self) -> Option<Self> {
        let mamba::State { hs, prev_xs, pos } = &self.state;
        let state = mamba::State {
            hs: hs.clone(),
            prev_xs: prev_xs.clone(),
            pos: *pos,
        };
        Some(Mamba {
            model: self.model.clone(),
            state,
        })
    }
}

pub struct Mamba2 {
    model: mamba2::Model,
    state: mamba2::State,
}

impl Family for Mamba2 {
    const NAME: &'static str = "mamba2";
    const CLASS: &'static str = "Mamba2ForCausalLM";
    const UNVERIFIED: Option<&'static str> = None;

    fn defaults() -> Value {
        json!({ "vocab_size": 32_768, "hidden_size": 4096, "num_hidden_layers": 64, "num_heads": 128, "head_dim": 64,
            "state_size": 128, "conv_kernel": 4, "expand": 2, "n_groups": 8, "layer_norm_epsilon": 1e-5, "use_bias": false,
            "use_conv_bias": true, "hidden_act": "silu", "tie_word_embeddings": false })
    }

    fn settle(fields: &mut Fields) -> nn::Result<()> {
        expect_what_candle_fixes(fields)?;
        // The reference normalises each group of heads separately, candle all of them together.
        fields.expect("n_groups", 1)?;
        let number = |name| fields.number(name).unwrap_or(0);
        let inner = number("hidden_size") * number("expand").min(64);
        fields.expect("head_dim", inner.checked_div(number("num_heads")).unwrap_or(0))
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self> {
        let config: mamba2::Config = fields.config()?;
        let model = mamba2::Model::new(&config, weights.pp("backbone"))?;
        let state = mamba2::State::new(1, &config, weights.dtype(), weights.device())?;
        Ok(Mamba2 { model, state })
    }

    fn step(&mut self, tokens: &Tensor, _past: usize) -> Result<Tensor> {
        one_by_one(tokens, |token| self.model.forward(token, &mut self.state))
    }

    fn fork(&self) -> Option<Self> {
        let mamba2::State { hs, conv_states, pos } = &self.state;
        let state = mamba2::State {
            hs: hs.clone(),
            conv_states: conv_states.clone(),
            pos: *pos,
        };
        Some(Mamba2 {
            model: self.model.clone(),
            state,
        })
    }
}

/// Fields of which candle supports a single value, in both generations.
fn expect_what_candle_fixes(fields: &mut Fields) -> nn::Result<()> {
    for (name, value) in [
        ("conv_kernel", json!(4)),
        ("layer_norm_epsilon", json!(1e-5)),
        ("use_bias", json!(false)),
        ("use_conv_bias", json!(true)),
        ("hidden_act", json!("silu")),
        ("tie_word_embeddings", json!(true)),
    ] {
        fields.expect(name, value)?;
    }
    // Tables are used with their stored length.
    fields.set("pad_vocab_size_multiple", 1);
    Ok(())
}

/// The logits after the last of the tokens (1, tokens), which are processed one by one.
fn one_by_one(tokens: &Tensor, mut step: impl FnMut(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let tokens = tokens.flatten_all()?;
    let mut logits = step(&tokens.narrow(0, 0, 1)?)?;
    for place in 1..tokens.elem_count() {
        logits = step(&tokens.narrow(0, place, 1)?)?;
    }
    Ok(logits)
}
