//! Scores of single replies.

use crate::common::{RIGHT, one};
use plugin_api::{NoCallbacks, Reply, Status};
use serde_json::json;
use testkit::task::score_text;

#[test]
fn a_reply_is_scored_by_what_it_says() {
    let (_folder, task) = one(&[], json!({}));
    let check = |reply: &str, [scenario, intent, strict]: [f64; 3], slu: f64, status: Status| {
        let score = score_text(&task, 0, reply);
        let values = ["scenario_acc", "intent_acc", "json_strict", "slu_f1"].map(|name| score.values[name]);
        assert_eq!(
            (values, score.status),
            ([scenario, intent, strict, slu], status),
            "{reply}"
        );
    };
    check(RIGHT, [1.0, 1.0, 1.0], 1.0, Status::Scored);
    check(&format!("```json\n{RIGHT}\n```"), [1.0, 1.0, 0.0], 1.0, Status::Scored);
    check(&RIGHT.replace("set", "query"), [1.0, 0.0, 1.0], 1.0, Status::Scored);
    check(&RIGHT.replace("time", "date"), [1.0, 1.0, 1.0], 0.0, Status::Scored);
    check("It is an alarm.", [0.0, 0.0, 0.0], 0.0, Status::NoAnswer);
}

#[test]
fn any_string_is_scored() {
    const PIECES: [&str; 16] = [
        "{",
        "}",
        "[",
        "]",
        "\"scenario\":",
        "\"action\":",
        "\"entities\":",
        "\"type\":",
        "\"filler\":",
        "\"alarm\"",
        "\"ten am\"",
        "'time'",
        ",",
        "é ",
        "\\",
        "3",
    ];
    let (_folder, task) = one(&[], json!({}));
    let sample = task.sample(0).unwrap();
    let mut state = 7_u64;
    let mut draw = |bound: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    let mut read = 0;
    for _ in 0..2_000 {
        let text: String = (0..draw(30)).map(|_| PIECES[draw(PIECES.len())]).collect();
        let score = task
            .score(&sample, &Reply::text(format!("{{\"scenario\":{text}")), &NoCallbacks)
            .unwrap();
        assert!(
            score.values.values().all(|value| (0.0..=1.0).contains(value)),
            "{text}: {score:?}"
        );
        read += usize::from(score.status == Status::Scored);
    }
    assert!(
        (100..1_900).contains(&read),
        "{read} of 2000 were read: the strings are too easy or too hard"
    );
}
