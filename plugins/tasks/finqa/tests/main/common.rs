//! The task over the demo's rows or over rows of a test.

use finqa as _; // its registration comes along only when the crate is named
use plugin_api::client::TaskClient;
use plugin_api::{Result, Score};
use serde_json::{Value, json};
use tempfile::TempDir;
use testkit::task::{folder, make_task, prompt_for, score_text};

pub const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/demo");

pub fn task(settings: Value) -> Result<TaskClient> {
    make_task("finqa", settings)
}

pub fn demo(mut settings: Value) -> TaskClient {
    settings["data"] = json!(DEMO);
    task(settings).unwrap()
}

/// The task over one file of these rows, which is kept on disk as long as the folder.
pub fn over(rows: &[Value], mut settings: Value) -> (TempDir, TaskClient) {
    let folder = folder(&[("rows.json", &json!(rows).to_string())]);
    settings["data"] = json!(folder.path().join("rows.json"));
    let task = task(settings).unwrap();
    (folder, task)
}

/// A row with all that the authors publish.
pub fn row() -> Value {
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

pub fn asked(task: &TaskClient, index: usize) -> String {
    prompt_for(task, index).last_user_text()
}

pub fn scored(task: &TaskClient, text: &str) -> Score {
    score_text(task, 0, text)
}

#[track_caller]
pub fn check_refused(settings: Value, words: &str) {
    let error = task(settings).err().unwrap();
    assert!(error.message.contains(words), "{error}");
}
