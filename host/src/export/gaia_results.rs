//! One line a sample: whether it was right, how long it took, and both texts.

use super::{Folder, Recorded};
use crate::failure::Result;
use crate::run::store::score::{JUDGED, judge_key};
use serde_json::{Value, json};

const FILE: &str = "results.jsonl";

/// The accuracy is that of the first judge if the run was judged, else the task's main figure.
pub(super) fn write(run: &Recorded, folder: &Folder) -> Result<()> {
    let results = run.results()?;
    let judge = results["host"]["judges"]
        .as_object()
        .and_then(|judges| judges.keys().next());
    let task = results["versions"].as_object().and_then(|map| map.keys().next());
    let main = task.and_then(|task| results["higher_is_better"][task].as_object()?.keys().next());
    folder.add(FILE, "")?;
    let mut id = 0;
    run.each(|record| {
        let accuracy = match judge {
            Some(judge) => {
                let entry = record.scores.get(&judge_key(judge, &record.task));
                entry.and_then(|entry| entry.values.get(JUDGED)).copied()
            }
            None => {
                let mut metrics = record.metrics();
                main.and_then(|main| metrics.find(|(name, _)| *name == main))
                    .map(|(_, value)| value)
            }
        };
        let gold = match &record.target {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let line = json!({
            "id": id, "accuracy": accuracy, "latency": record.latency_ms / 1000.0, "latency_ms": record.latency_ms,
            "gold_raw": gold, "pred_raw": record.said(),
        });
        id += 1;
        folder.add(FILE, &format!("{line}\n"))
    })
}
