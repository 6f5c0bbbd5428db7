//! Parameters, learnt or frozen, and the places of the values and gradients of learnt ones.

use super::Parameter;
use super::stored::Stored;
use plugin_api::Result;
use std::ops::Range;

/// A matrix (outputs, inputs). Clones share their values.
#[derive(Clone)]
pub(crate) enum Weight {
    Frozen(Stored),
    /// A range in the buffer of learnt values.
    Learnt(Range<usize>),
}

impl Weight {
    /// The matrix of some outputs.
    pub fn part(&self, outputs: &Range<usize>, inputs: usize) -> Weight {
        match self {
            Weight::Frozen(stored) => Weight::Frozen(stored.part(outputs.clone())),
            Weight::Learnt(range) => Weight::Learnt(within(range, outputs, inputs)),
        }
    }
}

/// The place of some rows of a matrix that lies in a range.
pub(crate) fn within(range: &Range<usize>, rows: &Range<usize>, columns: usize) -> Range<usize> {
    range.start + rows.start * columns..range.start + rows.end * columns
}

/// A vector, such as a bias.
#[derive(Debug, Clone)]
pub(crate) enum Vector {
    Frozen(Vec<f32>),
    Learnt(Range<usize>),
}

impl Vector {
    pub fn part(&self, some: &Range<usize>) -> Vector {
        match self {
            Vector::Frozen(values) => Vector::Frozen(values[some.clone()].to_vec()),
            Vector::Learnt(range) => Vector::Learnt(within(range, some, 1)),
        }
    }
}

/// What a pass reads besides the layers.
#[derive(Clone, Copy)]
pub(crate) struct Pass<'a> {
    /// All learnt values.
    pub values: &'a [f32],
    /// Whether inputs of products with weights are rounded to bf16, and the weights as well.
    pub rounded: bool,
    /// The seed of dropout; none during evaluation.
    pub draws: Option<u64>,
}

impl Pass<'_> {
    pub fn vector<'v>(&'v self, vector: &'v Vector) -> &'v [f32] {
        match vector {
            Vector::Frozen(values) => values,
            Vector::Learnt(range) => &self.values[range.clone()],
        }
    }
}

/// All gradients, in the order of the values.
pub(crate) struct Gradients<'a>(pub &'a mut [f32]);

impl Gradients<'_> {
    pub fn vector(&mut self, vector: &Vector) -> Option<&mut [f32]> {
        match vector {
            Vector::Frozen(_) => None,
            Vector::Learnt(range) => Some(&mut self.0[range.clone()]),
        }
    }

    pub fn weight(&mut self, weight: &Weight) -> Option<&mut [f32]> {
        match weight {
            Weight::Frozen(_) => None,
            Weight::Learnt(range) => Some(&mut self.0[range.clone()]),
        }
    }
}

/// A learnt tensor and its place.
#[derive(Debug, Clone)]
pub(crate) struct Learnt {
    pub parameter: Parameter,
    pub range: Range<usize>,
    /// Its learning rate as a multiple of the step's.
    pub ratio: f64,
    /// Whether its optimiser states are fp32 whatever the optimiser.
    pub wide_states: bool,
    /// Whether only clips pass through it: a part of the audio tower or its projector.
    pub hears: bool,
}

/// What is learnt, in the order in which layers are loaded.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub values: Vec<f32>,
    pub learnt: Vec<Learnt>,
}

impl Parameters {
    /// Whether a part that hears is learnt.
    pub fn hear(&self) -> bool {
        self.learnt.iter().any(|learnt| learnt.hears)
    }

    /// Adds values to learn.
    pub fn add(&mut self, name: String, shape: &[usize], values: Vec<f32>) -> Result<Range<usize>> {
        let start = self.values.len();
        let count: usize = shape.iter().product();
        if count != values.len() {
            let message = format!("`{name}` has {} values, expected {shape:?}", values.len());
            return Err(plugin_api::Error::new(plugin_api::Code::DATA, message));
        }
        self.values.extend(values);
        let range = start..self.values.len();
        let decayed = !undecayed(&name);
        self.learnt.push(Learnt {
            parameter: Parameter {
                name,
                shape: shape.to_vec(),
                decayed,
            },
            range: range.clone(),
            ratio: 1.0,
            wide_states: false,
            hears: false,
        });
        Ok(range)
    }
}

/// Whether a parameter of this name is exempt from weight decay: biases and norms.
///
/// The rule is the reference's expression `bias|layernorm|rmsnorm|(^|\.)norm($|\.)|_norm($|\.)` over the name in lower
/// case.
fn undecayed(name: &str) -> bool {
    let name = name.to_lowercase();
    let part = |part: &str| part == "norm" || part.ends_with("_norm");
    ["bias", "layernorm", "rmsnorm"].iter().any(|word| name.contains(word)) || name.split('.').any(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norms_and_biases_are_not_decayed() {
        for name in [
            "model.norm.weight",
            "model.layers.0.self_attn.q_norm.weight",
            "model.layers.0.self_attn.q_proj.bias",
            "model.layers.0.input_layernorm.weight",
            "audio_tower.layer_norm.bias",
            "norm",
        ] {
            assert!(undecayed(name), "{name}");
        }
        for name in [
            "model.embed_tokens.weight",
            "lm_head.weight",
            "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
            "model.normal.weight",
            "model.q_norms.weight",
        ] {
            assert!(!undecayed(name), "{name}");
        }
    }
}
