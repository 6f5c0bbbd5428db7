//! Samples that cross without a copy.

use abi_stable::std_types::{RArc, RVec};

/// Samples that several owners share without copying, also across the boundary.
#[derive(Clone)]
pub(crate) struct Samples(pub(super) RArc<RVec<f32>>);

impl Samples {
    pub(crate) fn new(samples: Vec<f32>) -> Self {
        Samples(RArc::new(RVec::from(samples)))
    }

    pub(crate) fn as_slice(&self) -> &[f32] {
        self.0.as_slice()
    }
}

impl PartialEq for Samples {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}
