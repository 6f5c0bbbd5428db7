//! ARC's rows, replies and log-likelihoods.
#![no_main]

use arc as _; // its registration comes along only when the crate is named
use fuzz::Subject;
use libfuzzer_sys::fuzz_target;

const SUBJECT: Subject = Subject {
    task: "arc",
    demos: &[r#"{"mode": "generate", "subset": "easy"}"#],
    data: "plugins/tasks/arc/demo/ARC-Easy-Test.jsonl",
    gold: "plugins/tasks/arc/demo/ARC-Easy-Test.jsonl",
};

fuzz_target!(|bytes: &[u8]| SUBJECT.run(bytes));
