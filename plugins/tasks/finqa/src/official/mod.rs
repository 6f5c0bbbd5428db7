//! FinQA's official scorer: programs cut into steps, executed on a table, and compared.
//!
//! All of it is pure: tokens, tables and values in, verdicts out. No input can make it fail or run on without end. The
//! decision a newcomer would question: its oddities are kept, each with a test. A score is only worth something when it
//! is the one that everybody else's predictions were given.

pub(crate) mod algebra;
mod equal;
mod execute;
pub(crate) mod program;
pub(crate) mod python;

pub use equal::equal;
pub use execute::{Execution, Value, execute};
pub(crate) use python::{repr, round_to_five};

pub use program::{END, OPERATORS, tokens, written};

/// What the official scorer says of one prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The program can't be executed.
    pub invalid: bool,
    /// It comes to the expected answer.
    pub execution_correct: bool,
    /// It is equal to the gold program.
    pub program_correct: bool,
    /// What it comes to; see [`Execution::value`].
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
