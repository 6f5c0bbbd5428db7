//! The lines about training that people read; `logs.log` keeps them.

use plugin_api::LearnEvent;
use serde_json::Value;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

const FILE: &str = "logs.log";

/// Adds lines to a run's log. If one cannot be written, training continues.
pub fn add(out: &Path, words: &str) {
    let file = OpenOptions::new().create(true).append(true).open(out.join(FILE));
    drop(file.and_then(|mut file| writeln!(file, "{words}")));
}

/// A line of the log, for people without a progress bar.
pub fn line(event: &LearnEvent, seconds: f64) -> String {
    let total = event.steps.unwrap_or_default();
    let left = match event.step {
        0 => 0.0,
        step => seconds / step as f64 * total.saturating_sub(step) as f64,
    };
    let number = |key: &str| event.metrics.get(key).and_then(Value::as_f64);
    let mut words = format!("step {}/{total}", event.step);
    for (key, name) in [
        ("loss", "loss"),
        ("eval_loss", "eval loss"),
        ("train_loss", "mean loss"),
    ] {
        if let Some(value) = number(key) {
            words += &format!(", {name} {value:.4}");
        }
    }
    if let Some(rate) = number("learning_rate") {
        words += &format!(", rate {rate:.2e}, {left:.0} s to go");
    }
    words
}

/// A line about the training data and the trained parameters.
pub fn facts(event: &LearnEvent) -> String {
    let of = |key: &str| event.metrics.get(key).cloned().unwrap_or_default();
    let (learnt, all) = (of("learnt_parameters"), of("parameters"));
    let precision = of("precision");
    let mut words = format!("{} steps, {learnt} of {all} parameters are learnt", of("steps"));
    if let Some(precision) = precision.as_str().filter(|precision| !precision.is_empty()) {
        words += &format!("; {precision}");
    }
    let targets = of("targets");
    if let Some(targets) = targets.as_array().filter(|targets| !targets.is_empty()) {
        let mut kinds: Vec<&str> = targets
            .iter()
            .filter_map(|name| name.as_str()?.rsplit('.').next())
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        words += &format!("; LoRA on {} layers ({})", targets.len(), kinds.join(", "));
    }
    words
}
