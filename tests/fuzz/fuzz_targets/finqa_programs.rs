//! FinQA's programs: parsed, executed, compared. A program equals itself, and equality has no direction.
#![no_main]

use finqa::official::{equal, execute, operators, tokens};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: (&str, &str)| {
    let (one, other) = (tokens(data.0), tokens(data.1));
    let table: Vec<Vec<String>> = [
        ["", "2020", "2019"],
        ["net sales", "$ 120", "$ 80 ( 1 )"],
        ["tax", "12 %", ""],
    ]
    .map(|row| row.map(str::to_owned).to_vec())
    .to_vec();
    for program in [&one, &other] {
        let _ = (execute(program, &table), operators(program));
    }
    let _ = (equal(&one, &other), equal(&other, &one), equal(&one, &one));
});
