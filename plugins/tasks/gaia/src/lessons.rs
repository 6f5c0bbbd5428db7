//! The text of the published training script: each message after a marker of its own, without a chat template.

use plugin_api::{Lesson, Piece, Result};
use serde_json::{Value, json};

/// How a conversation becomes a lesson.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Style {
    /// In the model's chat template, one lesson for each turn of the assistant.
    #[default]
    Template,
    /// As in the script, one lesson for the whole conversation.
    Script,
}

/// A conversation, its messages as the rows have them.
pub(crate) fn lesson(id: &str, messages: &[&Value]) -> Result<Lesson> {
    let mut pieces = Vec::new();
    for message in messages {
        let role = message["role"].as_str().unwrap_or_default();
        let learn = role == "assistant";
        let marker = if role == "user" {
            "<|user|>\n"
        } else {
            "<|assistant|>\n"
        };
        let content = match &message["content"] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        for (text, end) in [(marker.to_owned(), false), (content, true)] {
            pieces.push(Piece { text, learn, end });
        }
    }
    Ok(Lesson {
        id: id.to_owned(),
        pieces,
        ..Lesson::default()
    })
}

/// How the script trains, for `host train`.
pub(crate) fn training() -> Value {
    json!({
        "lessons": { "style": "script" },
        "defaults": {
            "peft": "lora", "max_length": 2048, "truncation": "left", "learning_rate": 2e-4, "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 8, "num_train_epochs": 3, "eval_steps": 200, "save_steps": 200, "eval_strategy": "steps",
            "save_strategy": "steps", "r": 16, "lora_alpha": 32, "lora_dropout": 0.05, "warmup_ratio": 0.03,
            "lr_scheduler_type": "linear", "logging_steps": 10, "save_total_limit": 2, "load_best_model_at_end": true, "fp16": true,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", "gate_proj"],
        },
        "demo": { "num_train_epochs": 5, "eval_strategy": "no", "save_strategy": "no" },
        "exports": ["gaia"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_assistants_segments_are_learnt_whole() {
        let messages = [
            json!({ "role": "system", "content": "s" }),
            json!({ "role": "user", "content": "q" }),
            json!({ "role": "assistant", "content": "a" }),
        ];
        let lesson = lesson("x", &messages.iter().collect::<Vec<_>>()).unwrap();
        let pieces: Vec<_> = lesson
            .pieces
            .iter()
            .map(|piece| (piece.text.as_str(), piece.learn, piece.end))
            .collect();
        assert_eq!(
            pieces,
            [
                ("<|assistant|>\n", false, false), // any role but the user's has this marker
                ("s", false, true),
                ("<|user|>\n", false, false),
                ("q", false, true),
                ("<|assistant|>\n", true, false),
                ("a", true, true),
            ]
        );
    }
}
