//! SLURP's prediction files: those of others are scored, and runs are written as such.

use crate::official::{Gold, Key, Scored, prediction_line, score};
use crate::scorer::{Labels, Measure, Tables};
use crate::utterance;
use data::Rows;
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Rows as RunRows,
};
use serde_json::{Map, Value, json};

pub(crate) struct Predictions;

const FORMAT: &str = "slurp";
/// The names that the scripts of those who train on SLURP give to these files.
const FULL: &str = "prediction.jsonl";
const LABELS: &str = "prediction_labels_only.jsonl";
const METRICS: &str = "metrics_label_only.json";

impl OfficialFiles for Predictions {
    fn card(&self) -> FilesCard {
        FilesCard::default()
            .reads(
                FileKind::new(
                    "predictions",
                    "lines of `file` or `slurp_id`, `scenario`, `action` and `entities`, each with `type` and `filler`",
                )
                .with_gold(),
            )
            .writes(FileKind::new(
                FORMAT,
                "prediction.jsonl with what was said, prediction_labels_only.jsonl for the official script, metrics_label_only.json",
            ))
    }

    fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        let predictions = Rows::open(&answers.file)?;
        if predictions.is_empty() {
            let message = format!("`{}` holds no predictions", answers.file.display());
            return Err(Error::new(Code::DATA, message));
        }
        let first = predictions.get(0)?;
        // One without a key is told of where it is looked for.
        let key = Key::of(&first).unwrap_or(Key::File);
        let gold = Gold::read(Rows::open_all(&answers.gold)?.iter(), key)?;
        scores(&score(&gold, predictions.iter(), key)?, answers.rows)
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        if format != FORMAT {
            return Err(Error::unsupported(format!("slurp writes no `{format}`")));
        }
        let mut tables = Tables::default();
        let mut count = 0_u64;
        for row in rows {
            let row = row?;
            let sample = &row.sample;
            let predicted = row.score.details.get("prediction").and_then(Value::as_object);
            let labels = predicted.and_then(Labels::from_json).ok_or_else(|| {
                let message = format!("the record of sample `{}` has no labels", sample.id);
                Error::new(Code::DATA, message).help("is it a run on this task?")
            })?;
            let doc = task::row_of(sample);
            tables.add(&Tables::of(&utterance::labels(&doc)?, &labels));
            count += 1;
            // A sample that is a recording is one of its utterance's.
            let mut line = match (&sample.cluster, utterance::files(&doc)?.first()) {
                (Some(_), Some(file)) => prediction_line(Key::File, file, &labels),
                _ => prediction_line(Key::SlurpId, &utterance::id(&doc)?, &labels),
            };
            out.line(LABELS, &line)?;
            let mut more = Map::new();
            if let Some(reply) = &row.reply {
                more.insert("raw_output".to_owned(), json!(reply.text));
            }
            if let Some(reasons) = row.score.details.get("rationale") {
                more.insert("rationale".to_owned(), reasons.clone());
            }
            more.insert("target_label".to_owned(), sample.target.clone());
            if let Some(line) = line.as_object_mut() {
                line.extend(more);
            }
            out.line(FULL, &line)?;
        }
        let entities = tables.table(Measure::Entities).micro();
        let share = |measure: Measure| tables.table(measure).micro().f1;
        out.line(
            METRICS,
            &json!({
                "num_samples": count, "scenario_acc": share(Measure::Scenario), "action_acc": share(Measure::Action),
                "intent_acc": share(Measure::Intent), "entity_precision": entities.precision,
                "entity_recall": entities.recall, "entity_f1": entities.f1,
            }),
        )
    }
}

/// Everything that a prediction file came to.
pub(crate) fn scores(scored: &Scored, rows: bool) -> Result<FileScores> {
    let mut scores = FileScores::of(scored.verdicts.len())
        .count("not_predicted", scored.not_predicted())
        .count("unknown", scored.unknown);
    scores.gold_total = Some(scored.gold_total as u64);
    if let Value::Object(metrics) = scored.metrics()? {
        scores.metrics = metrics;
    }
    if scored.not_predicted() > 0 {
        scores.notes.push(format!(
            "{} of {} examples have no prediction, which lowers no figure",
            scored.not_predicted(),
            scored.gold_total
        ));
    }
    if scored.unknown > 0 {
        let words = format!("{} predictions are for keys that the data doesn't have", scored.unknown);
        scores.notes.push(words);
    }
    if rows {
        let verdicts = scored.verdicts.iter().map(|verdict| {
            json!({
                "key": verdict.key, "scenario_correct": verdict.scenario, "action_correct": verdict.action,
                "intent_correct": verdict.intent,
            })
        });
        scores.rows = verdicts.collect();
        scores = scores.count("labels", scored.labels());
    }
    Ok(scores)
}
