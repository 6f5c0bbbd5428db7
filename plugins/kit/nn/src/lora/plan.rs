//! The LoRAs of each token of a pass.

use super::{read, write};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// A set of the LoRAs that a model holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct LoraSet(Arc<[usize]>);

impl LoraSet {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, lora: usize) -> bool {
        self.0.contains(&lora)
    }
}

impl FromIterator<usize> for LoraSet {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> LoraSet {
        let mut numbers: Vec<usize> = numbers.into_iter().collect();
        numbers.sort_unstable();
        numbers.dedup();
        LoraSet(numbers.into())
    }
}

/// The LoRAs of each token of a pass.
#[derive(Debug, Default)]
pub struct LoraPlan {
    /// None if all tokens, however many, use the same LoRAs.
    tokens: Option<usize>,
    /// For each LoRA, the places of its tokens, or none if all tokens use it.
    uses: BTreeMap<usize, Option<Tensor>>,
}

impl LoraPlan {
    /// All tokens, however many, use the same LoRAs.
    pub fn all(set: &LoraSet) -> LoraPlan {
        LoraPlan {
            tokens: None,
            uses: set.0.iter().map(|&lora| (lora, None)).collect(),
        }
    }

    /// Consecutive runs of tokens, each with its own LoRAs.
    pub fn of_runs(runs: &[(LoraSet, usize)], device: &Device) -> candle_core::Result<LoraPlan> {
        if runs.iter().all(|(set, _)| *set == runs[0].0) {
            return Ok(LoraPlan::all(runs.first().map_or(&LoraSet::default(), |(set, _)| set)));
        }
        let mut places: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut start = 0;
        for (set, tokens) in runs {
            for &lora in set.0.iter() {
                let run = start as u32..(start + tokens) as u32;
                places.entry(lora).or_default().extend(run);
            }
            start += tokens;
        }
        let place = |(lora, places): (usize, Vec<u32>)| {
            let all = places.len() == start;
            let places = (!all).then(|| Tensor::new(places, device)).transpose()?;
            Ok((lora, places))
        };
        Ok(LoraPlan {
            tokens: Some(start),
            uses: places.into_iter().map(place).collect::<candle_core::Result<_>>()?,
        })
    }

    /// The places of a LoRA's tokens: none if it is not used, `Some(None)` if all tokens use it.
    pub(super) fn rows(&self, lora: usize) -> Option<Option<&Tensor>> {
        self.uses.get(&lora).map(Option::as_ref)
    }

    pub(super) fn tokens(&self) -> Option<usize> {
        self.tokens
    }
}

/// The plan of the current pass.
#[derive(Default)]
pub(super) struct Current(RwLock<Option<Arc<LoraPlan>>>);

impl Current {
    pub fn plan(&self) -> Option<Arc<LoraPlan>> {
        read(&self.0).clone()
    }

    pub fn enter(self: &Arc<Self>, plan: LoraPlan) -> Entered {
        let before = write(&self.0).replace(Arc::new(plan));
        Entered {
            current: self.clone(),
            before,
        }
    }
}

/// While it lives, passes use the plan that was entered.
#[must_use]
pub struct Entered {
    current: Arc<Current>,
    before: Option<Arc<LoraPlan>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        *write(&self.current.0) = self.before.take();
    }
}
