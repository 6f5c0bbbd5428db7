//! FinQA's rows, replies and prediction files.
#![no_main]

use finqa as _; // its registration comes along only when the crate is named
use fuzz::Subject;
use libfuzzer_sys::fuzz_target;

const SUBJECT: Subject = Subject {
    task: "finqa",
    demos: &[r#"{}"#, r#"{"target": "answer", "inputs": "gold"}"#],
    data: "plugins/tasks/finqa/demo/test.json",
    gold: "plugins/tasks/finqa/demo/test.json",
};

fuzz_target!(|bytes: &[u8]| SUBJECT.run(bytes));
