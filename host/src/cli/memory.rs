//! What a model would take, asked of its plugin before anything is loaded.

use crate::catalog::{Catalog, Resolved};
use crate::failure::Result;
use crate::process::in_words;
use crate::registry::{AdapterSpec, Registry};
use plugin_api::{Estimate, Kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

/// None where the plugin doesn't say.
pub(super) fn estimate(model: &Resolved) -> Result<Option<Estimate>> {
    model.plugin.estimate(&model.spec.adapter, &model.settings)
}

/// The same for a registry entry, if its weights are on this machine.
pub(super) fn of_entry(registry: &Registry, spec: &AdapterSpec) -> Result<Option<Estimate>> {
    let catalog = Catalog {
        registry,
        offline: true,
        demo: false,
        show: &|_, _| (),
        stop: &AtomicBool::new(false),
    };
    estimate(&catalog.resolve(Kind::Model, &spec.name, &BTreeMap::new())?)
}

/// In a word: `fits, 1434 MB`.
pub(super) fn in_a_word(estimate: &Estimate) -> String {
    let fits = if estimate.fits() { "fits" } else { "too large" };
    format!(
        "{fits}, {}",
        in_words(estimate.weights_bytes.saturating_add(estimate.answer_bytes))
    )
}

/// In a line: `weights 1200 MB as bf16, and 235 MB for an answer of 2048 tokens, of up to 32 at a time; 12.0 GB are
/// free`.
pub(super) fn in_a_line(estimate: &Estimate) -> String {
    let mut line = format!("weights {}", in_words(estimate.weights_bytes));
    if !estimate.stored_as.is_empty() {
        line += &format!(" as {}", estimate.stored_as);
    }
    if estimate.answer_bytes > 0 {
        line += &format!(", and {} for an answer", in_words(estimate.answer_bytes));
        if estimate.planned_tokens > 0 {
            line += &format!(" of {} tokens", estimate.planned_tokens);
        }
        if estimate.batch > 1 {
            line += &format!(", of up to {} at a time", estimate.batch);
        }
    }
    if let Some(available) = estimate.available_bytes {
        let place = if estimate.device.is_empty() { "" } else { " on " };
        line += &format!("; {} are free{place}{}", in_words(available), estimate.device);
    }
    line
}

pub(super) fn as_json(estimate: &Estimate) -> Value {
    let mut value = json!(estimate);
    value["fits"] = estimate.fits().into();
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(estimate: Estimate, line: &str) {
        assert_eq!(in_a_line(&estimate), line);
    }

    #[test]
    fn what_is_known_is_said() {
        let all = Estimate {
            weights_bytes: 1_192_000_000,
            stored_as: "bf16".to_owned(),
            answer_bytes: 234_000_000,
            planned_tokens: 2048,
            batch: 32,
            device: "cpu".to_owned(),
            available_bytes: Some(12_345_678_900),
        };
        check(
            all,
            "weights 1192 MB as bf16, and 234 MB for an answer of 2048 tokens, of up to 32 at a time; 12.3 GB are free on cpu",
        );
        let little = Estimate {
            weights_bytes: 77,
            ..Estimate::default()
        };
        check(little, "weights 77 bytes");
    }

    #[test]
    fn a_model_fits_with_room_for_an_answer() {
        let estimate = |available_bytes| Estimate {
            weights_bytes: 1_192_000_000,
            answer_bytes: 8_000_000,
            available_bytes,
            ..Estimate::default()
        };
        assert_eq!(in_a_word(&estimate(None)), "fits, 1200 MB");
        assert_eq!(in_a_word(&estimate(Some(1_195_000_000))), "too large, 1200 MB");
    }
}
