//! What a reply is worth.
//!
//! Scores replies by two kinds of metric: `…_accuracy` by the official rules, where 14.136 for 0.14136 is wrong, and
//! `lenient_accuracy`, where it is right.

use crate::example::Example;
use crate::official::{END, Value, round_to_five, verdict, written};
use crate::parse_answer;
use crate::prompt::{Target, said, shown};
use plugin_api::{Reply, Score, Status};
use serde_json::{Value as Json, json};

/// The metrics of a target, the main one first.
pub(crate) fn metrics(target: Target) -> &'static [&'static str] {
    match target {
        Target::Program => &["execution_accuracy", "program_accuracy", "lenient_accuracy"],
        Target::Numerical => &["value_accuracy", "lenient_accuracy"],
        Target::Answer => &["answer_accuracy", "lenient_accuracy"],
    }
}

pub(crate) fn score(example: &Example, target: Target, reply: &Reply) -> Score {
    match target {
        Target::Program => program(example, reply),
        Target::Numerical => numerical(example, reply),
        Target::Answer => answer(example, reply),
    }
}

/// By program. The details are the official scorer's row (`invalid`, `execution_correct`, `program_correct`, `value`)
/// and what its prediction file holds (`predicted`).
fn program(example: &Example, reply: &Reply) -> Score {
    let predicted = predicted(reply);
    let (Some(gold), Some(result)) = (example.tokens(), &example.result) else {
        return unscored(predicted.map(|tokens| written(&tokens)));
    };
    // Without a program the row is the official scorer's for an empty one.
    let status = if predicted.is_some() {
        Status::Scored
    } else {
        Status::NoAnswer
    };
    let predicted = predicted.unwrap_or_else(|| vec![END.to_owned()]);
    let verdict = verdict(&predicted, &gold, &example.table, result);
    let lenient = !verdict.invalid && agrees(&verdict.value, example);
    let right = [verdict.execution_correct, verdict.program_correct, lenient];
    let score = graded(Target::Program, &right)
        .with_detail("invalid", verdict.invalid)
        .with_detail("execution_correct", verdict.execution_correct)
        .with_detail("program_correct", verdict.program_correct)
        .with_detail("value", value_json(&verdict.value));
    Score {
        status,
        answer: (status == Status::Scored).then(|| written(&predicted)),
        ..score.with_detail("predicted", predicted)
    }
}

/// A value as the official scorer's rows have it.
pub(crate) fn value_json(value: &Value) -> Json {
    match value {
        Value::Number(number) if number.is_finite() => json!(number),
        Value::Number(number) if number.is_nan() => json!("nan"),
        other => json!(shown(other)),
    }
}

/// The tokens of a reply: those under `predicted`, which are taken exactly as they are, or the program in its text.
fn predicted(reply: &Reply) -> Option<Vec<String>> {
    if let Some(Json::Array(tokens)) = reply.other.get("predicted") {
        let tokens: Option<Vec<_>> = tokens.iter().map(|token| token.as_str().map(str::to_owned)).collect();
        // A token that is not text is not a program, and none is searched elsewhere.
        return Some(tokens.unwrap_or_else(|| vec![String::new(), END.to_owned()]));
    }
    parse_answer::program(&reply.text)
}

/// By the number itself: right when it is the gold program's result, rounded to five decimals.
fn numerical(example: &Example, reply: &Reply) -> Score {
    let read = parse_answer::value(&reply.text);
    let Some(result) = &example.result else {
        return unscored(read.as_ref().map(shown));
    };
    let Some(value) = read else {
        return no_answer(Target::Numerical);
    };
    let rounded = match &value {
        Value::Number(number) => Value::Number(round_to_five(*number)),
        other => other.clone(),
    };
    let lenient = agrees(&value, example);
    graded(Target::Numerical, &[rounded.is(result), lenient]).with_answer(shown(&value))
}

/// By the published answer: right when the reply is the same words, or the same number with or without its unit.
fn answer(example: &Example, reply: &Reply) -> Score {
    let text = parse_answer::conclusion(&reply.text);
    let (Some(gold), true) = (said(example, Target::Answer), example.result.is_some()) else {
        return unscored((!text.is_empty()).then(|| text.to_owned()));
    };
    if text.is_empty() {
        return no_answer(Target::Answer);
    }
    let value = parse_answer::value(text);
    let same_value = value.is_some() && value == parse_answer::value(&gold);
    let same_words = score::normalised(text) == score::normalised(&gold);
    let lenient = same_words || value.is_some_and(|value| agrees(&value, example));
    graded(Target::Answer, &[same_words || same_value, lenient]).with_answer(text)
}

/// Numbers agree within this share of the expected one.
const TOLERANCE: f64 = 0.01;

/// Whether a value agrees with the program's result or the published answer, as it is or as a percentage of it.
fn agrees(value: &Value, example: &Example) -> bool {
    let published = example.answer.as_deref().and_then(parse_answer::value);
    let mut expected = example.result.iter().chain(&published);
    expected.any(|expected| match (value, expected) {
        (Value::Number(value), Value::Number(expected)) => {
            // Below the five decimals of a result, differences are rounding.
            let room = (TOLERANCE * expected.abs()).max(0.000_005);
            let near = |value: f64| (value - expected).abs() <= room;
            let rescaled = |value: f64| *expected != 0.0 && near(value);
            near(*value) || rescaled(value * 100.0) || rescaled(value / 100.0)
        }
        _ => value.is(expected),
    })
}

fn graded(target: Target, right: &[bool]) -> Score {
    let named = metrics(target).iter().zip(right);
    named.fold(Score::default(), |score, (name, right)| {
        score.and(*name, f64::from(u8::from(*right)))
    })
}

fn no_answer(target: Target) -> Score {
    Score {
        status: Status::NoAnswer,
        ..graded(target, &[false; 3])
    }
}

/// Without a gold program the reply cannot be scored; the parsed answer is kept.
fn unscored(answer: Option<String>) -> Score {
    Score {
        answer,
        ..Score::unscored()
    }
}
