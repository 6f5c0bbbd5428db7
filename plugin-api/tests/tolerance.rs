//! The vocabulary of the future: what a newer side says must still be understood by this one.
//!
//! Each word gets fields that don't exist yet and, where it is one of several, a variant that doesn't exist yet.

use plugin_api::serde::de::DeserializeOwned;
use plugin_api::serde_json::{self, json, Value};
use plugin_api::{
    Case, Code, Error, Finish, JudgeCard, LearnEvent, Learnt, Lesson, LessonTokens, Message, Metric, ModelCard,
    NoteRecord, OptionSpec, OptionType, Part, Plan, Prompt, PromptTokens, Reads, Reply, Role, Row, Ruling, Sample,
    Score, Status, TaskCard, Verdict, Want,
};
use std::fmt::Debug;

#[track_caller]
fn check<T: DeserializeOwned + Debug + PartialEq>(said: Value, understood: T) {
    let read: T = serde_json::from_value(said.clone()).unwrap_or_else(|why| panic!("{said}: {why}"));
    assert_eq!(read, understood, "{said}");
}

/// Reads the word with nothing in it, and with one field from the future.
#[track_caller]
fn grows<T: DeserializeOwned + Debug + PartialEq>() {
    let empty: T = serde_json::from_value(json!({})).expect("every field has a default");
    let more: T = serde_json::from_value(json!({ "invented_later": { "deep": [1] } })).expect("unknown fields pass");
    // Words that keep what they don't know hold one entry more; all others are equal.
    let keeps = format!("{more:?}").contains("invented_later");
    assert!(keeps || more == empty, "{more:?}");
}

#[test]
fn unknown_fields_pass_and_missing_ones_have_defaults() {
    grows::<Message>();
    grows::<Prompt>();
    grows::<Reply>();
    grows::<Sample>();
    grows::<Score>();
    grows::<Row>();
    grows::<Metric>();
    grows::<Case>();
    grows::<Verdict>();
    grows::<Lesson>();
    grows::<Plan>();
    grows::<LearnEvent>();
    grows::<Learnt>();
    grows::<PromptTokens>();
    grows::<LessonTokens>();
    grows::<ModelCard>();
    grows::<TaskCard>();
    grows::<JudgeCard>();
    grows::<Error>();
}

#[test]
fn unknown_variants_are_read_as_unknown() {
    check(json!({ "part": "video", "frames": 9 }), Part::Unknown);
    check(json!({ "kind": "embedding", "size": 512 }), Want::Unknown);
    check(json!("narrator"), Role::Unknown);
    check(json!("out-of-patience"), Finish::Unknown);
    check(json!("video"), Reads::Unknown);
    check(json!("half"), Status::Unknown);
    check(json!("appealed"), Ruling::Unknown);
    check(json!("colour"), OptionType::Unknown);
    check(json!({ "record": "signature", "by": "someone" }), NoteRecord::Unknown);
}

#[test]
fn a_prompt_of_the_future_keeps_what_is_known_of_it() {
    let prompt: Prompt = serde_json::from_value(json!({
        "messages": [{ "role": "user", "parts": [{ "part": "video", "frames": 9 }, { "part": "text", "text": "What is it?" }],
                       "mood": "curious" }],
        "want": { "kind": "text", "sampling": { "max_tokens": 5, "mirostat": 2 } },
        "patience": 3,
    }))
    .expect("a prompt of the future is still a prompt");
    assert_eq!(prompt.last_user_text(), "What is it?");
    let sampling = prompt.sampling().expect("text is wanted");
    assert_eq!(sampling.max_tokens, Some(5));
    assert_eq!(sampling.other["mirostat"], 2);
}

#[test]
fn an_option_of_the_future_is_still_an_option() {
    let option: OptionSpec = serde_json::from_value(json!({ "name": "hue", "type": "colour", "unit": "degree" }))
        .expect("an option needs a name and a type");
    assert_eq!(
        (option.name.as_str(), option.kind, option.required),
        ("hue", OptionType::Unknown, false)
    );
}

#[test]
fn a_code_of_the_future_is_other() {
    assert_eq!(Code(4711).word(), "other");
}

#[test]
fn a_nan_travels_as_null() {
    let reply: Reply = serde_json::from_value(json!({ "options": [{ "loglik": null }] })).expect("null is NaN");
    assert!(reply.options[0].loglik.is_nan());
}
