//! One question of the benchmark, as published.

use data::Row;
use plugin_api::Result;
use serde_json::Value;

/// Replaces the answers of the hidden split.
const HIDDEN: &str = "?";

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    pub id: String,
    pub question: String,
    /// `1`, `2` or `3`: a number in some copies, text in others. Reduced copies have none.
    pub level: Option<String>,
    /// The right answer; none in the hidden split.
    pub truth: Option<String>,
    /// How the annotator found it.
    pub steps: Option<String>,
}

impl Question {
    pub fn read(row: &Row) -> Result<Question> {
        Ok(Question {
            id: id(row)?,
            question: row.text("Question")?.trim().to_owned(),
            level: level(row)?,
            truth: truth(row)?,
            steps: row
                .at("Annotator Metadata.Steps")
                .and_then(Value::as_str)
                .map(str::to_owned),
        })
    }
}

pub(crate) fn id(row: &Row) -> Result<String> {
    Ok(row.word("task_id")?.into_owned())
}

pub(crate) fn level(row: &Row) -> Result<Option<String>> {
    row.at("Level")
        .map(|_| Ok(row.word("Level")?.trim().to_owned()))
        .transpose()
}

/// The right answer as text, untrimmed, since it is compared exactly.
pub(crate) fn truth(row: &Row) -> Result<Option<String>> {
    let truth = match row.at("Final answer") {
        None => return Ok(None),
        Some(Value::Number(number)) => number.to_string(),
        Some(_) => row.text("Final answer")?.to_owned(),
    };
    Ok(Some(truth).filter(|truth| truth.trim() != HIDDEN))
}
