//! The description of a family, and how its models are run.

use crate::fields::Fields;
use candle_core::{Result, Tensor};
use candle_nn::VarBuilder;
use plugin_api::serde_json::Value;

/// A model of candle-transformers with the state of one text: the tokens that it has processed so far.
pub trait Family: Sized + Send + 'static {
    /// Its `model_type` in config.json.
    const NAME: &'static str;
    /// Its class among `architectures`.
    const CLASS: &'static str;
    /// Why its numbers are marked as unverified; none if this crate's tests reproduce a recording of the reference.
    const UNVERIFIED: Option<&'static str> = Some("it has not been compared with its reference");

    /// The reference's defaults for the fields that candle needs.
    fn defaults() -> Value;

    /// Refuses settings that candle ignores or implements differently, and renames fields to candle's names.
    fn settle(_fields: &mut Fields) -> nn::Result<()> {
        Ok(())
    }

    fn load(fields: &Fields, weights: VarBuilder) -> Result<Self>;

    /// The logits after the last of these tokens (1, tokens), which follow `past` others; (…, vocabulary).
    fn step(&mut self, tokens: &Tensor, past: usize) -> Result<Tensor>;

    /// A copy with the same state; none if candle does not allow it.
    fn fork(&self) -> Option<Self>;
}

/// The model of any [`Family`].
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

/// An entry in the list of families.
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
