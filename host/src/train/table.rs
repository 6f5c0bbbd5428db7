//! The results of a run in one table: before, after, and published.

use super::environment::Place;
use super::options::{Options, Output};
use crate::table::{Align, Table};
use plugin_api::Learnt;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Prints the table, or JSON.
pub fn print(
    options: &Options,
    learnt: &Learnt,
    timing: &Value,
    results: &Value,
    place: Option<&Place>,
    output: &Output,
) {
    if output.json {
        let mut report = json!({
            "path": learnt.path, "steps": learnt.steps, "loss": learnt.loss, "metrics": learnt.metrics, "timing": timing,
            "processes": place.map_or(1, |place| place.world),
        });
        if !results.is_null() {
            report["test"] = results.clone();
        }
        if !options.published.is_empty() {
            report["published"] = json!(options.published);
        }
        (output.print)(&(serde_json::to_string_pretty(&report).unwrap_or_default() + "\n"));
        return;
    }
    (output.print)(&render(options, learnt, timing, results));
}

fn render(options: &Options, learnt: &Learnt, timing: &Value, results: &Value) -> String {
    let published = &options.published;
    let mut table = Table::new(&[
        ("What", Align::Left),
        ("Before", Align::Right),
        ("After", Align::Right),
        ("Published", Align::Right),
    ]);
    let number = |value: &Value| value.as_f64().map_or_else(String::new, shown);
    let told = RefCell::new(BTreeSet::new());
    let known = |name: &str| {
        told.borrow_mut().insert(name.to_owned());
        published.get(name).map(number).unwrap_or_default()
    };
    let empty = Map::new();
    let (before, after) = (
        results["before"].as_object().unwrap_or(&empty),
        results["after"].as_object().unwrap_or(&empty),
    );
    for (name, value) in after {
        let former = before.get(name).map(number).unwrap_or_default();
        table.row([name.clone(), former, number(value), known(name)]);
    }
    table.row([
        "train loss".to_owned(),
        String::new(),
        learnt.loss.map(shown).unwrap_or_default(),
        known("train_loss"),
    ]);
    if let Some(best) = learnt.metrics.get("best_metric").and_then(Value::as_f64) {
        table.row([
            "best metric".to_owned(),
            String::new(),
            shown(best),
            known("best_metric"),
        ]);
    }
    for (name, key) in [
        ("train seconds", "train_duration_seconds"),
        ("rows a second", "rows_per_second"),
        ("tokens a second", "tokens_per_second"),
        ("peak memory, GB", "peak_memory_bytes"),
    ] {
        let scale = if key.ends_with("bytes") { 1e9 } else { 1.0 };
        let value = timing[key]
            .as_f64()
            .map(|value| shown(value / scale))
            .unwrap_or_default();
        let theirs = match key {
            "train_duration_seconds" => known("train_seconds"),
            "rows_per_second" => known("rows_per_second"),
            "peak_memory_bytes" => known("peak_gb"),
            _ => String::new(),
        };
        table.row([name.to_owned(), String::new(), value, theirs]);
    }
    // Published figures that the test did not give.
    let all = published.iter().filter(|(_, value)| value.is_number());
    for (name, value) in all.filter(|(name, _)| !told.borrow().contains(*name)) {
        table.row([name.clone(), String::new(), String::new(), number(value)]);
    }
    let mut text = table.render();
    let paired = &results["paired"];
    if let (Some(difference), Some(metric)) = (paired["difference"].as_f64(), paired["metric"].as_str()) {
        let interval = |place: usize| paired["interval"][place].as_f64().unwrap_or(f64::NAN);
        text += &format!(
            "{metric}: {difference:+.4} with what was learnt (95% {:+.4} to {:+.4}) over {} samples; {} better, {} worse, p {:.3}\n",
            interval(0),
            interval(1),
            paired["pairs"],
            paired["better"],
            paired["worse"],
            paired["p"].as_f64().unwrap_or(1.0),
        );
    }
    if let Some(source) = published.get("source").and_then(Value::as_str) {
        text += &format!("published: {source}\n");
    }
    text
}

/// Four decimals, or fewer for large numbers.
fn shown(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_figures_stand_beside_ours() {
        let published = json!({ "execution_accuracy": 0.612, "train_seconds": 5886, "source": "a paper" });
        let options = Options {
            published: published.as_object().unwrap().clone(),
            ..Options::default()
        };
        let results = json!({
            "before": { "execution_accuracy": 0.1 }, "after": { "execution_accuracy": 0.5 },
            "paired": { "metric": "execution_accuracy", "difference": 0.4, "interval": [0.3, 0.5], "pairs": 10, "better": 4, "worse": 0, "p": 0.125 },
        });
        let text = render(
            &options,
            &Learnt {
                loss: Some(0.25),
                ..Learnt::default()
            },
            &json!({ "train_duration_seconds": 12.5 }),
            &results,
        );
        let line = |word: &str| {
            text.lines()
                .find(|line| line.contains(word))
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert!(
            line("execution_accuracy").contains("0.1000") && line("execution_accuracy").contains("0.6120"),
            "{text}"
        );
        assert!(
            line("train seconds").contains("12.5000") && line("train seconds").contains("5886"),
            "{text}"
        );
        assert!(
            text.contains("+0.4000 with what was learnt") && text.contains("published: a paper"),
            "{text}"
        );
    }
}
