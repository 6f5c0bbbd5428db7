//! FinQA's official scorer: splits programs into steps, executes them on a table, and compares them.
//!
//! All functions are pure, and no input can make them fail or run endlessly. The decision a newcomer would question:
//! the scorer's oddities are kept, each with a test, since only equal rules make scores comparable.

pub(crate) mod algebra;
mod equal;
mod execute;
pub(crate) mod program;
pub(crate) mod python;

pub use equal::equal;
pub use execute::{Execution, Value, execute};
pub(crate) use python::{repr, round_to_five};

pub use program::{END, OPERATORS, tokens, written};

/// The official scorer's verdict on one prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The program can't be executed.
    pub invalid: bool,
    /// The result is the expected answer.
    pub execution_correct: bool,
    /// It is equal to the gold program.
    pub program_correct: bool,
    /// The result; see [`Execution::value`].
    pub value: Value,
}

/// Scores the tokens of a predicted program, the last of which is `EOF`.
pub fn verdict<S: AsRef<str>>(predicted: &[S], gold: &[String], table: &[Vec<String>], expected: &Value) -> Verdict {
    let execution = execute(predicted, table);
    Verdict {
        execution_correct: !execution.invalid && execution.value.is(expected),
        program_correct: equal(gold, predicted),
        invalid: execution.invalid,
        value: execution.value,
    }
}

/// The operators of a program's steps, in order; those of a program that is broken up to where it breaks.
pub fn operators<S: AsRef<str>>(tokens: &[S]) -> Vec<&'static str> {
    let joined = program::joined(tokens);
    let steps = program::steps(&joined).into_iter().map_while(Result::ok);
    let known = steps.map_while(|step| OPERATORS.into_iter().find(|operator| *operator == step.operator));
    known.collect()
}
