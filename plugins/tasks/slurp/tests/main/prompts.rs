//! Prompts and lessons: what a model is shown, and what it is taught.

use crate::common::{DEMO, RIGHT, ROW, demo, one, over, task};
use plugin_api::client::TaskClient;
use plugin_api::{Code, Message, NoCallbacks, Part, Reply, Role};
use serde_json::{Value, json};
use testkit::task::only_message;

#[test]
fn each_input_shows_what_it_says() {
    let heard = r#"{"slurp_id": 7, "asr_hypotheses": [{"text": "wake me at ten"}, {"text": "wait for me"}]}"#;
    let shown = |input: &str, settings: Value| {
        let mut settings = settings;
        settings["input"] = json!(input);
        settings["hypotheses"] = json!(heard);
        let (_folder, task) = one(&["audio-1.flac"], settings);
        let message = only_message(&task, 0);
        let clips: Vec<_> = message
            .parts
            .iter()
            .filter(|part| matches!(part, Part::Clip { .. }))
            .cloned()
            .collect();
        let words = task
            .sample(0)
            .unwrap()
            .clips
            .first()
            .and_then(|clip| clip.words.clone());
        (message.joined_text(), clips, words)
    };
    let list = "1. wake me at ten\n2. wait for me\n";
    let (text, clips, words) = shown("audio", json!({}));
    assert_eq!(clips, [Part::clip(0)]);
    assert!(text.contains("Recording: \n") && !text.contains("wake me"), "{text}");
    assert!(words.unwrap().ends_with(list.trim_end()));
    let (text, clips, _) = shown("both", json!({}));
    assert!(clips.len() == 1 && text.contains(list), "{text}");
    let (text, clips, words) = shown("nbest", json!({"most_hypotheses": 1}));
    assert!(
        clips.is_empty() && words.is_none() && text.contains("1. wake me at ten\n") && !text.contains("2. "),
        "{text}"
    );
    let (text, clips, _) = shown("transcript", json!({}));
    assert!(
        clips.is_empty() && text.contains("Utterance: wake me at Ten am\n"),
        "{text}"
    );
    let (_folder, task) = one(&[], json!({"input": "nbest"}));
    let error = task.prompt(&task.sample(0).unwrap()).unwrap_err();
    assert_eq!(
        error.message,
        "sample `audio-1.flac` has no speech recognition hypotheses"
    );
}

#[test]
fn a_prompt_lists_every_label() {
    let text = only_message(&demo(json!({"input": "transcript"})), 0).joined_text();
    for label in [
        "alarm, audio, calendar",
        "addcontact, audiobook",
        "- datetime: convert, query\n",
        "weather_descriptor\n",
    ] {
        assert!(text.contains(label), "{label}: {text}");
    }
    assert!(text.ends_with("Answer with the JSON object alone."), "{text}");
}

#[test]
fn a_template_can_be_replaced() {
    let settings = json!({"template": "{{ clip }} {{ entity_types | length }} {{ scenarios | first }}"});
    let (_folder, task) = one(&["audio-1.flac"], settings);
    assert_eq!(only_message(&task, 0).parts, [Part::clip(0), Part::text(" 55 alarm")]);
    // Without a place for it the clip comes first; where it is missing, nothing stands for it.
    let (_folder, task) = one(&["audio-1.flac"], json!({"template": "What?"}));
    assert_eq!(only_message(&task, 0).parts, [Part::clip(0), Part::text("What?")]);
    assert_eq!(only_message(&task, 1).parts, [Part::text("What?")]);
    assert_ne!(
        task.card().unwrap().other["template_hash"],
        demo(json!({})).card().unwrap().other["template_hash"]
    );
    let error = |template: &str| over(&[ROW], &[], json!({"template": template})).1.err().unwrap();
    assert_eq!(error("{% if %}").code, Code::SETTINGS);
    let (_folder, endless) = one(
        &[],
        json!({"template": "{% for a in range(9999) %}{% for b in range(9999) %}.{% endfor %}{% endfor %}"}),
    );
    assert!(endless.prompt(&endless.sample(0).unwrap()).is_err());
}

#[test]
fn rationales_are_shown_or_asked_for() {
    let row = ROW.replace(
        "\"slurp_id\": 7",
        "\"slurp_id\": 7, \"rationale_text\": \"He says when.\"",
    );
    let of = |rationale: &str| over(&[&row], &[], json!({"input": "transcript", "rationale": rationale}));
    let (_folder, given) = of("given");
    let given = given.unwrap();
    assert!(
        only_message(&given, 0)
            .joined_text()
            .contains("Rationale: He says when.\n")
    );
    let (_folder, written) = of("written");
    let written = written.unwrap();
    let text = only_message(&written, 0).joined_text();
    assert!(text.contains("First say") && !text.contains("He says when."), "{text}");
    let sample = written.sample(0).unwrap();
    let score = written
        .score(&sample, &Reply::text(format!("When?\n{RIGHT}")), &NoCallbacks)
        .unwrap();
    assert_eq!(
        (score.values["json_strict"], &score.details["rationale"]),
        (1.0, &json!("When?"))
    );
    let said = |task: &TaskClient| {
        task.lesson(&task.sample(0).unwrap()).unwrap().turns[1]
            .message
            .joined_text()
    };
    assert_eq!(said(&written), format!("He says when.\n{RIGHT}"));
    assert_eq!(said(&given), RIGHT);
}

#[test]
fn a_lesson_teaches_the_answer_to_the_same_prompt() {
    let (_folder, task) = one(&["audio-1.flac"], json!({}));
    let lesson = task.lesson(&task.sample(0).unwrap()).unwrap();
    let turns: Vec<_> = lesson
        .turns
        .iter()
        .map(|turn| (turn.message.clone(), turn.learn))
        .collect();
    assert_eq!(
        turns,
        [
            (only_message(&task, 0), false),
            (Message::text(Role::Assistant, RIGHT), true)
        ]
    );
}

#[test]
fn worked_examples_come_from_other_rows() {
    let shots = format!("{DEMO}/train.jsonl");
    let text = only_message(
        &demo(json!({"input": "transcript", "shots": 2, "shots_data": shots})),
        0,
    )
    .joined_text();
    let shown = "Utterance: switch off the alarm for seven\n{\"scenario\": \"alarm\", \"action\": \"remove\", \"entities\": [{\"type\": \"time\", \"filler\": \"seven\"}]}\n";
    assert!(
        text.contains(shown) && text.contains("harbour radio") && !text.contains("ephemeral"),
        "{text}"
    );
    let own = demo(json!({"split": "train", "input": "transcript", "shots": 2, "shots_data": shots}));
    let text = only_message(&own, 0).joined_text();
    assert_eq!(text.matches("switch off the alarm").count(), 1, "{text}");
    let too_many = task(json!({"data": DEMO, "shots": 9, "shots_data": shots}))
        .err()
        .unwrap();
    assert!(too_many.message.ends_with("there are 4 worked examples"), "{too_many}");
    assert_eq!(
        task(json!({"data": DEMO, "shots": 1})).err().unwrap().code,
        Code::SETTINGS
    );
}
