//! The expected answer, and the text of a question.

use crate::example::Example;
use crate::official::Value;

/// What a model is to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Program,
    Numerical,
    Answer,
}

/// The right thing to say; none where the data has no answers.
pub(crate) fn said(example: &Example, target: Target) -> Option<String> {
    let result = || example.result.as_ref().map(shown);
    match target {
        Target::Program => example.program.clone(),
        Target::Numerical => result(),
        Target::Answer => {
            let answer = example.answer.as_deref().map(str::trim);
            answer
                .filter(|answer| !answer.is_empty())
                .map(str::to_owned)
                .or_else(result)
        }
    }
}

/// A value as it is written: `94`, `0.14136`, `yes`.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Complex => "complex".to_owned(),
    }
}
