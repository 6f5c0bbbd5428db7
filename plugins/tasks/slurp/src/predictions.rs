//! The three files that the published training script writes about its test: each answer with its row, the labels
//! only, and their figures.
//!
//! The decision a newcomer would question: the script compares entities more leniently than the official scorer, as
//! lower-case sets, so `entity_f1` here differs from a run's table. The official scorer reads the file with only
//! labels.

use crate::scorer::{Counts, Labels};
use crate::summary::{AUDIO, CLIP};
use crate::utterance;
use data::Row;
use plugin_api::{Code, Error, Output, Result, Row as RunRow, Rows, Status};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FULL: &str = "prediction.jsonl";
const LABELS: &str = "prediction_labels_only.jsonl";
const METRICS: &str = "metrics_label_only.json";
/// The scenario and action of a reply without labels.
const UNREADABLE: &str = "error";

pub(crate) fn write(rows: &mut Rows, out: &mut Output) -> Result<()> {
    let mut sums = Sums::default();
    for row in rows {
        let row = row?;
        let doc = task::row_of(&row.sample);
        let labels = predicted(&row)?;
        sums.add(&utterance::labels(&doc)?, &labels);
        out.line(LABELS, &labels_alone(&row, &doc, &labels)?)?;
        out.line(FULL, &full(&row, &doc, &labels)?)?;
    }
    out.line(METRICS, &sums.to_json())
}

fn predicted(row: &RunRow) -> Result<Labels> {
    let found = row.score.details.get("prediction").and_then(Value::as_object);
    let labels = found.and_then(Labels::from_json).ok_or_else(|| {
        let message = format!("the record of sample `{}` has no labels", row.sample.id);
        Error::new(Code::DATA, message).help("the run may be of another task")
    })?;
    Ok(match row.score.status {
        Status::NoAnswer => Labels {
            scenario: UNREADABLE.to_owned(),
            action: UNREADABLE.to_owned(),
            entities: Vec::new(),
        },
        _ => labels,
    })
}

/// The recording of a sample; none if only text was used.
fn file<'a>(row: &RunRow, doc: &'a Row) -> Result<Option<&'a str>> {
    let first = utterance::files(doc)?.first().copied();
    Ok(first.filter(|_| row.sample.groups.contains_key("microphone")))
}

fn labels_alone(row: &RunRow, doc: &Row, labels: &Labels) -> Result<Value> {
    let all = labels.to_json();
    Ok(json!({
        "id": utterance::row_id(doc)?, "file": file(row, doc)?, "slurp_id": utterance::id(doc)?,
        "scenario": all["scenario"], "action": all["action"], "entities": all["entities"],
    }))
}

fn full(row: &RunRow, doc: &Row, labels: &Labels) -> Result<Value> {
    let all = labels.to_json();
    let heard = row.sample.groups.get(AUDIO).is_some_and(|stands| stands == CLIP);
    let target = utterance::labels(doc)?;
    Ok(json!({
        "scenario": all["scenario"], "action": all["action"], "entities": all["entities"], "pred_label": all,
        "file": file(row, doc)?, "slurp_id": utterance::id(doc)?, "id": utterance::row_id(doc)?,
        "wer": doc.at("recordings.0.wer").or_else(|| doc.at("wer")),
        "transcript": utterance::transcript(doc).ok(), "candidates": utterance::hypotheses(doc),
        "rationale_text": utterance::rationale_text(doc).unwrap_or_default(),
        "rationale": row.score.details.get("rationale"),
        "raw_output": row.reply.as_ref().map(|reply| &reply.text),
        "target": crate::prompt::answer(&target), "target_label": target.to_json(),
        "type": if heard { "audio" } else { "text" },
    }))
}

/// What the script counts.
#[derive(Default)]
struct Sums {
    samples: u64,
    scenarios: u64,
    actions: u64,
    intents: u64,
    entities: Counts,
}

impl Sums {
    fn add(&mut self, right: &Labels, predicted: &Labels) {
        let (scenario, action) = (right.scenario == predicted.scenario, right.action == predicted.action);
        self.samples += 1;
        self.scenarios += u64::from(scenario);
        self.actions += u64::from(action);
        self.intents += u64::from(scenario && action);
        let (right, predicted) = (kindly(right), kindly(predicted));
        let both = right.intersection(&predicted).count() as f64;
        self.entities.right += both;
        self.entities.too_many += predicted.len() as f64 - both;
        self.entities.missed += right.len() as f64 - both;
    }

    fn to_json(&self) -> Value {
        let share = |count: u64| count as f64 / self.samples.max(1) as f64;
        let entities = self.entities.figures();
        json!({
            "num_samples": self.samples, "scenario_acc": share(self.scenarios), "action_acc": share(self.actions),
            "intent_acc": share(self.intents), "entity_precision": entities.precision, "entity_recall": entities.recall,
            "entity_f1": entities.f1,
        })
    }
}

/// Entities in lower case, runs of blanks as one, without duplicates.
fn kindly(labels: &Labels) -> BTreeSet<(String, String)> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let entities = labels.entities.iter();
    entities
        .map(|entity| (plain(&entity.kind), plain(&entity.filler)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scorer::Entity;

    #[test]
    fn entities_are_counted_as_the_script_counts_them() {
        let labels = |entities: &[(&str, &str)]| Labels {
            scenario: "alarm".to_owned(),
            action: "set".to_owned(),
            entities: entities
                .iter()
                .map(|(kind, filler)| Entity::new(*kind, *filler))
                .collect(),
        };
        let mut sums = Sums::default();
        sums.add(
            &labels(&[("time", "six  o'clock"), ("date", "today")]),
            &labels(&[("Time", "Six o'clock"), ("time", "six o'clock"), ("place", "here")]),
        );
        let figures = sums.to_json();
        assert_eq!(
            [
                &figures["entity_precision"],
                &figures["entity_recall"],
                &figures["intent_acc"]
            ],
            [0.5, 0.5, 1.0]
        );
    }
}
