//! SLURP's rows, replies and prediction files.
#![no_main]

use fuzz::Subject;
use libfuzzer_sys::fuzz_target;
use slurp as _; // its registration comes along only when the crate is named

const SUBJECT: Subject = Subject {
    task: "slurp",
    demos: &[r#"{"input": "transcript"}"#, r#"{"input": "nbest"}"#],
    data: "plugins/tasks/slurp/demo",
    gold: "plugins/tasks/slurp/demo/test.jsonl",
};

fuzz_target!(|bytes: &[u8]| SUBJECT.run(bytes));
