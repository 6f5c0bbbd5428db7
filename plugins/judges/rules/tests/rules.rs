//! The judge as a host sees it: by its name, over its envelopes.

use plugin_api::client::JudgeClient;
use plugin_api::{
    Case, Code, Error, Kind, NoCallbacks, OptionScore, Reply, Result, Ruling, Sample, Score, Verdict, make,
};
use rules as _; // its registration comes along only when the crate is named
use serde_json::{Value, json};
use std::sync::Arc;

fn judge(settings: Value) -> Result<JudgeClient> {
    let settings = serde_json::from_value(settings).unwrap();
    Ok(JudgeClient(Arc::from(make(Kind::Judge, "rules", &settings)?)))
}

/// The verdict on an answer that the task has read from a reply.
fn verdict(settings: Value, answer: &str, target: Value) -> Verdict {
    let case = Case {
        sample: Sample {
            target,
            ..Sample::default()
        },
        score: Some(Score::graded(false).with_answer(answer)),
        ..Case::default()
    };
    judge(settings).unwrap().judge(&case, &NoCallbacks).unwrap()
}

#[track_caller]
fn check(settings: Value, answer: &str, target: Value, expected: Ruling) {
    let verdict = verdict(settings.clone(), answer, target);
    assert_eq!(verdict.ruling, expected, "{settings} {answer:?}: {}", verdict.reason);
    assert!(!verdict.reason.is_empty());
    assert_eq!(verdict.value.is_some(), expected != Ruling::Unscored);
}

use Ruling::{Right, Unscored, Wrong};

#[test]
fn normalised_is_the_rule_when_none_is_named() {
    check(json!({}), "  Paris. ", json!("paris"), Right);
    check(json!({}), "**Paris**", json!("Paris"), Right);
    check(json!({}), "Paris, France", json!("Paris"), Wrong);
    check(json!({}), "A", json!("B"), Wrong);
    check(json!({}), "", json!("Paris"), Wrong);
    check(json!({}), "7", json!(7), Right);
    check(json!({}), "True", json!(true), Right);
}

#[test]
fn exact_means_letter_by_letter() {
    let exact = json!({"rule": "exact"});
    check(exact.clone(), " Paris\n", json!("Paris"), Right);
    check(exact.clone(), "paris", json!("Paris"), Wrong);
    check(exact, "Paris.", json!("Paris"), Wrong);
    check(
        json!({"rule": "exact", "ignore_case": true}),
        "paris",
        json!("Paris"),
        Right,
    );
}

#[test]
fn one_of_several_targets_is_enough() {
    check(json!({}), "NYC", json!(["New York", "nyc"]), Right);
    check(json!({}), "Boston", json!(["New York", "nyc"]), Wrong);
    check(json!({"rule": "number"}), "4", json!([3, "4"]), Right);
}

#[test]
fn numbers_are_compared_as_numbers() {
    let number = json!({"rule": "number"});
    check(number.clone(), "$1,200.00", json!(1200), Right);
    check(number.clone(), "The result is 42.", json!("42"), Right);
    check(number.clone(), "42.1", json!(42), Wrong);
    check(number.clone(), "forty", json!(40), Unscored);
    check(number.clone(), "40 or 41", json!(40), Unscored);
    check(number, "40", json!("forty"), Unscored);
    check(json!({"rule": "number", "tolerance": 0.5}), "42.4", json!(42), Right);
    check(json!({"rule": "number", "tolerance": 0.5}), "42.6", json!(42), Wrong);
    check(
        json!({"rule": "number", "tolerance": 0.01, "relative": true}),
        "101",
        json!(100),
        Right,
    );
}

#[test]
fn a_pattern_matches_or_captures() {
    let with = |pattern: &str| json!({"rule": "regex", "pattern": pattern});
    check(
        with("capital is {target}\\b"),
        "The capital is Paris.",
        json!("Paris"),
        Right,
    );
    check(
        with("capital is {target}\\b"),
        "The capital is Parisienne.",
        json!("Paris"),
        Wrong,
    );
    check(with("^{target}$"), "1x5", json!("1.5"), Wrong); // the target is no pattern
    check(with("^{target}$"), "b|c", json!(["a", "b|c"]), Right);
    check(with("answer: (\\w+)"), "answer: PARIS", json!("Paris"), Right);
    check(with("answer: (\\w+)"), "answer: Lyon", json!("Paris"), Wrong);
    check(with("answer: (\\w+)"), "I don't know", json!("Paris"), Unscored);
    check(with("yes"), "YES", json!("anything"), Wrong);
    let case_blind = json!({"rule": "regex", "pattern": "yes", "ignore_case": true});
    check(case_blind, "YES", json!("anything"), Right);
}

#[test]
fn without_a_target_nobody_can_say() {
    check(json!({}), "Paris", json!(null), Unscored);
    check(json!({}), "Paris", json!([]), Unscored);
    check(json!({}), "Paris", json!({"city": "Paris"}), Unscored);
}

#[test]
fn what_is_judged_is_the_answer_or_the_text() {
    let case = |reply: Reply, score: Option<Score>| Case {
        sample: Sample {
            target: json!("B"),
            ..Sample::default()
        },
        reply,
        score,
        ..Case::default()
    };
    let ruling = |of: &str, case: Case| {
        judge(json!({"of": of}))
            .unwrap()
            .judge(&case, &NoCallbacks)
            .unwrap()
            .ruling
    };
    let read = || Some(Score::graded(true).with_answer("B"));
    assert_eq!(ruling("answer", case(Reply::text("It is B"), read())), Right);
    assert_eq!(ruling("text", case(Reply::text("It is B"), read())), Wrong);
    assert_eq!(ruling("text", case(Reply::text("B"), None)), Right);
    assert_eq!(ruling("answer", case(Reply::text("B"), None)), Unscored);
    assert_eq!(
        ruling("answer", case(Reply::text("B"), Some(Score::graded(true)))),
        Unscored
    );
    assert_eq!(
        ruling("answer", case(Reply::text("hm"), Some(Score::no_answer()))),
        Wrong
    );
    let options = Reply::scored(vec![OptionScore::default()]);
    assert_eq!(ruling("text", case(options, read())), Unscored);
    assert_eq!(ruling("text", case(Reply::text(""), None)), Wrong);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let error = |settings: Value| -> Error { judge(settings).err().unwrap() };
    let bad = error(json!({"rule": "regex", "pattern": "a(b"}));
    assert_eq!(bad.code, Code::SETTINGS);
    assert_eq!(bad.message, "setting `pattern` is not a regular expression: `a(b`");
    assert!(bad.causes[0].contains("unclosed group"), "{bad}");
    assert_eq!(
        error(json!({"rule": "regex"})).message,
        "rule `regex` needs the setting `pattern`"
    );
    assert_eq!(
        error(json!({"pattern": "a"})).message,
        "setting `pattern` is given, but the rule is `normalised`"
    );
    let negative = error(json!({"rule": "number", "tolerance": -1}));
    assert_eq!(negative.message, "setting `tolerance` is -1, expected 0 or more");
    assert!(
        error(json!({"rule": "fuzzy"}))
            .message
            .starts_with("setting `rule` is `fuzzy`, expected one of `exact`")
    );
    assert_eq!(
        error(json!({"of": "both"})).message,
        "setting `of` is `both`, expected one of `answer`, `text`"
    );
}

#[test]
fn the_card_names_the_rule() {
    let card = judge(json!({"rule": "number"})).unwrap().card().unwrap();
    assert_eq!(
        (card.name.as_str(), card.version.as_str(), &card.other["rule"]),
        ("rules", "1", &json!("number"))
    );
}
