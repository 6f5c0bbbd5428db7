//! The task as a host sees it: by its name, over its envelopes.

use finqa as _; // its registration comes along only when the crate is named
use plugin_api::client::{FilesClient, Pages, TaskClient};
use plugin_api::{
    Code, FileAnswers, FileScores, Kind, NoCallbacks, Reply, Result, Row, Sample, Score, Settings, Status, make,
    make_files,
};
use serde_json::{Value, json};
use std::fs;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

fn task(settings: Value) -> Result<TaskClient> {
    let settings = serde_json::from_value(settings).unwrap();
    Ok(TaskClient(Arc::from(make(Kind::Task, "finqa", &settings)?)))
}

fn demo(mut settings: Value) -> TaskClient {
    settings["data"] = json!(DEMO);
    task(settings).unwrap()
}

/// The task over one file of these rows, which is kept on disk as long as the folder.
fn over(rows: &[Value], mut settings: Value) -> (TempDir, TaskClient) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("rows.json");
    fs::write(&path, json!(rows).to_string()).unwrap();
    settings["data"] = json!(path);
    let task = task(settings).unwrap();
    (folder, task)
}

/// A row with all that the authors publish.
fn row() -> Value {
    json!({
        "id": "ACME/2020/page_3.pdf-2",
        "pre_text": ["acme makes anvils .", "."],
        "post_text": ["each anvil weighs 50 kg .", "sales of 2018 were 60 ."],
        "table": [["", "2020", "2019"], ["net sales", "$ 120", "$ 80"], ["costs", "70", "60"], ["tax", "9", "8"]],
        "qa": {
            "question": "by what share did sales grow?",
            "program": "subtract(120, 80), divide(#0, 80)",
            "exe_ans": 0.5,
            "answer": "50%",
            "gold_inds": {"table_1": "the net sales of 2020 is $ 120 ; the net sales of 2019 is $ 80 ;"},
            "model_input": [["text_3", "sales of 2018 were 60 ."], ["table_2", "the costs of 2020 is 70 ;"]]
        }
    })
}

fn asked(task: &TaskClient, index: usize) -> String {
    task.prompt(&task.sample(index).unwrap()).unwrap().last_user_text()
}

fn scored(task: &TaskClient, text: &str) -> Score {
    task.score(&task.sample(0).unwrap(), &Reply::text(text), &NoCallbacks)
        .unwrap()
}

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
    check_refused(json!({"data": DEMO, "template": path}), "can't be used");
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
fn the_demo_data_is_consistent() {
    for split in ["test", "train"] {
        for target in ["program", "numerical", "answer"] {
            let task = demo(json!({"split": split, "target": target}));
            for index in 0..task.count().unwrap() {
                let sample = task.sample(index).unwrap();
                let said = task.lesson(&sample).unwrap().turns[1].message.joined_text();
                let score = task.score(&sample, &Reply::text(&said), &NoCallbacks).unwrap();
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

#[track_caller]
fn check_refused(settings: Value, words: &str) {
    let error = task(settings).err().unwrap();
    assert!(error.message.contains(words), "{error}");
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
        "field `qa.gold_inds` is no list of facts",
    );
}

/// What comes of a prediction file of this text, against these rows.
fn of_file(text: &str, gold: &[Value]) -> Result<FileScores> {
    let folder = TempDir::new().unwrap();
    let [file, data] = ["predictions.json", "gold.json"].map(|name| folder.path().join(name));
    fs::write(&file, text).unwrap();
    fs::write(&data, json!(gold).to_string()).unwrap();
    let answers = FileAnswers {
        file,
        gold: vec![data],
        rows: true,
        ..FileAnswers::default()
    };
    files().score(&answers).map_err(|mut error| {
        error.message = error.message.replace(&format!("{}/", folder.path().display()), "");
        error
    })
}

fn files() -> FilesClient {
    FilesClient(Arc::from(make_files("finqa", &Settings::default()).unwrap()))
}

const ID: &str = "ACME/2020/page_3.pdf-2";

fn prediction(tokens: &[&str]) -> Value {
    json!({"id": ID, "predicted": tokens})
}

#[test]
fn predictions_are_scored_in_the_order_of_their_file() {
    let right = ["subtract(", "120", "80", ")", "divide(", "#0", "80", ")", "EOF"];
    let mut other = row();
    other["id"] = json!("other");
    let predictions = json!([
        prediction(&right),
        prediction(&["divide(", "40", "80", ")", "EOF"]),
        prediction(&["divide(", "40", "0", ")", "EOF"]),
        prediction(&[]),
        prediction(&["exp(", "-8", "0.5", ")", "EOF"]),
        prediction(&["multiply(", "1e300", "1e300", ")", "EOF"]),
    ]);
    let scores = of_file(&predictions.to_string(), &[row(), other]).unwrap();
    let rows = scores.rows.iter().map(|row| {
        assert_eq!(row["id"], ID);
        (
            row["invalid"] == true,
            row["execution_correct"] == true,
            row["program_correct"] == true,
            row["value"].clone(),
        )
    });
    let rows: Vec<_> = rows.collect();
    let expected = [
        (false, true, true, json!(0.5)),
        (false, true, false, json!(0.5)),
        (true, false, false, json!("n/a")),
        (false, false, false, json!("n/a")),
        (true, false, false, json!("complex")),
        (false, false, false, json!("inf")),
    ];
    assert_eq!(rows, expected);
    let share = |name: &str| scores.metrics[name].as_f64().unwrap();
    assert_eq!(
        (share("execution_accuracy"), share("program_accuracy")),
        (2.0 / 6.0, 1.0 / 6.0)
    );
    // An id twice counts twice, an example without a prediction not at all; both are told.
    assert_eq!(
        (scores.n, scores.gold_total, &scores.other["not_predicted"]),
        (6, Some(2), &json!(1))
    );
    assert_eq!(scores.notes.len(), 2, "{:?}", scores.notes);
}

#[test]
fn a_file_that_is_none_of_predictions_is_an_error_that_names_the_item() {
    let check = |text: &str, gold: &[Value], words: &str| {
        let error = of_file(text, gold).unwrap_err();
        assert!(error.message.contains(words), "{text}: {error}");
        assert_eq!(error.code, Code::DATA);
    };
    let list = |second: Value| json!([prediction(&["EOF"]), second]).to_string();
    check("[]", &[row()], "`predictions.json` holds no predictions");
    check("{", &[row()], "`predictions.json` is no JSON");
    check(
        &list(json!({"id": "x", "predicted": []})),
        &[row()],
        "item 2 of `predictions.json`: field `id` is `x`",
    );
    check(
        &list(json!({"id": ID})),
        &[row()],
        "item 2 of `predictions.json`: field `predicted` is missing",
    );
    check(
        &list(json!({"id": ID, "predicted": "EOF"})),
        &[row()],
        "is the text `EOF`, expected a list",
    );
    check(
        &list(json!({"id": ID, "predicted": ["add(", 5]})),
        &[row()],
        "field `predicted.1` is the number 5",
    );
    check(
        &list(json!(7)),
        &[row()],
        "item 2 of `predictions.json` is the number 7, expected an object",
    );
    check(&list(json!({"predicted": []})), &[row()], "field `id` is missing");
    check(
        &list(prediction(&[])),
        &[row(), row()],
        "item 2 of `gold.json` has the id",
    );
    let mut hidden = row();
    hidden["qa"] = json!({"question": "?"});
    check(&list(prediction(&[])), &[hidden], "has no program and result for");
}

/// A host that hands out all rows at once.
struct OnePage(Mutex<Vec<Row>>);

impl Pages for OnePage {
    fn page(&self) -> Result<Vec<Row>> {
        Ok(std::mem::take(&mut *self.0.lock().unwrap()))
    }
}

#[test]
fn a_run_comes_to_what_its_prediction_file_does() {
    let export = |settings: Value| {
        let task = demo(settings);
        let rows = (0..task.count().unwrap()).map(|index| {
            let sample = task.sample(index).unwrap();
            let said = match index % 4 {
                0 => sample.target.as_str().unwrap().to_owned(),
                1 => format!("{}, add(#0, 1)", sample.target.as_str().unwrap()),
                2 => "I don't know".to_owned(),
                _ => "add(1, 2), divide(#0, 0)".to_owned(),
            };
            let score = task.score(&sample, &Reply::text(said), &NoCallbacks).unwrap();
            Row {
                sample,
                score,
                ..Row::default()
            }
        });
        let rows: Vec<Row> = rows.collect();
        let text = Mutex::new(String::new());
        let write = |file: &str, piece: &str| {
            assert_eq!(file, "predictions.json");
            text.lock().unwrap().push_str(piece);
            true
        };
        let written = files().export("finqa", &OnePage(Mutex::new(rows.clone())), &write);
        written.map(|()| (rows, text.into_inner().unwrap()))
    };
    let (rows, text) = export(json!({})).unwrap();
    let gold: Vec<Value> = serde_json::from_slice(&fs::read(format!("{DEMO}/test.json")).unwrap()).unwrap();
    let scores = of_file(&text, &gold).unwrap();
    assert_eq!(scores.n, rows.len() as u64);
    for (name, share) in &scores.metrics {
        let sum: f64 = rows.iter().map(|row| row.score.values[name]).sum();
        assert_eq!(share.as_f64(), Some(sum / rows.len() as f64), "{name}");
        assert!(sum > 0.0 && sum < rows.len() as f64, "{name}");
    }
    let error = export(json!({"target": "answer"})).unwrap_err();
    assert!(error.message.contains("has no program"), "{error}");
}

#[test]
fn worked_examples_are_of_other_pages() {
    let task = demo(json!({"shots": 1}));
    let prompt = task.prompt(&task.sample(0).unwrap()).unwrap();
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
    let prompt = task.prompt(&task.sample(0).unwrap()).unwrap();
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
