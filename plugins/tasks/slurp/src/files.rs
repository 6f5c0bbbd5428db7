//! Scores and writes SLURP's prediction files.

use crate::official::{Gold, Key, Scored, score};
use crate::predictions;
use data::Rows;
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Rows as RunRows,
};
use serde_json::{Value, json};

pub(crate) struct Predictions;

const FORMAT: &str = "slurp";

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
        // For a file without a key, the error names the default key.
        let key = Key::of(&first).unwrap_or(Key::File);
        let gold = Gold::read(Rows::open_all(&answers.gold)?.iter(), key)?;
        scores(&score(&gold, predictions.iter(), key)?, answers.rows)
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        if format != FORMAT {
            return Err(Error::unsupported(format!("slurp writes no `{format}`")));
        }
        predictions::write(rows, out)
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
            "{} of {} examples have no prediction, which does not lower any figure",
            scored.not_predicted(),
            scored.gold_total
        ));
    }
    if scored.unknown > 0 {
        let words = format!("{} predictions have keys that are not in the data", scored.unknown);
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
