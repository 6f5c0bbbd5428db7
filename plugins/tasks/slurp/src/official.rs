//! Prediction files, scored as the official script does it.
//!
//! Predictions are matched by key, and of several with one key the last counts. Predictions with unknown keys are left
//! out, and so are utterances without a prediction. That does not lower the figures, so both are counted here.
//!
//! The decision a newcomer would question: a numeric key matches nothing, although the data has numbers. The script
//! compares it with a string, so a file that the script cannot score is not scored here either.

use crate::scorer::{Entity, Figures, Labels, Measure, Tables};
use crate::utterance;
use data::Row;
use plugin_api::{Code, Error, Result};
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// The key of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A recording's file: each recording of an utterance is an example.
    File,
    /// The utterance, for predictions on written transcripts.
    SlurpId,
}

impl Key {
    /// The field of a prediction.
    pub fn field(self) -> &'static str {
        match self {
            Key::File => "file",
            Key::SlurpId => "slurp_id",
        }
    }

    /// The key that a prediction uses; none when it has neither.
    pub fn of(prediction: &Row) -> Option<Key> {
        let has = |key: &Key| prediction.at(key.field()).is_some();
        [Key::File, Key::SlurpId].into_iter().find(has)
    }
}

/// The right labels by key.
#[derive(Debug, Clone, Default)]
pub struct Gold {
    labels: Vec<Labels>,
    places: HashMap<String, usize>,
}

impl Gold {
    /// Reads rows of the data. A row that can't be read is an error: figures over the others would look plausible.
    pub fn read(rows: impl IntoIterator<Item = Result<Row>>, key: Key) -> Result<Gold> {
        let mut gold = Gold::default();
        for row in rows {
            let row = row?;
            let place = gold.labels.len();
            gold.labels.push(utterance::labels(&row)?);
            match key {
                Key::SlurpId => {
                    gold.places.insert(utterance::id(&row)?, place);
                }
                Key::File => {
                    let files = utterance::files(&row)?.into_iter().map(|file| (file.to_owned(), place));
                    gold.places.extend(files);
                }
            }
        }
        Ok(gold)
    }

    /// How many examples there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }
}

/// The verdicts on one prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The example.
    pub key: String,
    /// The scenario was right.
    pub scenario: bool,
    /// The action was right.
    pub action: bool,
    /// Both were.
    pub intent: bool,
}

/// The result of a prediction file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scored {
    /// All counts.
    pub tables: Tables,
    /// One for each prediction that counted, in the order of the file.
    pub verdicts: Vec<Verdict>,
    /// Examples in the data.
    pub gold_total: usize,
    /// Keys of predictions that the data doesn't have.
    pub unknown: usize,
}

/// Scores the predictions of a file.
pub fn score(gold: &Gold, predictions: impl IntoIterator<Item = Result<Row>>, key: Key) -> Result<Scored> {
    let mut lines: Vec<Option<(String, Row)>> = Vec::new();
    let mut last: HashMap<String, usize> = HashMap::new();
    for row in predictions {
        let row = row?;
        let value = row.at(key.field()).ok_or_else(|| {
            let error = row.wrong(key.field(), "is missing");
            error.help("predictions on recordings have a `file`, those on transcripts a `slurp_id`")
        })?;
        let name = match value.as_str() {
            Some(name) => name.to_owned(),
            // Matches no key of the data.
            None => format!("\u{0}{value}"),
        };
        if let Some(former) = last.insert(name.clone(), lines.len()) {
            lines[former] = None;
        }
        lines.push(Some((name, row)));
    }
    let mut scored = Scored {
        gold_total: gold.len(),
        ..Scored::default()
    };
    for (name, row) in lines.into_iter().flatten() {
        let Some(right) = gold.places.get(&name).map(|place| &gold.labels[*place]) else {
            scored.unknown += 1;
            continue;
        };
        let predicted = prediction(&row, right)?;
        scored.tables.add(&Tables::of(right, &predicted));
        scored.verdicts.push(Verdict {
            key: name,
            scenario: right.scenario == predicted.scenario,
            action: right.action == predicted.action,
            intent: right.intent() == predicted.intent(),
        });
    }
    Ok(scored)
}

/// The labels of a line of a prediction file. Whether a malformed line is an error depends on the expected labels, as
/// in the script.
fn prediction(row: &Row, right: &Labels) -> Result<Labels> {
    // For the script, a label that is not text is a wrong label, not a malformed file.
    let label = |name: &str, value: Option<&Value>| match value {
        Some(value @ (Value::Null | Value::Bool(_) | Value::Number(_))) => Ok(value.to_string()),
        _ => row.text(name).map(str::to_owned),
    };
    let mut entities = Vec::new();
    for (index, entity) in row.list("entities")?.iter().enumerate() {
        let path = |name: &str| format!("entities.{index}.{name}");
        let fields = entity.as_object().map_or(0, Map::len);
        let kind = label(&path("type"), entity.get("type"))?;
        let filler = entity.get("filler").and_then(Value::as_str);
        // The filler is used only if there are expected entities of its type.
        if filler.is_none() && right.entities.iter().any(|other| other.kind == kind) {
            row.text(&path("filler"))?;
        }
        entities.push(Entity {
            kind,
            filler: filler.unwrap_or_default().to_owned(),
            has_more: fields > 2 || filler.is_none(),
        });
    }
    Ok(Labels {
        scenario: label("scenario", row.value.get("scenario"))?,
        action: label("action", row.value.get("action"))?,
        entities,
    })
}

/// A line of a prediction file.
pub fn prediction_line(key: Key, name: &str, labels: &Labels) -> Value {
    let mut line = labels.to_json();
    line[key.field()] = json!(name);
    line
}

impl Scored {
    /// Examples without a prediction.
    pub fn not_predicted(&self) -> usize {
        self.gold_total.saturating_sub(self.verdicts.len())
    }

    /// The figures of all measures, over all labels and as means over labels.
    pub fn metrics(&self) -> Result<Value> {
        if self.verdicts.is_empty() {
            let message = format!("none of the predictions is for one of the {} examples", self.gold_total);
            return Err(Error::new(Code::DATA, message).help("are predictions and data of the same split?"));
        }
        let all = |figures: fn(&crate::scorer::Table) -> Figures| -> Value {
            let measures = Measure::ALL.into_iter();
            let of = |measure: Measure| {
                let Figures { precision, recall, f1 } = figures(&self.tables.table(measure));
                (
                    measure.name().to_owned(),
                    json!({ "precision": precision, "recall": recall, "f1": f1 }),
                )
            };
            measures.map(of).collect()
        };
        Ok(json!({
            "micro": all(crate::scorer::Table::micro),
            "macro": all(crate::scorer::Table::macro_mean),
        }))
    }

    /// The figures and counts of every label, by measure.
    pub fn labels(&self) -> Value {
        let of = |measure: Measure| {
            let table = self.tables.table(measure).into_owned();
            let labels = table.0.into_iter().map(|(label, counts)| {
                let Figures { precision, recall, f1 } = counts.figures();
                let (tp, fp, missed) = (counts.right, counts.too_many, counts.missed);
                (
                    label,
                    json!({ "precision": precision, "recall": recall, "f1": f1, "tp": tp, "fp": fp, "fn": missed }),
                )
            });
            (measure.name().to_owned(), Value::Object(labels.collect()))
        };
        Measure::ALL.into_iter().map(of).collect()
    }
}
