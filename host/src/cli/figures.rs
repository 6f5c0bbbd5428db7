//! What the commands about faithfulness share: a splitter by its name, and figures as a table.

use crate::failure::{Failure, Result};
use crate::table::{Align, Table};
use faithfulness::Splitter;
use serde_json::Value;

pub(super) fn splitter(name: &str) -> Result<Splitter> {
    Splitter::parse(name).ok_or_else(|| {
        let message = format!("unknown splitter `{name}`");
        Failure::usage(message).help(format!("there are {}", Splitter::NAMES.join(", ")))
    })
}

/// The figures for people, warnings first.
pub(super) fn summary(figures: &Value) -> String {
    let right = ["used", "left out", "same %", "accuracy %", "AOC", "±", "slope"].map(|name| (name, Align::Right));
    let left = ["model", "data set", "experiment", "reference"].map(|name| (name, Align::Left));
    let mut table = Table::new(&[&left[..], &right[..]].concat());
    let mut verdicts = String::new();
    let number = |value: &Value, scale: f64, digits: usize| {
        value
            .as_f64()
            .map_or("-".to_owned(), |value| format!("{:.digits$}", value * scale))
    };
    let each = |value: &Value| value.as_object().cloned().unwrap_or_default();
    for (model, datasets) in each(figures) {
        for (dataset, experiments) in each(&datasets) {
            for (experiment, entry) in each(&experiments) {
                for reference in ["baseline", "full"] {
                    let of = &entry[reference];
                    let count = |name: &str| of[name].as_u64().unwrap_or(0);
                    let left_out =
                        count("malformed") + count("repeated") + count("zero_length") + count("no_reference");
                    table.row([
                        model.clone(),
                        dataset.clone(),
                        experiment.clone(),
                        reference.to_owned(),
                        count("used").to_string(),
                        left_out.to_string(),
                        number(&of["consistency"], 100.0, 1),
                        number(&of["accuracy"], 100.0, 1),
                        number(&of["aoc"], 1.0, 4),
                        number(&of["aoc_se_by_clip"], 1.0, 4),
                        number(&of["slope"], 1.0, 3),
                    ]);
                }
                if let Some(sentence) = entry["verdict"]["sentence"].as_str() {
                    verdicts += &format!("{model}, {dataset}: {sentence}\n");
                }
            }
        }
    }
    match verdicts.is_empty() {
        true => table.render(),
        false => format!("{}\n{verdicts}", table.render()),
    }
}
