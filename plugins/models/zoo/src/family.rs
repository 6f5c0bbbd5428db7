//! What a family says of itself, and how its models are called.

use crate::fields::Fields;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use plugin_api::serde_json::Value;

/// A model of candle-transformers with the state of one text: the tokens that it was stepped through so far.
pub trait Family: Sized + Send + 'static {
    /// Its `model_type` in config.json.
    const NAME: &'static str;
    /// Its class among `architectures`.
    const CLASS: &'static str;
    /// Why its numbers are marked; none when this crate's tests reproduce a recording of the reference.
    const UNVERIFIED: Option<&'static str> = Some("it has not been compared with its reference");

    /// What the reference takes where config.json says nothing, of the fields that candle wants.
    fn defaults() -> Value;

    /// Refuses what candle leaves out or does in another way, and gives fields the names that candle has for them.
    fn settle(_fields: &mut Fields) -> nn::Result<()> {
        Ok(())
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self>;

    /// The logits behind the last of these tokens (1, tokens), which follow `past` others; (…, vocabulary).
    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor>;

    /// The same text once more, to go on in another way; none if candle does not let its state be copied.
    fn fork(&self) -> Option<Self>;
}

/// A [`Family`]'s model, whichever it is.
pub trait Model: Send {
    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor>;
    fn fork(&self) -> Option<Box<dyn Model>>;
}

impl<F: Family> Model for F {
    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor> {
        Family::step(self, tokens, past)
    }

    fn fork(&self) -> Option<Box<dyn Model>> {
        Some(Box::new(Family::fork(self)?))
    }
}

/// A family in the list of all.
pub struct Entry {
    pub name: &'static str,
    pub class: &'static str,
    pub unverified: Option<&'static str>,
    pub defaults: fn() -> Value,
    pub settle: fn(&mut Fields) -> nn::Result<()>,
    pub load: fn(&Fields, VarBuilder) -> Result<Box<dyn Model>>,
}

impl Entry {
    pub const fn of<F: Family>() -> Entry {
        Entry {
            name: F::NAME,
            class: F::CLASS,
            unverified: F::UNVERIFIED,
            defaults: F::defaults,
            settle: F::settle,
            load: |fields, weights| Ok(Box::new(F::load(fields, weights)?)),
        }
    }
}
