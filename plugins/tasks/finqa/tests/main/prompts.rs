//! Prompts and lessons: what a model is shown, and what it is taught.

use crate::common::{DEMO, asked, check_refused, demo, over, row, scored};
use plugin_api::client::TaskClient;
use serde_json::{Value, json};
use std::fs;
use tempfile::TempDir;
use testkit::task::prompt_for;

#[test]
fn the_whole_page_is_shown_in_order() {
    let (_folder, task) = over(&[row()], json!({}));
    let asked = asked(&task, 0);
    let page = "acme makes anvils .\n\n | 2020 | 2019\nnet sales | $ 120 | $ 80\ncosts | 70 | 60\ntax | 9 | 8\n\neach anvil weighs 50 kg .\nsales of 2018 were 60 .\n\nQuestion: by what share did sales grow?\n\nWrite the program";
    assert!(asked.starts_with(page), "{asked}");
}

#[test]
fn gold_and_retrieved_facts_stand_in_the_order_of_the_page() {
    let (_folder, gold) = over(&[row()], json!({"inputs": "gold"}));
    let facts = "the net sales of 2020 is $ 120 ; the net sales of 2019 is $ 80 ;\n\nQuestion:";
    assert!(asked(&gold, 0).starts_with(facts), "{}", asked(&gold, 0));
    let (_folder, retrieved) = over(&[row()], json!({"inputs": "model_input"}));
    let facts = "the costs of 2020 is 70 ;\nsales of 2018 were 60 .\n\nQuestion:";
    assert!(asked(&retrieved, 0).starts_with(facts), "{}", asked(&retrieved, 0));
}

#[test]
fn a_template_replaces_the_built_in_words() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ask.jinja");
    fs::write(&path, "{{ target }}: {{ question }} {{ table[1][0] }}").unwrap();
    let (_folder, own) = over(&[row()], json!({"template": path}));
    assert_eq!(asked(&own, 0), "program: by what share did sales grow? net sales");
    let hash = |task: &TaskClient| task.card().unwrap().other["template_hash"].clone();
    assert_ne!(hash(&own), hash(&demo(json!({}))));
    fs::write(&path, "{{ question").unwrap();
    check_refused(json!({"data": DEMO, "template": path}), "cannot use");
}

#[test]
fn each_target_is_asked_for_in_its_own_words() {
    let check = |target: &str, ending: &str| {
        let asked = asked(&demo(json!({"target": target})), 0);
        assert!(asked.ends_with(ending), "{asked}");
    };
    check(
        "program",
        "\n\nWrite the program that computes the answer, and nothing else.\nA program is one step or several, parted by commas. Each step is an operator with two arguments:\n- add, subtract, multiply, divide, exp (the first to the power of the second), greater (yes or no);\n- table_max, table_min, table_sum, table_average: the first argument is the name of a row of the table, the second is none.\nAn argument is a number as it is written above, a constant such as const_100 or const_m1 (minus one), or #0, #1, … for the result of an earlier step, counted from 0.\nFor example: subtract(120, 80), divide(#0, 80)",
    );
    check(
        "numerical",
        "from 2030 to 2031?\n\nAnswer with a number alone, or with yes or no. Write a share as a decimal fraction (0.125, not 12.5%), leave units out, and round to no fewer than five decimals.",
    );
    check(
        "answer",
        "from 2030 to 2031?\n\nAnswer with a number and its unit or percent sign, or with yes or no, and nothing else.",
    );
}

#[test]
fn distractors_stand_among_the_gold_facts() {
    let noisy = |sentences: usize, rows: usize, seed: u64| {
        let settings = json!({"inputs": "noisy_gold", "noisy_text_distractors": sentences, "noisy_table_distractors": rows, "noisy_context_seed": seed});
        let (_folder, task) = over(&[row()], settings);
        let asked = asked(&task, 0);
        asked.split("\n\nQuestion").next().unwrap().to_owned()
    };
    let gold = "the net sales of 2020 is $ 120 ; the net sales of 2019 is $ 80 ;";
    assert_eq!(noisy(0, 0, 0), gold);
    // More than there are is all of them; the lone full stop is none.
    let all = format!(
        "acme makes anvils .\n{gold}\nthe costs of 2020 is 70 ; the costs of 2019 is 60 ;\nthe tax of 2020 is 9 ; the tax of 2019 is 8 ;\neach anvil weighs 50 kg .\nsales of 2018 were 60 ."
    );
    assert_eq!(noisy(9, 9, 0), all);
    assert_eq!(noisy(1, 1, 5), noisy(1, 1, 5));
    assert_eq!(noisy(1, 1, 5).lines().count(), 3);
    let drawn: std::collections::HashSet<String> = (0..20).map(|seed| noisy(1, 0, seed)).collect();
    assert_eq!(drawn.len(), 3);
}

#[test]
fn what_is_drawn_depends_on_the_example_alone() {
    let mut other = row();
    other["id"] = json!("ACME/2020/page_4.pdf-1");
    let settings = || json!({"inputs": "noisy_gold", "noisy_text_distractors": 1, "noisy_table_distractors": 1});
    let (_folder, forth) = over(&[row(), other.clone()], settings());
    let (_folder, back) = over(&[other, row()], settings());
    assert_eq!(asked(&forth, 0), asked(&back, 1));
    assert_eq!(asked(&forth, 1), asked(&back, 0));
}

#[test]
fn lessons_teach_the_target() {
    let check = |target: &str, said: &str| {
        let (_folder, task) = over(&[row()], json!({"target": target, "inputs": "gold"}));
        let sample = task.sample(0).unwrap();
        let lesson = task.lesson(&sample).unwrap();
        let turns: Vec<_> = lesson
            .turns
            .iter()
            .map(|turn| (turn.learn, turn.message.joined_text()))
            .collect();
        assert_eq!(turns, [(false, asked(&task, 0)), (true, said.to_owned())]);
        // What is taught is worth every point.
        let right = scored(&task, said);
        assert!(right.values.values().all(|value| *value == 1.0), "{said:?}: {right:?}");
    };
    check("program", "subtract(120, 80), divide(#0, 80)");
    check("numerical", "0.5");
    check("answer", "50%");
}

#[test]
fn worked_examples_are_of_other_pages() {
    let task = demo(json!({"shots": 1}));
    let prompt = prompt_for(&task, 0);
    let train: Vec<Value> = serde_json::from_slice(&fs::read(format!("{DEMO}/train.json")).unwrap()).unwrap();
    assert_eq!((prompt.messages.len(), task.card().unwrap().shots), (3, 1));
    assert!(
        prompt.messages[0]
            .joined_text()
            .contains(train[0]["qa"]["question"].as_str().unwrap())
    );
    assert_eq!(
        prompt.messages[1].joined_text(),
        train[0]["qa"]["program"].as_str().unwrap()
    );
    assert_eq!(prompt.messages[2].joined_text(), asked(&demo(json!({})), 0));
    // The row's own page and another one, in one file.
    let (mut twin, mut other) = (row(), row());
    twin["id"] = json!("ACME/2020/page_3.pdf-1");
    other["id"] = json!("OTHER/2020/page_1.pdf-1");
    other["qa"]["question"] = json!("and the other?");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("shots.json");
    fs::write(&path, json!([twin, other]).to_string()).unwrap();
    let (_rows, task) = over(&[row()], json!({"shots": 1, "shots_data": path}));
    let prompt = prompt_for(&task, 0);
    assert!(prompt.messages[0].joined_text().contains("and the other?"));
    let (_rows, task) = over(&[row()], json!({"shots": 2, "shots_data": path}));
    let error = task.prompt(&task.sample(0).unwrap()).unwrap_err();
    assert!(error.message.contains("there are 1 worked examples besides"), "{error}");
    check_refused(json!({"data": DEMO, "shots": 9}), "but there are");
    check_refused(json!({"data": DEMO, "shots": 999}), "expected at most 64");
    check_refused(
        json!({"data": DEMO, "shots": 1, "shots_data": "/no/such"}),
        "cannot find worked examples",
    );
}
