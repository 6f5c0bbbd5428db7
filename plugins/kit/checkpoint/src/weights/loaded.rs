//! What has been loaded so far: bytes, values and types.

use super::Weights;
use kernels::precision;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Weights {
    pub(super) fn note(&self, values: usize, bytes: usize) {
        self.store.loaded_values.fetch_add(values as u64, Ordering::Relaxed);
        self.store.loaded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes of all tensors loaded so far by any clone of these weights.
    pub fn loaded_bytes(&self) -> u64 {
        self.store.loaded_bytes.load(Ordering::Relaxed)
    }

    /// Bytes and values of all tensors that these have loaded; a tensor that several share counts once.
    pub fn loaded(all: &[&Weights]) -> (u64, u64) {
        let shared = |n: usize| all[..n].iter().any(|other| Arc::ptr_eq(&other.store, &all[n].store));
        let each = (0..all.len()).filter(|&n| !shared(n)).map(|n| all[n]);
        each.fold((0, 0), |(bytes, values), one| {
            (bytes + one.loaded_bytes(), values + one.loaded_values())
        })
    }

    /// The types of the matrices loaded so far, in words: `q4_k`, or `q4_k (of 197 matrices 1 q8_0)`.
    pub fn precision(&self) -> String {
        let counts = self
            .store
            .matrices
            .lock()
            .map(|counts| counts.clone())
            .unwrap_or_default();
        let all: usize = counts.values().sum();
        let mut counts: Vec<(&str, usize)> = counts.into_iter().collect();
        counts.sort_by_key(|&(_, count)| std::cmp::Reverse(count));
        match counts.split_first() {
            None => precision::dense_name(self.matrices).to_owned(),
            Some(((most, _), [])) => (*most).to_owned(),
            Some(((most, _), others)) => {
                let others: Vec<String> = others.iter().map(|(name, count)| format!("{count} {name}")).collect();
                format!("{most} (of {all} matrices {})", others.join(", "))
            }
        }
    }

    /// The number of values loaded: the model's parameters, once it is complete.
    pub fn loaded_values(&self) -> u64 {
        self.store.loaded_values.load(Ordering::Relaxed)
    }
}
