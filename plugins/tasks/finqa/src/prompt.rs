//! What a model is asked, and what it should have said.

use crate::example::Example;
use crate::official::Value;
use plugin_api::{Message, Prompt, Sampling};

/// What a model is to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    Program,
    Numerical,
    Answer,
}

const PROGRAM: &str = "Write the program that computes the answer, and nothing else.
A program is one step or several, parted by commas. Each step is an operator with two arguments:
- add, subtract, multiply, divide, exp (the first to the power of the second), greater (yes or no);
- table_max, table_min, table_sum, table_average: the first argument is the name of a row of the table, the second is none.
An argument is a number as it is written above, a constant such as const_100 or const_m1 (minus one), or #0, #1, … for \
the result of an earlier step, counted from 0.
For example: subtract(120, 80), divide(#0, 80)";

const NUMERICAL: &str = "Answer with a number alone, or with yes or no. \
Write a share as a decimal fraction (0.125, not 12.5%), leave units out, and round to no fewer than five decimals.";

const ANSWER: &str = "Answer with a number and its unit or percent sign, or with yes or no, and nothing else.";

/// The words of a question.
pub(crate) fn asked(example: &Example, context: &str, target: Target) -> String {
    let wanted = match target {
        Target::Program => PROGRAM,
        Target::Numerical => NUMERICAL,
        Target::Answer => ANSWER,
    };
    format!("{context}\n\nQuestion: {}\n\n{wanted}", example.question.trim())
}

pub(crate) fn prompt(asked: String, thinking: bool, max_tokens: u32) -> Prompt {
    Prompt {
        thinking: Some(thinking),
        ..Prompt::new([Message::user(asked)]).sample(Sampling::greedy(max_tokens))
    }
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
