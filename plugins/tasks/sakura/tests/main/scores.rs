//! Scores of replies by the rule and by the judge, and the figures of a run.

use crate::common::{DEMO, published, task};
use plugin_api::client::JudgeClient;
use plugin_api::{Case, Error, Kind, Metric, NoCallbacks, Reply, Ruling, Status, Want, make};
use serde_json::{Value, json};
use std::sync::Arc;
use testkit::task::{FixedGrader, OnePage, row};

#[test]
fn the_rule_tells_right_from_wrong_from_unread() {
    let (_folder, task) = published(json!({}));
    let sample = task.sample(1).unwrap();
    let check = |text: &str, right: f64, status: Status, letter: Option<&str>, reasoning: Option<&str>| {
        let score = task.score(&sample, &Reply::text(text), &NoCallbacks).unwrap();
        assert_eq!((score.values["rule_acc"], score.status), (right, status), "{text}");
        let detail = |name: &str| score.details.get(name).and_then(Value::as_str);
        assert_eq!((detail("letter"), detail("reasoning")), (letter, reasoning), "{text}");
    };
    check(
        "German, so Kassel.\nAnswer: (b)",
        1.0,
        Status::Scored,
        Some("b"),
        Some("German, so Kassel."),
    );
    check("(b) Kassel", 1.0, Status::Scored, Some("b"), None);
    check("Answer: (a)", 0.0, Status::Scored, Some("a"), None);
    check("I can't tell.", 0.0, Status::NoAnswer, None, None);
    check("Busan or Kassel", 0.0, Status::NoAnswer, None, None);
}

#[test]
fn a_judge_rules_by_the_official_protocol() {
    let (_folder, task) = published(json!({"judge": true}));
    assert_eq!(task.card().unwrap().metrics[0].name, "judge_acc");
    let sample = task.sample(0).unwrap();
    let judge = JudgeClient(Arc::from(make(Kind::Judge, "sakura", &Default::default()).unwrap()));
    let check = |words: &'static str, right: f64, invalid: f64, ruling: Ruling| {
        let host = FixedGrader::new(words);
        let score = task.score(&sample, &Reply::text("It is the first."), &host).unwrap();
        assert_eq!(
            (score.values["judge_acc"], score.values["judge_invalid"]),
            (right, invalid),
            "{words}"
        );
        assert_eq!(
            (score.values["rule_acc"], &score.details["judge_reply"]),
            (0.0, &json!(words))
        );
        let prompt = host.asked.lock().unwrap().remove(0);
        let asked = prompt.last_user_text();
        for part in [
            "Which language? (a) German (b) Korean",
            "(a) German\n",
            "It is the first.",
        ] {
            assert!(asked.contains(part), "{asked}");
        }
        let Want::Text { sampling } = prompt.want else { panic!() };
        assert_eq!(
            (sampling.temperature, sampling.top_p, sampling.max_tokens),
            (Some(0.0), Some(0.9), Some(1024))
        );
        let case = Case {
            sample: sample.clone(),
            reply: Reply::text("It is the first."),
            ..Case::default()
        };
        let verdict = judge.judge(&case, &FixedGrader::new(words)).unwrap();
        assert_eq!(
            (verdict.ruling, verdict.value, verdict.raw.as_deref()),
            (ruling, Some(right), Some(words))
        );
    };
    check("Explanation: It is.\nJudgement: correct", 1.0, 0.0, Ruling::Right);
    check("Explanation: It is not.\nJudgement: incorrect", 0.0, 0.0, Ruling::Wrong);
    check("Judgement: correct", 0.0, 1.0, Ruling::Wrong);
    let alone: Error = task.score(&sample, &Reply::text("x"), &NoCallbacks).unwrap_err();
    assert!(alone.message.contains("generate:judge"));
}

#[test]
fn multi_hop_is_also_told_of_clips_whose_single_hop_was_right() {
    let task = task(json!({"data": DEMO})).unwrap();
    // For each clip of a track, in order: single, multi, single, multi.
    let right = [[1, 1, 1, 0], [1, 0, 0, 1], [0, 1, 0, 1], [1, 1, 1, 1]].concat();
    let rows = right.iter().enumerate().map(|(index, right)| {
        let sample = task.sample(index).unwrap();
        let reply = if *right == 1 {
            sample.target.as_str().unwrap().to_owned()
        } else {
            "none".to_owned()
        };
        row(&task, index, Reply::text(reply), &NoCallbacks)
    });
    let metrics = task.metrics(&OnePage::new(rows)).unwrap();
    let find = |name: &str, group: Option<&str>| -> &Metric {
        let mut found = metrics
            .iter()
            .filter(|metric| metric.name == name && metric.group.as_deref() == group);
        found
            .next()
            .unwrap_or_else(|| panic!("{name} of {group:?} is not there"))
    };
    let check = |name: &str, group: Option<&str>, value: f64, count: u64| {
        let metric = find(name, group);
        assert!(
            (metric.value - value).abs() < 1e-12,
            "{name} of {group:?} is {}",
            metric.value
        );
        assert_eq!(metric.count, count, "{name} of {group:?}");
    };
    check("rule_acc", None, 11.0 / 16.0, 16);
    check("rule_acc_single", None, 5.0 / 8.0, 8);
    check("rule_acc_multi", None, 6.0 / 8.0, 8);
    // Five singles are right, and of these clips' multis three.
    check("rule_acc_multi_given_single", None, 3.0 / 5.0, 5);
    check("rule_acc", Some("set=gender-multi"), 0.5, 2);
    check("rule_acc_multi_given_single", Some("track=gender"), 0.5, 2);
    check("rule_acc_multi_given_single", Some("track=animal"), 1.0, 2);
    assert!(
        !metrics
            .iter()
            .any(|metric| metric.name.starts_with("rule_acc_multi_given")
                && metric.group.as_deref() == Some("track=emotion"))
    );
    // sqrt of the summed squares of the tracks' errors, over four: 0, 0.5, 0 and 0.
    assert!((find("rule_acc_single", None).stderr.unwrap() - 0.125).abs() < 1e-12);
    // Eight clips are the clusters: their sums less 11/8 are 5/8, -3/8 (five times) and so on.
    let sums: [f64; 8] = [2., 1., 1., 1., 1., 1., 2., 2.];
    let squares: f64 = sums.iter().map(|sum| (sum - 11.0 / 8.0).powi(2)).sum();
    assert!((find("rule_acc", None).stderr.unwrap() - (squares * 8.0 / 7.0).sqrt() / 16.0).abs() < 1e-12);
}
