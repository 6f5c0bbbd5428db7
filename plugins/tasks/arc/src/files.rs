//! Files of options' log-likelihoods in the format of evaluation harnesses: scores them by the harness's rules, and
//! writes them from a run.

use crate::question::Question;
use crate::scoring::{self, Ranks};
use data::{Row, Rows};
use plugin_api::{
    Code, Error, FileAnswers, FileKind, FileScores, FilesCard, OfficialFiles, Output, Result, Rows as RunRows,
};
use serde_json::{Value, json};
use std::collections::HashSet;

pub(crate) struct Likelihoods;

const FORMAT: &str = "arc";
const EXPORTED: &str = "loglikelihoods.jsonl";

impl OfficialFiles for Likelihoods {
    fn card(&self) -> FilesCard {
        FilesCard::default()
            .reads(
                FileKind::new(
                    "loglikelihoods",
                    "lines of `id` and `loglikelihoods`, one for each option in its order",
                )
                .with_gold(),
            )
            .writes(FileKind::new(
                FORMAT,
                "loglikelihoods.jsonl, of a run with `-T mode=loglikelihood`",
            ))
    }

    fn score(&self, answers: &FileAnswers) -> Result<FileScores> {
        let read = |row: &Row| Question::read(row).map(|question| (question.id.clone(), question));
        let gold = data::by_id(&answers.gold, read)?;
        let given = Rows::open(&answers.file)?;
        if given.is_empty() {
            let message = format!("`{}` holds no log-likelihoods", answers.file.display());
            return Err(Error::new(Code::DATA, message));
        }
        let mut scores = FileScores::of(given.len());
        scores.gold_total = Some(gold.len() as u64);
        let (mut acc, mut acc_norm, mut nan) = (0.0, 0.0, 0_u64);
        let mut seen = HashSet::new();
        for row in given.iter() {
            let row = row?;
            let id = row.word("id")?.into_owned();
            let Some(question) = gold.get(&id) else {
                let error = row.wrong("id", format!("is `{id}`, which the data doesn't have"));
                return Err(error.help("are log-likelihoods and data of the same set and split?"));
            };
            let likelihoods = likelihoods(&row, question)?;
            let ranks = Ranks::of(question, &likelihoods);
            acc += ranks.acc;
            acc_norm += ranks.acc_norm;
            nan += u64::from(likelihoods.iter().any(|value| value.is_nan()));
            if answers.rows {
                scores
                    .rows
                    .push(json!({ "id": id, "acc": ranks.acc, "acc_norm": ranks.acc_norm }));
            }
            seen.insert(id);
        }
        let not_predicted = gold.len() - seen.len();
        let twice = given.len() - seen.len();
        if not_predicted > 0 {
            let of = gold.len();
            scores.notes.push(format!(
                "{not_predicted} of {of} questions have no log-likelihoods and are left out"
            ));
        }
        if twice > 0 {
            scores
                .notes
                .push(format!("{twice} lines are for an id that came before; each counts"));
        }
        if nan > 0 {
            scores
                .notes
                .push(format!("{nan} lines hold NaN, which counts as the largest"));
        }
        let n = given.len() as f64;
        Ok(scores
            .metric("acc", acc / n)
            .metric("acc_norm", acc_norm / n)
            .count("not_predicted", not_predicted))
    }

    fn export(&self, format: &str, rows: &mut RunRows, out: &mut Output) -> Result<()> {
        if format != FORMAT {
            return Err(Error::unsupported(format!("arc writes no `{format}`")));
        }
        for row in rows {
            let row = row?;
            let options = row.reply.map(|reply| reply.options).unwrap_or_default();
            if options.is_empty() || !row.score.values.contains_key(scoring::ACC_NORM) {
                let message = format!(
                    "the record of sample `{}` has no log-likelihoods of option texts",
                    row.sample.id
                );
                return Err(Error::new(Code::DATA, message).help("run the task with `-T mode=loglikelihood`"));
            }
            let likelihoods: Vec<Value> = options.iter().map(|option| number(option.loglik)).collect();
            out.line(EXPORTED, &json!({ "id": row.sample.id, "loglikelihoods": likelihoods }))?;
        }
        Ok(())
    }
}

/// JSON has no NaN; as text it is read again.
fn number(value: f64) -> Value {
    match value.is_finite() {
        true => json!(value),
        false => json!(value.to_string()),
    }
}

fn likelihoods(row: &Row, question: &Question) -> Result<Vec<f64>> {
    let given = row.list("loglikelihoods")?;
    let (expected, got) = (question.options.len(), given.len());
    if got != expected {
        let why = format!("has {got} numbers, but the question has {expected} options");
        return Err(row.wrong("loglikelihoods", why));
    }
    let value = |(index, value): (usize, &Value)| match value {
        // For writers that cannot write NaN.
        Value::Null => Ok(f64::NAN),
        _ => row.number(&format!("loglikelihoods.{index}")),
    };
    given.iter().enumerate().map(value).collect()
}
