//! The authors' prediction files: a JSON list of `id` and `predicted`, the tokens of a program.
//!
//! As in their script, only the predictions in the file count: an example without one does not lower the score and is
//! reported separately, an id that occurs twice counts twice, and an unknown id is an error.

use crate::example::Example;
use crate::official::{Value, verdict};
use crate::scoring::value_json;
use crate::test_predictions;
use data::{Row, Rows};
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Rows as RunRows,
};
use serde_json::json;
use std::collections::HashSet;

pub(crate) struct Predictions;

/// What is scored against: a row without the words around it.
#[derive(PartialEq)]
struct Gold {
    table: Vec<Vec<String>>,
    /// The program's tokens and what it comes to; none in the private test.
    right: Option<(Vec<String>, Value)>,
}

impl Gold {
    fn read(row: &Row) -> Result<(String, Gold)> {
        let example = Example::read_core(row)?;
        let right = example.tokens().zip(example.result);
        let table = example.table;
        Ok((example.id, Gold { table, right }))
    }
}

const FORMAT: &str = "finqa";
const EXPORTED: &str = "predictions.json";
/// What the fine-tuning scripts write of their test.
const SCRIPT: &str = "finqa-script";

impl OfficialFiles for Predictions {
    fn card(&self) -> FilesCard {
        FilesCard::default()
            .reads(
                FileKind::new(
                    "predictions",
                    "a JSON list of `id` and `predicted`, a program's tokens, the last of which is `EOF`",
                )
                .with_gold(),
            )
            .writes(FileKind::new(
                FORMAT,
                "predictions.json, which the authors' script reads",
            ))
            .writes(FileKind::new(
                SCRIPT,
                "test_predictions.jsonl, as the published fine-tuning scripts write it",
            ))
    }

    fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        let gold = data::by_id(&answers.gold, Gold::read)?;
        let predictions = Rows::open(&answers.file)?;
        if predictions.is_empty() {
            let message = format!("`{}` holds no predictions", answers.file.display());
            return Err(Error::new(Code::DATA, message));
        }
        let mut scores = FileScores::of(predictions.len());
        scores.gold_total = Some(gold.len() as u64);
        let (mut execution, mut program, mut invalid) = (0_u64, 0_u64, 0_u64);
        let mut seen = HashSet::new();
        for row in predictions.iter() {
            let row = row?;
            let id = row.word("id")?.into_owned();
            let predicted = tokens(&row)?;
            let Some(example) = gold.get(&id) else {
                let error = row.wrong("id", format!("is `{id}`, which the data doesn't have"));
                return Err(error.help("are predictions and data of the same split?"));
            };
            let Some((right, result)) = &example.right else {
                let error = row.wrong("id", format!("is `{id}`, which the data has no program and result for"));
                return Err(error.help("the private test is published without answers"));
            };
            let verdict = verdict(&predicted, right, &example.table, result);
            execution += u64::from(verdict.execution_correct);
            program += u64::from(verdict.program_correct);
            invalid += u64::from(verdict.invalid);
            if answers.rows {
                scores.rows.push(json!({
                    "id": id, "invalid": verdict.invalid, "execution_correct": verdict.execution_correct,
                    "program_correct": verdict.program_correct, "value": value_json(&verdict.value),
                }));
            }
            seen.insert(id);
        }
        let share = |count: u64| count as f64 / predictions.len() as f64;
        let not_predicted = gold.len() - seen.len();
        let twice = predictions.len() - seen.len();
        if not_predicted > 0 {
            let of = gold.len();
            let words = format!("{not_predicted} of {of} examples have no prediction, which does not lower the score");
            scores.notes.push(words);
        }
        if twice > 0 {
            scores.notes.push(format!(
                "{twice} predictions are for an id that came before; each counts"
            ));
        }
        Ok(scores
            .metric("execution_accuracy", share(execution))
            .metric("program_accuracy", share(program))
            .count("invalid", invalid)
            .count("not_predicted", not_predicted))
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        match format {
            FORMAT => {}
            SCRIPT => return test_predictions::write(rows, out),
            _ => return Err(Error::unsupported(format!("finqa writes no `{format}`"))),
        }
        // A list, since the script parses the file with one call.
        let mut before = "[\n";
        for row in rows {
            let row = row?;
            let id = &row.sample.id;
            let Some(predicted) = row.score.details.get("predicted") else {
                let message = format!("the record of sample `{id}` has no program");
                let help = "the file holds programs: run the task with `-T target=program` on rows with answers";
                return Err(Error::new(Code::DATA, message).help(help));
            };
            out.write(EXPORTED, before)?;
            out.write(EXPORTED, &json!({ "id": id, "predicted": predicted }).to_string())?;
            before = ",\n";
        }
        out.write(EXPORTED, if before == "[\n" { "[]\n" } else { "\n]\n" })
    }
}

fn tokens(row: &Row) -> Result<Vec<&str>> {
    let count = row.list("predicted")?.len();
    (0..count)
        .map(|index| row.text(&format!("predicted.{index}")))
        .collect()
}
