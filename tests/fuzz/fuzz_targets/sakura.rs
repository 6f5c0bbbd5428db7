//! SAKURA's rows, replies and judges' words.
#![no_main]

use fuzz::Subject;
use libfuzzer_sys::fuzz_target;
use sakura as _; // its registration comes along only when the crate is named

const SUBJECT: Subject = Subject {
    task: "sakura",
    demos: &[r#"{}"#],
    data: "plugins/tasks/sakura/demo",
    gold: "plugins/tasks/sakura/demo/data/Animal/metadata.csv",
};

fuzz_target!(|bytes: &[u8]| SUBJECT.run(bytes));
