//! Lessons: an answer in the model's own template, or the text of a published training script.

use crate::question::Question;
use plugin_api::{Lesson, Message, Piece};
use serde_json::{Value, json};

/// The part of a lesson that is not learnt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mask {
    /// Everything before the answer.
    Prompt,
    /// The user's part only: the header of the assistant's turn is learnt together with the letter.
    User,
}

pub(crate) const MASKS: [(&str, Mask); 2] = [("prompt", Mask::Prompt), ("user", Mask::User)];

pub(crate) fn lesson(question: &Question, shown: String, mask: Mask) -> Lesson {
    let letter = question.letter(question.right);
    let id = question.id.clone();
    if mask == Mask::User {
        // As in the script, the pieces are tokenised separately, and nothing follows the last mark.
        return Lesson {
            id,
            pieces: vec![
                Piece::read(format!("<|im_start|>user\n{shown}<|im_end|>\n")),
                Piece::learn("<|im_start|>assistant\n"),
                Piece::learn(letter),
                Piece::learn("<|im_end|>"),
            ],
            marks: vec!["<|im_start|>".to_owned(), "<|im_end|>".to_owned()],
            ..Lesson::default()
        };
    }
    task::lesson(&id, Message::user(shown), letter)
}

/// How the script trains, for `host train`.
pub(crate) fn training() -> Value {
    json!({
        "lessons": { "mask": "user" },
        // The demo's model is asked in its chat template, which has an empty thought before the answer.
        "demo_lessons": { "mask": "prompt" },
        "defaults": {
            "num_train_epochs": 3, "per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "learning_rate": 2e-5,
            "lr_scheduler_type": "cosine", "warmup_ratio": 0.01, "max_grad_norm": 0.5, "bf16": true, "logging_steps": 10,
            "eval_strategy": "epoch", "save_strategy": "epoch", "save_total_limit": 2,
        },
        "demo": {
            "num_train_epochs": 10, "gradient_accumulation_steps": 1, "learning_rate": 2e-3, "bf16": false,
            "eval_strategy": "no", "save_strategy": "no",
        },
        "exports": [],
    })
}
