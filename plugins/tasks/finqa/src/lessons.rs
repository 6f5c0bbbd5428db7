//! The text of the published FinQA scripts for training and asking: no chat template, and the answer directly after
//! the colon.

use crate::example::Example;
use crate::prompt::Target;
use plugin_api::{Lesson, Piece};
use serde_json::json;

/// The format of prompts and lessons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// In the model's chat template.
    Template,
    /// As in the published scripts.
    Script,
}

pub(crate) const STYLES: [(&str, Style); 2] = [("template", Style::Template), ("script", Style::Script)];

/// The prompt of an example.
pub(crate) fn asked(example: &Example, context: &str, target: Target, instruction: Option<&str>) -> String {
    let hint = instruction.unwrap_or(match target {
        Target::Program => "Generate the FinQA reasoning program (DSL) that answers the question.",
        Target::Numerical | Target::Answer => "Return the final numeric answer.",
    });
    let (hint, question, context) = (hint.trim(), example.question.trim(), context.trim());
    format!("{hint}\n\nQuestion:\n{question}\n\nContext:\n{context}\n\nAnswer:")
}

/// The learnt text. As in the scripts, numbers are printed as in Python, and an empty or zero value is replaced by the
/// next field that is neither.
pub(crate) fn said(example: &Example, target: Target) -> String {
    let result = example.printed.clone();
    let answer = example.answer.clone();
    let wanted = match target {
        Target::Program => example.program.clone(),
        Target::Numerical => result.clone(),
        Target::Answer => answer.clone(),
    };
    let all = [wanted, result, answer];
    let found = all
        .into_iter()
        .flatten()
        .map(|text| text.trim().to_owned())
        .find(|text| !text.is_empty());
    found.unwrap_or_else(|| "unknown".to_owned())
}

pub(crate) fn lesson(example: &Example, asked: String, target: Target) -> Lesson {
    Lesson {
        id: example.id.clone(),
        pieces: vec![Piece::read(asked), Piece::learn(said(example, target)).ended()],
        ..Lesson::default()
    }
}

/// How the scripts train, for `host train`, and what they write of their test.
pub(crate) fn training(target: Target) -> serde_json::Value {
    // The authors' own format is for programs only.
    let exports = match target {
        Target::Program => ["finqa", "finqa-script"].as_slice(),
        Target::Numerical | Target::Answer => &["finqa-script"],
    };
    json!({
        "task": { "style": "script", "max_tokens": 128 },
        "defaults": {
            "num_train_epochs": 3, "learning_rate": 2e-5, "weight_decay": 0.01, "warmup_ratio": 0.03,
            "per_device_train_batch_size": 2, "per_device_eval_batch_size": 2, "gradient_accumulation_steps": 4,
            "lr_scheduler_type": "cosine", "gradient_checkpointing": true, "seed": 42, "logging_steps": 10, "save_steps": 200,
            "eval_steps": 200, "eval_strategy": "steps", "save_strategy": "steps", "save_total_limit": 1,
            "load_best_model_at_end": true, "max_length": 1024, "truncation": "prompt", "r": 16, "lora_alpha": 32,
            "lora_dropout": 0.05, "generation_num_beams": 1, "generation_temperature": 1, "generation_top_p": 1,
            "generation_do_sample": false,
            "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        },
        "demo": { "num_train_epochs": 5, "learning_rate": 1e-3, "eval_strategy": "no", "save_strategy": "no" },
        "exports": exports,
        "settings": { "input_mode": "inputs", "target_field": "target" },
        "metrics": { "answer_accuracy": "value_accuracy" },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(printed: Option<&str>, answer: &str) -> Example {
        Example {
            id: "a".to_owned(),
            question: " how much? ".to_owned(),
            program: Some("add(1, 2)".to_owned()),
            answer: Some(answer.to_owned()),
            result: None,
            printed: printed.map(str::to_owned),
            texts: None,
            table: Vec::new(),
            gold: None,
            retrieved: None,
        }
    }

    #[test]
    fn the_prompt_is_the_scripts() {
        let text = asked(&example(None, ""), "a\nb\n", Target::Program, None);
        assert_eq!(
            text,
            "Generate the FinQA reasoning program (DSL) that answers the question.\n\nQuestion:\nhow much?\n\nContext:\na\nb\n\nAnswer:"
        );
        assert!(asked(&example(None, ""), "", Target::Answer, Some(" Say it. ")).starts_with("Say it.\n\nQuestion:"));
    }

    #[test]
    fn an_empty_value_gives_way_to_the_next() {
        assert_eq!(said(&example(Some("yes"), "94"), Target::Program), "add(1, 2)");
        assert_eq!(said(&example(Some("yes"), "94"), Target::Numerical), "yes");
        assert_eq!(said(&example(None, "94"), Target::Numerical), "94");
        assert_eq!(said(&example(Some("yes"), " "), Target::Answer), "yes");
        assert_eq!(said(&example(None, ""), Target::Answer), "unknown");
    }
}
