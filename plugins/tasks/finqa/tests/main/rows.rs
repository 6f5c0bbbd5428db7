//! Rows of every layout, what they count under, and what is wrong with them.

use crate::common::{DEMO, asked, check_refused, demo, over, row, scored};
use plugin_api::{Code, Sample, Status};
use serde_json::{Value, json};
use testkit::task::score_text;

#[test]
fn samples_are_grouped_by_steps_evidence_and_operators() {
    let (_folder, task) = over(&[row()], json!({}));
    let Sample {
        groups,
        cluster,
        target,
        ..
    } = task.sample(0).unwrap();
    let expected =
        json!({"evidence": "table", "operator": "divide", "steps": "2", "uses_divide": "yes", "uses_subtract": "yes"});
    assert_eq!(json!(groups), expected);
    assert_eq!(cluster.as_deref(), Some("ACME/2020/page_3.pdf"));
    assert_eq!(target, json!("subtract(120, 80), divide(#0, 80)"));
    let demo = demo(json!({}));
    let evidence = |index| demo.sample(index).unwrap().groups["evidence"].clone();
    assert_eq!([0, 1, 4].map(evidence), ["table", "both", "text"]);
}

#[test]
fn reduced_and_flat_rows_are_read() {
    let reduced = json!({
        "id": "a-1", "table": [["", "2020"], ["sales", "5"]], "retrieved_facts": ["one fact .", "another ."],
        "qa": {"question": "?", "program": "add(5, 1)", "exe_ans": 6.0}
    });
    let (_folder, task) = over(std::slice::from_ref(&reduced), json!({"inputs": "model_input"}));
    assert!(asked(&task, 0).starts_with("one fact .\nanother .\n\nQuestion: ?"));
    assert_eq!(scored(&task, "add(1, 5)").values["program_accuracy"], 1.0);
    let (_folder, whole) = over(&[reduced], json!({}));
    let error = whole.prompt(&whole.sample(0).unwrap()).unwrap_err();
    assert_eq!(
        (error.code, error.message.as_str()),
        (Code::DATA, "sample `a-1` has no `pre_text`")
    );

    let flat = json!({
        "id": "b-1", "pre_text": ["sales rose ."], "post_text": [], "table": [["", "2020"], ["sales", "5"]],
        "question": "how?", "answer": "50%", "final_result": "0.5", "program_re": "divide(subtract(3, 2), 2)",
        "gold_inds": ["sales rose ."]
    });
    let (_folder, task) = over(&[flat], json!({"inputs": "gold"}));
    let sample = task.sample(0).unwrap();
    assert_eq!(
        (sample.target, &*sample.groups["evidence"]),
        (json!("subtract(3, 2), divide(#0, 2)"), "text")
    );
    assert_eq!(scored(&task, "divide(1, 2)").values["execution_accuracy"], 1.0);
}

#[test]
fn rows_without_answers_are_asked_and_left_unscored() {
    let private = json!({
        "id": "c-1", "pre_text": ["sales rose ."], "post_text": [], "table": [["", "2020"]], "qa": {"question": "how?"}
    });
    let (_folder, task) = over(&[private], json!({}));
    let sample = task.sample(0).unwrap();
    assert_eq!((sample.target.is_null(), sample.groups.len()), (true, 0));
    assert!(asked(&task, 0).starts_with("sales rose ."));
    let score = scored(&task, "add(1, 2)");
    assert_eq!(
        (score.status, score.answer.as_deref()),
        (Status::Unscored, Some("add(1, 2)"))
    );
    assert!(
        task.lesson(&sample)
            .unwrap_err()
            .message
            .contains("`c-1` has no program")
    );
}

#[test]
fn the_demo_data_is_consistent() {
    for split in ["test", "train"] {
        for target in ["program", "numerical", "answer"] {
            let task = demo(json!({"split": split, "target": target}));
            for index in 0..task.count().unwrap() {
                let sample = task.sample(index).unwrap();
                let said = task.lesson(&sample).unwrap().turns[1].message.joined_text();
                let score = score_text(&task, index, &said);
                assert!(
                    score.values.values().all(|value| *value == 1.0),
                    "{}: {said}: {score:?}",
                    sample.id
                );
            }
        }
    }
    let card = demo(json!({"inputs": "noisy_gold"})).card().unwrap();
    let said = (card.name.as_str(), card.split.as_deref(), card.other["inputs"].as_str());
    assert_eq!(said, ("finqa", Some("test"), Some("noisy_gold")));
    assert_eq!(card.other["noise"], json!({"sentences": 3, "rows": 3, "seed": 0}));
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    check_refused(
        json!({"data": DEMO, "target": "essay"}),
        "setting `target` is `essay`, expected one of `program`",
    );
    check_refused(json!({"data": DEMO, "inputs": "half"}), "setting `inputs` is `half`");
    check_refused(json!({"data": DEMO, "split": "best"}), "setting `split` is `best`");
    check_refused(json!({"data": DEMO, "split": "dev"}), "holds no file for dev");
    check_refused(
        json!({"data": DEMO, "noisy_context_seed": 1}),
        "setting `noisy_context_seed` has no effect with inputs `all`",
    );
    check_refused(
        json!({"data": format!("{DEMO}/test.json"), "split": "train"}),
        "setting `split` contradicts the name",
    );
    check_refused(json!({"data": "/no/such/folder"}), "cannot open `/no/such/folder`");
}

#[test]
fn what_is_off_in_a_row_is_named() {
    let check = |spoil: fn(&mut Value), words: &str| {
        let mut odd = row();
        spoil(&mut odd);
        let (_folder, task) = over(&[odd, row()], json!({}));
        let error = task.sample(0).unwrap_err();
        assert!(
            error.message.contains("rows.json") && error.message.contains(words),
            "{error}"
        );
        assert!(task.sample(1).is_ok()); // it is that row's error alone
    };
    check(
        |row| row["qa"]["question"] = Value::Null,
        "field `qa.question` is missing",
    );
    check(|row| row["qa"]["question"] = json!(" "), "field `qa.question` is empty");
    check(|row| row["id"] = Value::Null, "field `id` is missing");
    check(
        |row| row["table"] = json!("none"),
        "field `table` is the text `none`, expected a list",
    );
    check(
        |row| row["table"][1][2] = json!({}),
        "field `table.1.2` is an object, expected text",
    );
    check(
        |row| row["pre_text"] = json!(["a", 7.5]),
        "field `pre_text.1` is the number 7.5, expected text",
    );
    check(
        |row| row["qa"]["exe_ans"] = json!([]),
        "field `qa.exe_ans` is a list, expected a number",
    );
    check(
        |row| row["qa"]["gold_inds"] = json!({"text_0": 5}),
        "field `qa.gold_inds` is not a list of facts",
    );
}
