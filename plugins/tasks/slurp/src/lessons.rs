//! The format of the published training script: a clip and text in the chat template, followed by the label as JSON.

use crate::Rationale;
use crate::prompt::{Input, answer};
use crate::scorer::Labels;
use crate::utterance;
use data::Row;
use plugin_api::{Lesson, Message, Part, Piece, Result, Sample, Turn};
use serde_json::{Value, json};

/// The format of prompts and lessons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// By the task's own template.
    Template,
    /// As in the published script.
    Script,
}

/// Five at most.
fn hypotheses(row: &Row) -> String {
    let all = utterance::hypotheses(row);
    let lines: Vec<String> = all
        .iter()
        .take(5)
        .enumerate()
        .map(|(place, words)| format!("- {}. {words}", place + 1))
        .collect();
    let lines = if lines.is_empty() {
        "- (none)".to_owned()
    } else {
        lines.join("\n")
    };
    format!("ASR n-best hypotheses:\n{lines}")
}

fn rationale(row: &Row) -> String {
    let words = utterance::rationale_text(row).unwrap_or_else(|| "(none)".to_owned());
    format!("Rationale:\n{}", words.trim())
}

/// The text of the user's turn. `heard` is true if its clip exists.
fn asked(row: &Row, heard: bool, reads: bool) -> String {
    if !reads {
        return "Predict the final SLU label.".to_owned();
    }
    let mut blocks = vec![
        "Predict the final SLU label from speech, ASR n-best, and rationale.\nOutput JSON only with keys: scenario, action, entities."
            .to_owned(),
    ];
    if !heard {
        let first = utterance::hypotheses(row).into_iter().next();
        let said = first
            .or_else(|| utterance::transcript(row).ok().map(str::to_owned))
            .unwrap_or_default();
        blocks.push(format!("Transcript:\n{said}"));
    }
    blocks.extend([
        hypotheses(row),
        rationale(row),
        r#"Return only: {"scenario":"...",...}"#.to_owned(),
    ]);
    blocks.join("\n\n")
}

/// The user's turn.
pub(crate) fn message(sample: &Sample, row: &Row, input: Input, rationale: Rationale) -> Message {
    let heard = input.has_clips() && !sample.clips.is_empty();
    let mut parts = Vec::new();
    if heard {
        parts.push(Part::clip(0));
    }
    parts.push(Part::text(asked(row, heard, rationale != Rationale::Written)));
    Message {
        parts,
        ..Message::default()
    }
}

/// The rationale is part of the prompt, or written before the label.
pub(crate) fn lesson(
    sample: &Sample,
    row: &Row,
    labels: &Labels,
    input: Input,
    rationale: Rationale,
) -> Result<Lesson> {
    let label = answer(labels);
    let target = match rationale {
        Rationale::Written => format!("{}\n{}\nSLU:{label}", hypotheses(row), self::rationale(row)),
        _ => label,
    };
    let mut asked = message(sample, row, input, rationale);
    // A row may name a recording that is missing: the host decides whether the lesson is left out or uses text.
    if input.has_clips() && sample.clips.is_empty() && !utterance::files(row)?.is_empty() {
        asked.parts.insert(0, Part::clip(0));
    }
    Ok(Lesson {
        id: sample.id.clone(),
        turns: vec![Turn {
            message: asked,
            learn: false,
        }],
        pieces: vec![Piece::learn(target).ended()],
        ..Lesson::default()
    })
}

/// How the script trains, for `host train`. The script saves no checkpoints; here one is saved each epoch, so that a
/// run can be resumed.
pub(crate) fn training() -> Value {
    json!({
        "task": { "style": "script", "max_tokens": 2048 },
        "defaults": {
            "num_train_epochs": 3, "per_device_train_batch_size": 1, "learning_rate": 3e-5, "gradient_accumulation_steps": 4,
            "lr_scheduler_type": "linear", "weight_decay": 0, "max_grad_norm": 1.0, "logging_steps": 10, "eval_steps": 50,
            "eval_strategy": "steps", "save_strategy": "epoch", "save_total_limit": 1, "batch_by_kind": true,
        },
        "demo": { "num_train_epochs": 10, "learning_rate": 1e-3, "gradient_accumulation_steps": 1, "eval_strategy": "no", "save_strategy": "no" },
        "exports": ["slurp"],
    })
}
