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

/// What the model answered to an evaluation lesson, shortened.
pub fn generation(event: &LearnEvent) -> String {
    let of = |key: &str| event.metrics.get(key).and_then(Value::as_str).unwrap_or_default();
    let (lesson, total) = (of("lesson"), event.steps.unwrap_or_default());
    let said = shortened(of("generated"));
    let beside = match event.metrics.get("equal") == Some(&Value::Bool(true)) {
        true => "as expected".to_owned(),
        false => format!("expected {}", shortened(of("target"))),
    };
    format!("step {}/{total}, answer to `{lesson}`: {said}, {beside}", event.step)
}

/// A text in quotes on one line, its end left out where it is long.
fn shortened(text: &str) -> String {
    const MOST: usize = 60;
    let mut start: String = text.chars().take(MOST).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_is_one_short_line() {
        let told = |target: &str, generated: &str| {
            let metrics =
                json!({ "lesson": "arc-1", "target": target, "generated": generated, "equal": target == generated });
            generation(&LearnEvent {
                step: 50,
                steps: Some(141),
                metrics: metrics.as_object().cloned().unwrap_or_default(),
                ..LearnEvent::default()
            })
        };
        assert_eq!(told("B", "B"), r#"step 50/141, answer to `arc-1`: "B", as expected"#);
        assert_eq!(
            told(&"é".repeat(61), "{\n"),
            format!(
                r#"step 50/141, answer to `arc-1`: "{{\n", expected "{}…""#,
                "é".repeat(60)
            )
        );
    }
}
