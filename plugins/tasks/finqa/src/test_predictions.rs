//! `test_predictions.jsonl`: the published fine-tuning scripts' file about each answer of their test.

use crate::example::Example;
use crate::lessons;
use crate::prompt::Target;
use crate::scoring;
use plugin_api::{Code, Error, Output, Result, Rows, Score};
use serde_json::{Value, json};

const FILE: &str = "test_predictions.jsonl";

pub(crate) fn write(rows: &mut Rows, out: &mut Output) -> Result<()> {
    for row in rows {
        let row = row?;
        let (sample, score) = (&row.sample, &row.score);
        let example = Example::read(&task::row_of(sample))?;
        let target = target(score).ok_or_else(|| {
            let message = format!("the record of sample `{}` has no score of this task", sample.id);
            Error::new(Code::DATA, message).help("the run may be of another task")
        })?;
        let mut line = json!({
            "id": sample.id, "question": example.question, "target_field": target.1,
            // The host stores the prompt there.
            "prompt": row.reply.as_ref().and_then(|reply| reply.other.get("prompt")),
            "prediction": row.reply.as_ref().map(|reply| &reply.text),
        });
        let more = match target.0 {
            Target::Program => of_program(&example, score),
            _ => json!({
                "gold_target": lessons::said(&example, target.0),
                "answer_accuracy": score.values.get(scoring::metrics(target.0)[0]),
            }),
        };
        if let (Some(line), Value::Object(more)) = (line.as_object_mut(), more) {
            line.extend(more);
        }
        out.line(FILE, &line)?;
    }
    Ok(())
}

/// What the model was to write, by the figures that its score has.
fn target(score: &Score) -> Option<(Target, &'static str)> {
    let known = [
        (Target::Program, "program"),
        (Target::Numerical, "numerical"),
        (Target::Answer, "answer"),
    ];
    known
        .into_iter()
        .find(|(target, _)| score.values.contains_key(scoring::metrics(*target)[0]))
}

fn of_program(example: &Example, score: &Score) -> Value {
    let value = |name: &str| score.values.get(name);
    let invalid = score.details.get("invalid") == Some(&json!(true));
    let predicted = score.details.get("value").filter(|_| !invalid);
    json!({
        "gold_program": example.program, "gold_exe_ans": example.result.as_ref().map(scoring::value_json),
        "predicted_exe_ans": predicted, "execution_accuracy": value("execution_accuracy"),
        "program_accuracy": value("program_accuracy"),
        "execution_error": invalid.then_some("the program cannot be executed"),
    })
}
