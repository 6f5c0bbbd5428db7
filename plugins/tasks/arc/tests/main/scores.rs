//! Scores of single replies.

use crate::common::{DIGITS, FLAT, over, scored};
use plugin_api::{Code, NoCallbacks, Reply, Status};
use serde_json::json;
use testkit::task::score_text;

#[test]
fn the_likeliest_letter_is_the_answer() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let check = |likelihoods: [f64; 3], acc: f64, answer: &str| {
        let score = task
            .score(&task.sample(0).unwrap(), &scored(&likelihoods), &NoCallbacks)
            .unwrap();
        assert_eq!(
            (score.values["acc"], score.answer.as_deref()),
            (acc, Some(answer)),
            "{likelihoods:?}"
        );
    };
    check([-3.0, -1.0, -2.0], 1.0, "B");
    check([-1.0, -3.0, -2.0], 0.0, "A");
    check([-1.0, -1.0, -1.0], 0.0, "A"); // the first among equals
    check([-1.0, f64::NAN, -2.0], 1.0, "B"); // as numpy has it
}

#[test]
fn option_texts_are_compared_by_sum_character_and_byte() {
    let row = r#"{"id": "q", "question": "?", "choices": {"text": ["ab", "ééé", "abcd"], "label": ["A", "B", "C"]}, "answerKey": "C"}"#;
    let (_folder, task) = over(&[row], json!({"mode": "loglikelihood"}));
    let check = |likelihoods: [f64; 3], answer: &str, [acc, acc_norm, acc_bytes]: [f64; 3]| {
        let score = task
            .score(&task.sample(0).unwrap(), &scored(&likelihoods), &NoCallbacks)
            .unwrap();
        assert_eq!(score.answer.as_deref(), Some(answer));
        let values = ["acc", "acc_norm", "acc_bytes"].map(|name| score.values[name]);
        assert_eq!(values, [acc, acc_norm, acc_bytes], "{likelihoods:?}");
    };
    check([-2.0, -4.0, -3.0], "A", [0.0, 1.0, 0.0]); // by byte B: -4/6 beats -3/4
    check([-2.0, -3.0, -3.0], "A", [0.0, 1.0, 0.0]);
    check([-2.0, -9.0, -1.0], "C", [1.0, 1.0, 1.0]);
}

#[test]
fn letters_are_read_from_generated_text() {
    let (_folder, task) = over(&[FLAT, DIGITS], json!({"mode": "generate"}));
    let check = |index: usize, text: &str, acc: f64, answer: Option<&str>| {
        let score = score_text(&task, index, text);
        assert_eq!(
            (score.values["acc"], score.answer.as_deref()),
            (acc, answer),
            "{text:?}"
        );
        let status = if answer.is_some() {
            Status::Scored
        } else {
            Status::NoAnswer
        };
        assert_eq!(score.status, status, "{text:?}");
    };
    check(0, "B", 1.0, Some("B"));
    check(0, "The answer is (C).", 0.0, Some("C"));
    check(0, "The Sun.", 1.0, Some("B"));
    check(0, "Answer: A rock", 0.0, Some("C")); // an article, and the words of the third option
    check(0, "A dog barks twice.", 0.0, None);
    check(0, "D", 0.0, None);
    check(0, "", 0.0, None);
    check(1, "A", 1.0, Some("A"));
    check(1, "1", 0.0, None); // a label that the prompt didn't show
}

#[test]
fn a_reply_of_the_wrong_kind_is_an_error() {
    let (_folder, task) = over(&[FLAT], json!({}));
    let score = |reply: &Reply| task.score(&task.sample(0).unwrap(), reply, &NoCallbacks).unwrap_err();
    let error = score(&Reply::text("B"));
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::UNSUPPORTED, "the reply to sample `q1` scores no options")
    );
    assert!(error.help.unwrap().contains("mode=generate"));
    assert_eq!(
        score(&scored(&[0.0])).message,
        "the reply to sample `q1` scores 1 options, expected 3"
    );
}
