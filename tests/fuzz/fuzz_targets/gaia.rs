//! GAIA's questions and traces, replies and submissions.
#![no_main]

use fuzz::Subject;
use gaia as _; // its registration comes along only when the crate is named
use libfuzzer_sys::fuzz_target;

const SUBJECT: Subject = Subject {
    task: "gaia",
    demos: &[r#"{}"#, r#"{"mode": "traces"}"#],
    data: "plugins/tasks/gaia/demo/validation",
    gold: "plugins/tasks/gaia/demo/validation",
};

fuzz_target!(|bytes: &[u8]| SUBJECT.run(bytes));
