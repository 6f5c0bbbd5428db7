//! Scores of single replies, by the official rules and by the lenient ones.

use crate::common::{over, row, scored};
use plugin_api::{NoCallbacks, Reply, Score, Status};
use serde_json::{Value, json};

#[test]
fn programs_are_scored_by_the_official_rules_and_leniently() {
    let (_folder, task) = over(&[row()], json!({}));
    let check = |text: &str, [execution, program, lenient]: [f64; 3], answer: &str| {
        let score = scored(&task, text);
        let names = ["execution_accuracy", "program_accuracy", "lenient_accuracy"];
        assert_eq!(
            names.map(|name| score.values[name]),
            [execution, program, lenient],
            "{text:?}"
        );
        assert_eq!((score.answer.as_deref(), score.status), (Some(answer), Status::Scored));
    };
    let gold = "subtract(120, 80), divide(#0, 80)";
    check(gold, [1.0, 1.0, 1.0], gold);
    check("Program: divide(subtract(120, 80), 80)", [1.0, 1.0, 1.0], gold);
    check(
        "divide(120, 80), subtract(#0, const_1)",
        [1.0, 0.0, 1.0],
        "divide(120, 80), subtract(#0, const_1)",
    );
    check("multiply(50, 1)", [0.0, 0.0, 1.0], "multiply(50, 1)");
    check("multiply(0.503, 1)", [0.0, 0.0, 1.0], "multiply(0.503, 1)");
    check("multiply(0.51, 1)", [0.0, 0.0, 0.0], "multiply(0.51, 1)");
    check("divide(1, 0)", [0.0, 0.0, 0.0], "divide(1, 0)");
}

#[test]
fn the_record_holds_the_official_row() {
    let (_folder, task) = over(&[row()], json!({}));
    let details = |score: Score| Value::Object(score.details);
    let right = json!({
        "invalid": false, "execution_correct": true, "program_correct": false, "value": 0.5,
        "predicted": ["add(", "0.5", "0", ")", "EOF"]
    });
    assert_eq!(details(scored(&task, "add(0.5, 0)")), right);
    let broken = details(scored(&task, "divide(1, 0)"));
    assert_eq!((&broken["invalid"], &broken["value"]), (&json!(true), &json!("n/a")));
    let infinite = details(scored(&task, "multiply(1e200, 1e200)"));
    assert_eq!(
        (&infinite["invalid"], &infinite["value"]),
        (&json!(false), &json!("inf"))
    );
    let silent = scored(&task, "I can't say.");
    assert_eq!(
        (silent.status, silent.values["execution_accuracy"]),
        (Status::NoAnswer, 0.0)
    );
    assert_eq!(details(silent)["predicted"], json!(["EOF"]));
}

#[test]
fn tokens_of_a_prediction_file_are_taken_as_they_are() {
    let (_folder, task) = over(&[row()], json!({}));
    let check = |tokens: Value, invalid: bool, execution: f64| {
        let mut reply = Reply::text("subtract(120, 80), divide(#0, 80)"); // not looked at
        reply.other.insert("predicted".to_owned(), tokens.clone());
        let score = task.score(&task.sample(0).unwrap(), &reply, &NoCallbacks).unwrap();
        let found = (&score.details["invalid"], score.values["execution_accuracy"]);
        assert_eq!(found, (&json!(invalid), execution), "{tokens}");
    };
    check(json!(["add(", "0.5", "0", ")", "EOF"]), false, 1.0);
    check(json!(["add(", "0.5", "0", ")"]), false, 0.0); // its end was taken for EOF
    check(json!(["Add(", "0.5", "0", ")", "EOF"]), true, 0.0);
    check(json!([]), false, 0.0);
    check(json!([7]), true, 0.0);
}

#[test]
fn numbers_are_right_to_five_decimals() {
    let (_folder, task) = over(&[row()], json!({"target": "numerical"}));
    let check = |text: &str, value: f64, lenient: f64| {
        let score = scored(&task, text);
        let found = (
            score.values["value_accuracy"],
            score.values["lenient_accuracy"],
            score.status,
        );
        assert_eq!(found, (value, lenient, Status::Scored), "{text:?}");
    };
    check("0.5", 1.0, 1.0);
    check("Answer: 0.500001", 1.0, 1.0);
    check("50%", 1.0, 1.0);
    check("50", 0.0, 1.0);
    check("0.4", 0.0, 0.0);
    check("yes", 0.0, 0.0);
    assert_eq!(scored(&task, "hard to say").status, Status::NoAnswer);
}

#[test]
fn answers_are_right_in_the_same_words_or_with_the_same_number() {
    let mut dollars = row();
    dollars["qa"]["answer"] = json!("$ 12 million");
    dollars["qa"]["exe_ans"] = json!(12.0);
    let check = |row: Value, text: &str, answer: f64, lenient: f64| {
        let (_folder, task) = over(&[row], json!({"target": "answer"}));
        let score = scored(&task, text);
        let found = (score.values["answer_accuracy"], score.values["lenient_accuracy"]);
        assert_eq!(found, (answer, lenient), "{text:?}");
    };
    check(row(), "50%", 1.0, 1.0);
    check(row(), "Sales grew.\nAnswer: 50.0 %", 1.0, 1.0);
    check(row(), "50", 0.0, 1.0);
    check(row(), "grew", 0.0, 0.0);
    check(dollars.clone(), "$12", 1.0, 1.0);
    check(dollars.clone(), "12.1", 0.0, 1.0);
    check(dollars, "13", 0.0, 0.0);
}
