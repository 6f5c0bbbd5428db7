//! Prompts and lessons: what a model is shown, and what it is taught.

use crate::common::{HEAD, ROWS, over, published};
use plugin_api::client::TaskClient;
use plugin_api::{Code, NoCallbacks, Part, Reply, Status};
use serde_json::{Value, json};
use testkit::task::only_message;

#[test]
fn the_clip_comes_first_and_the_form_is_chosen() {
    let check = |settings: Value, there: &[&str], not_there: &[&str]| {
        let (_folder, task) = published(settings);
        let message = only_message(&task, 1);
        assert_eq!(message.parts[0], Part::clip(0));
        let text = message.joined_text();
        for words in there {
            assert!(text.contains(words), "{words:?} is not in {text:?}");
        }
        for words in not_there {
            assert!(!text.contains(words), "{words:?} is in {text:?}");
        }
    };
    let inline = "Which town, then? (a) Busan (b) Kassel\n";
    check(json!({}), &[inline, "Answer: (letter)", "Then end"], &[]);
    check(
        json!({"reasoning": false}),
        &[inline, "the letter of the one option"],
        &["Answer: (letter)"],
    );
    check(
        json!({"form": "listed"}),
        &["Which town, then?\n(a) Busan\n(b) Kassel\n"],
        &[],
    );
    check(
        json!({"form": "open"}),
        &["Which town, then?\n", "in a few words"],
        &["Busan", "letter"],
    );
    let own = [
        ("data/Language/metadata.csv", &*format!("{HEAD}{ROWS}")),
        ("data/Language/audio/x.wav", ""),
        ("t.jinja", "Q: {{ question }} {{ clip }} Go."),
    ];
    let (_folder, task) = over(&own, json!({"template": "t.jinja", "hop": "single"}));
    let task = task.unwrap();
    let parts = only_message(&task, 0).parts;
    assert_eq!(parts.len(), 3);
    assert_eq!((&parts[1], &parts[2]), (&Part::clip(0), &Part::text(" Go.")));
    let hash = |task: &TaskClient| task.card().unwrap().other["template_hash"].clone();
    assert_ne!(hash(&task), hash(&published(json!({})).1));
}

#[test]
fn a_lesson_is_the_question_and_its_letter_with_reasons_where_there_are_some() {
    let manifest =
        r#"{"audio": "x.wav", "instruction": "Which? (a) dog (b) crow", "answer": "crow", "rationale": "It caws."}"#;
    let said = |settings: Value| {
        let mut settings = settings;
        settings["data"] = json!("m.jsonl");
        let (_folder, task) = over(&[("m.jsonl", manifest), ("x.wav", "")], settings);
        let task = task.unwrap();
        let lesson = task.lesson(&task.sample(0).unwrap()).unwrap();
        assert_eq!(lesson.turns[0].message.parts[0], Part::clip(0));
        assert_eq!((lesson.turns[0].learn, lesson.turns[1].learn), (false, true));
        lesson.turns[1].message.joined_text()
    };
    assert_eq!(said(json!({})), "It caws.\nAnswer: (b)");
    assert_eq!(said(json!({"reasoning": false})), "(b)");
    assert_eq!(said(json!({"form": "open"})), "It caws.\nAnswer: crow");
    let unknown = r#"{"audio": "x.wav", "instruction": "Which? (a) dog (b) crow"}"#;
    let (_folder, task) = over(&[("m.jsonl", unknown), ("x.wav", "")], json!({"data": "m.jsonl"}));
    let task = task.unwrap();
    let sample = task.sample(0).unwrap();
    assert_eq!(task.lesson(&sample).unwrap_err().code, Code::DATA);
    assert_eq!(
        task.score(&sample, &Reply::text("(a)"), &NoCallbacks).unwrap().status,
        Status::Unscored
    );
}
