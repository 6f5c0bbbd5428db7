//! The forward and backward pass of each kind of layer.
//!
//! Inputs and outputs are rows of tokens, one text after the other. The backward pass of a layer gets the gradient of
//! its output and what the forward pass kept; it adds to the gradients of its parameters and returns that of its
//! input.

pub(crate) mod attention;
pub(crate) mod decoder;
pub(crate) mod gated;
pub(crate) mod head;
pub(crate) mod linear;
pub(crate) mod norm;
pub(crate) mod rope;
pub(crate) mod tower;

/// The start of each text of a batch, and the end of the last one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Texts {
    ends: Vec<usize>,
}

impl Texts {
    pub fn of(lengths: impl Iterator<Item = usize>) -> Texts {
        let mut end = 0;
        let ends = lengths.map(|length| {
            end += length;
            end
        });
        Texts { ends: ends.collect() }
    }

    pub fn tokens(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    pub fn each(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| start..end)
    }

    /// The position of each token in its text.
    pub fn positions(&self) -> Vec<u32> {
        self.each().flat_map(|text| 0..text.len() as u32).collect()
    }
}
