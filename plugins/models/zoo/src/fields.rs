//! The fields of config.json, completed and checked before candle sees them.
//!
//! Candle trusts the file: it divides by a number of heads, and allocates by a given length.

use candle_core::DType;
use nn::{Error, Result, RopeConfig, RopeScaling, within};
use plugin_api::serde_json::{self, Map, Value};
use serde::de::DeserializeOwned;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// Other families' names for the same fields.
const NAMES: [(&str, &str); 5] = [
    ("n_embd", "hidden_size"),
    ("n_head", "num_attention_heads"),
    ("n_layer", "num_hidden_layers"),
    ("n_positions", "max_position_embeddings"),
    ("n_inner", "intermediate_size"),
];
/// Far above any published model, so that a damaged file cannot ask for terabytes.
const LIMITS: [(&str, RangeInclusive<usize>); 12] = [
    ("vocab_size", 1..=4_000_000),
    ("hidden_size", 1..=262_144),
    ("intermediate_size", 1..=1_048_576),
    ("num_hidden_layers", 1..=1024),
    ("num_attention_heads", 1..=4096),
    ("num_key_value_heads", 1..=4096),
    ("head_dim", 2..=4096),
    ("max_position_embeddings", 2..=1 << 20),
    ("num_experts", 0..=4096),
    ("num_local_experts", 1..=4096),
    ("n_routed_experts", 1..=4096),
    ("decoder_sparse_step", 1..=1024),
];

/// The longest text of a family whose state does not grow.
const ENDLESS: usize = 1 << 20;

#[derive(Debug, Clone)]
pub struct Fields {
    path: PathBuf,
    family: &'static str,
    fields: Map<String, Value>,
    context: usize,
}

impl Fields {
    /// The fields of a file, with its family's defaults.
    pub fn of(path: PathBuf, family: &'static str, given: Map<String, Value>, defaults: Value) -> Result<Fields> {
        let Value::Object(mut fields) = defaults else {
            return Err(Error::Malformed {
                path,
                reason: "its family has no defaults".to_owned(),
            });
        };
        // A `null` counts as missing if the class has a default.
        for (name, value) in given {
            if !value.is_null() || !fields.contains_key(&name) {
                fields.insert(name, value);
            }
        }
        for (own, usual) in NAMES {
            if let Some(value) = fields.get(own).filter(|value| !value.is_null()).cloned() {
                fields.insert(usual.to_owned(), value);
            }
        }
        let mut all = Fields {
            path,
            family,
            fields,
            context: 0,
        };
        all.check()?;
        all.context = all.number("max_position_embeddings").unwrap_or(ENDLESS);
        Ok(all)
    }

    fn check(&self) -> Result<()> {
        for (name, range) in LIMITS {
            if let Some(value) = self.fields.get(name).filter(|value| !value.is_null()) {
                let got = value.as_u64().and_then(|number| usize::try_from(number).ok());
                within(name, got.ok_or_else(|| self.refusal(name, "a whole number"))?, range)?;
            }
        }
        let (heads, keys) = (self.number("num_attention_heads"), self.number("num_key_value_heads"));
        if let (Some(heads), Some(keys)) = (heads, keys) {
            within("num_attention_heads modulo num_key_value_heads", heads % keys, 0..=0)?;
        }
        if let (Some(heads), None, Some(hidden)) = (heads, self.number("head_dim"), self.number("hidden_size")) {
            within("hidden_size modulo num_attention_heads", hidden % heads, 0..=0)?;
        }
        let experts = ["num_experts", "num_local_experts", "n_routed_experts"];
        let experts = experts
            .iter()
            .find_map(|name| self.number(name))
            .filter(|count| *count > 0);
        if let (Some(all), Some(chosen)) = (experts, self.number("num_experts_per_tok")) {
            within("num_experts_per_tok", chosen, 1..=all)?;
        }
        Ok(())
    }

    pub fn number(&self, name: &str) -> Option<usize> {
        self.fields
            .get(name)?
            .as_u64()
            .and_then(|number| usize::try_from(number).ok())
    }

    pub fn get(&self, name: &str) -> &Value {
        self.fields.get(name).unwrap_or(&Value::Null)
    }

    pub fn set(&mut self, name: &str, value: impl Into<Value>) {
        self.fields.insert(name.to_owned(), value.into());
    }

    /// Refuses any value of a field but the one that candle assumes.
    pub fn expect(&self, name: &str, expected: impl Into<Value>) -> Result<()> {
        let (got, expected) = (self.get(name), expected.into());
        let alike = match (got.as_f64(), expected.as_f64()) {
            (Some(got), Some(expected)) => got == expected,
            _ => *got == expected,
        };
        match alike {
            true => Ok(()),
            false => Err(self.refusal(
                name,
                &format!("{expected}, which is all that candle-transformers knows"),
            )),
        }
    }

    /// [`Self::expect`] for a field within another field.
    pub fn expect_in(&self, outer: &str, name: &str, expected: &str) -> Result<()> {
        match self.get(outer).get(name).is_some_and(|got| got == expected) {
            true => Ok(()),
            false => Err(self.refusal(
                outer,
                &format!("`{name}` to be {expected}, which is all that candle-transformers knows"),
            )),
        }
    }

    fn refusal(&self, name: &str, expected: &str) -> Error {
        Error::Config {
            what: format!("`{name}` in config.json of a `{}`", self.family),
            got: self.get(name).to_string(),
            expected: expected.to_owned(),
        }
    }

    /// Sets `rope_theta`, which newer files store elsewhere. Scaling is refused, unless a family allows it.
    pub fn plain_rope(&mut self, theta: f64) -> Result<()> {
        let rope: RopeConfig = self.config().map_err(|error| self.malformed(&error))?;
        let scaling = rope.scaling(self.context)?;
        if scaling != RopeScaling::Default {
            return Err(Error::Config {
                what: format!("the rope scaling in config.json of a `{}`", self.family),
                got: format!("`{}`", scaling.name()),
                expected: "none, which is all that candle-transformers knows".to_owned(),
            });
        }
        self.set("rope_theta", rope.theta(theta));
        if let Some(part) = self.get("rope_parameters").get("partial_rotary_factor").cloned() {
            self.set("partial_rotary_factor", part);
        }
        Ok(())
    }

    /// Limits texts to the window of attention: candle's mask is one token too wide in a prompt, and missing for later
    /// tokens.
    pub fn end_at_window(&mut self, window: Option<usize>) {
        self.context = window.map_or(self.context, |window| window.clamp(2, self.context));
        self.set("sliding_window", ENDLESS);
    }

    pub fn end_at(&mut self, tokens: usize) {
        self.context = self.context.min(tokens);
    }

    /// The longest text.
    pub fn context(&self) -> usize {
        self.context
    }

    pub fn vocabulary(&self) -> usize {
        self.number("vocab_size").unwrap_or(0)
    }

    pub fn is_tied(&self) -> bool {
        self.get("tie_word_embeddings") == true
    }

    /// Bytes of the keys and values of this many tokens; zero for families without heads, whose state does not grow.
    pub fn cache_bytes(&self, dtype: DType, tokens: usize) -> u64 {
        let heads = self.number("num_attention_heads").unwrap_or(0);
        let size = self.number("hidden_size").unwrap_or(0).checked_div(heads).unwrap_or(0);
        let size = self.number("head_dim").filter(|_| heads > 0).unwrap_or(size);
        let values = 2
            * self.number("num_hidden_layers").unwrap_or(0)
            * self.number("num_key_value_heads").unwrap_or(heads)
            * size;
        (values * dtype.size_in_bytes()) as u64 * tokens as u64
    }

    /// The fields as candle's own `Config` of the family.
    pub fn config<C: DeserializeOwned>(&self) -> candle_core::Result<C> {
        serde_json::from_value(Value::Object(self.fields.clone())).map_err(candle_core::Error::msg)
    }

    pub fn malformed(&self, reason: &impl std::fmt::Display) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            reason: reason.to_string(),
        }
    }
}
