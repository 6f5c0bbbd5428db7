//! Prompts and lessons: what a model is shown, and what it is taught.

use crate::common::{DIGITS, FLAT, over, task};
use plugin_api::client::TaskClient;
use plugin_api::{Code, Message, Part, Prompt, Want};
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use testkit::task::{folder, prompt_for};

fn options(prompt: &Prompt) -> &[String] {
    match &prompt.want {
        Want::Choice { options } => options,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_letter_prompt_has_the_published_shape() {
    let (_folder, task) = over(&[FLAT, DIGITS], json!({}));
    let prompt = prompt_for(&task, 0);
    let expected = "Multiple Choice question: What is hot?\n- ice=A\n- the Sun=B\n- a rock=C\n\nRespond only with the letter of the correct answer.";
    assert_eq!(prompt.messages, [Message::user(expected)]);
    assert_eq!((prompt.plain, prompt.thinking), (false, Some(false)));
    assert_eq!(options(&prompt), ["A", "B", "C"]);
    // Digits in the data are letters in the prompt, since it asks for a letter.
    let digits = prompt_for(&task, 1);
    assert!(digits.last_user_text().contains("- ice=A\n- fire=B\n"));
}

#[test]
fn a_loglikelihood_prompt_goes_on_with_the_option_texts() {
    let (_folder, task) = over(&[FLAT], json!({"mode": "loglikelihood"}));
    let prompt = prompt_for(&task, 0);
    assert_eq!(prompt.last_user_text(), "Question: What is hot?\nAnswer:");
    assert!(prompt.plain);
    assert_eq!(options(&prompt), [" ice", " the Sun", " a rock"]);
}

#[test]
fn a_generated_answer_is_drawn_greedily() {
    let (_folder, plain) = over(&[FLAT], json!({"mode": "generate"}));
    let prompt = prompt_for(&plain, 0);
    let sampling = prompt.sampling().unwrap();
    assert_eq!(
        (sampling.temperature, sampling.max_tokens, prompt.thinking),
        (Some(0.0), Some(256), Some(false))
    );
    let (_folder, thinking) = over(&[FLAT], json!({"mode": "generate", "thinking": true}));
    let prompt = prompt_for(&thinking, 0);
    assert_eq!(
        (prompt.sampling().unwrap().max_tokens, prompt.thinking),
        (Some(8192), Some(true))
    );
}

#[test]
fn a_lesson_teaches_the_letter_alone() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let sample = task.sample(0).unwrap();
    let lesson = task.lesson(&sample).unwrap();
    assert_eq!(lesson.id, "q1");
    let turns: Vec<_> = lesson.turns.iter().map(|turn| (&turn.message, turn.learn)).collect();
    let asked = &task.prompt(&sample).unwrap().messages[0];
    assert_eq!(turns, [(asked, false), (&Message::assistant("B"), true)]);
}

#[test]
fn a_template_replaces_the_built_in_words() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("own.jinja");
    fs::write(
        &path,
        "{{ mode }} {{ id }}: {{ question }}{% for o in options %} {{ o.letter }}) {{ o.text }}{% endfor %}",
    )
    .unwrap();
    let check = |mode: &str, words: &str| {
        let (_rows, task) = over(&[FLAT], json!({"mode": mode, "template": path}));
        let prompt = prompt_for(&task, 0);
        assert_eq!(prompt.last_user_text(), words);
    };
    check("letter", "letter q1: What is hot? A) ice B) the Sun C) a rock");
    check(
        "loglikelihood",
        "loglikelihood q1: What is hot? A) ice B) the Sun C) a rock",
    );
    let (_rows, own) = over(&[FLAT], json!({"template": path}));
    let lesson = own.lesson(&own.sample(0).unwrap()).unwrap();
    let asked = Message::user("letter q1: What is hot? A) ice B) the Sun C) a rock");
    assert_eq!(lesson.turns[0].message, asked);
    let (_rows, usual) = over(&[FLAT], json!({}));
    let hash = |task: &TaskClient| task.card().unwrap().other["template_hash"].clone();
    assert_ne!(hash(&own), hash(&usual));
}

fn shown_shots(task: &TaskClient, index: usize) -> Vec<String> {
    let prompt = prompt_for(task, index);
    let texts = prompt.messages.iter().map(Message::joined_text);
    texts
        .filter_map(|text| {
            Some(
                text.strip_prefix("Multiple Choice question: ")?
                    .lines()
                    .next()?
                    .to_owned(),
            )
        })
        .collect()
}

#[test]
fn worked_examples_come_from_the_train_part() {
    let row = |id: &str, text: &str| FLAT.replace("q1", id).replace("What is hot?", text);
    let train = [
        row("t1", "one?"),
        row("t2", "two?"),
        row("t3", "three?"),
        row("t4", "four?"),
    ];
    let test = [row("x1", "X?"), row("x2", "two?")];
    let folder = folder(&[
        ("ARC-Easy-Train.jsonl", &train.join("\n")),
        ("ARC-Easy-Test.jsonl", &test.join("\n")),
    ]);
    let over = |settings: Value| {
        let mut settings = settings;
        settings["data"] = json!(folder.path());
        task(settings)
    };
    let first = over(json!({"shots": 2})).unwrap();
    assert_eq!(shown_shots(&first, 0), ["one?", "two?", "X?"]);
    assert_eq!(shown_shots(&first, 1), ["one?", "three?", "two?"]); // its twin is left out
    assert_eq!(first.card().unwrap().shots, 2);
    let prompt = prompt_for(&first, 0);
    assert_eq!(prompt.messages[1], Message::assistant("B"));

    let own = over(json!({"shots": 2, "split": "train"})).unwrap();
    assert_eq!(shown_shots(&own, 0), ["two?", "three?", "one?"]); // never itself

    let seeded = |seed: u64| over(json!({"shots": 3, "shots_seed": seed})).unwrap();
    assert_eq!(shown_shots(&seeded(1), 1), shown_shots(&seeded(1), 1));
    assert!((2..20).any(|seed| shown_shots(&seeded(seed), 0) != shown_shots(&seeded(1), 0)));
    let mut drawn = shown_shots(&seeded(1), 1);
    drawn.sort();
    assert_eq!(drawn, ["four?", "one?", "three?", "two?"]);

    let texts = over(json!({"shots": 1, "mode": "loglikelihood"})).unwrap();
    let prompt = prompt_for(&texts, 0);
    let expected = "Question: one?\nAnswer: the Sun\n\nQuestion: X?\nAnswer:";
    assert_eq!(prompt.messages[0].parts, [Part::text(expected)]);

    let file = folder.path().join("ARC-Easy-Test.jsonl");
    let beside = task(json!({"data": file, "shots": 1})).unwrap();
    assert_eq!(shown_shots(&beside, 0), ["one?", "X?"]);
    let named = task(json!({"data": file, "shots": 1, "shots_data": file})).unwrap();
    assert_eq!(shown_shots(&named, 0), ["two?", "X?"]);
    assert_eq!(over(json!({"shots": 5})).err().unwrap().code, Code::SETTINGS);
    let most = over(json!({"shots": 4})).unwrap();
    assert_eq!(most.prompt(&most.sample(1).unwrap()).unwrap_err().code, Code::DATA);
    let none = over(json!({"shots": 1, "subset": "challenge"})).err().unwrap();
    assert_eq!(none.code, Code::MISSING);
}
