//! How many predictions are scored in a second.
//!
//! Programs of one to five steps, each compared with another spelling, which is the most expensive case. Prints the
//! best of several rounds, since other load can only make a round slower.

#![allow(clippy::print_stdout)] // prints what it measured

use finqa::official::{Value, tokens, verdict};
use std::time::Instant;

/// The length of the published test part.
const ROWS: usize = 1147;
const ROUNDS: usize = 20;

const PAIRS: [(&str, &str); 5] = [
    ("subtract(120, 80)", "subtract(120, 80)"),
    (
        "subtract(120, 80), divide(#0, 80)",
        "divide(120, 80), divide(80, 80), subtract(#0, #1)",
    ),
    (
        "table_sum(net sales, none), divide(#0, 80)",
        "table_sum(net sales, none), divide(#0, 80)",
    ),
    (
        "add(120, 80), add(#0, 70), divide(#1, const_3)",
        "divide(70, const_3), add(80, 120), divide(#1, const_3), add(#2, #0)",
    ),
    (
        "subtract(120, 80), divide(#0, 80), subtract(70, 60), divide(#2, 60), greater(#1, #3)",
        "subtract(70, 60), divide(#0, 60), subtract(120, 80), divide(#2, 80), greater(#3, #1)",
    ),
];

fn main() {
    let table = [["", "2020", "2019"], ["net sales", "$ 120", "$ 80 ( 1 )"]];
    let table = table.map(|row| row.map(str::to_owned).to_vec());
    let pairs = PAIRS.map(|(gold, predicted)| (tokens(gold), tokens(predicted)));
    let rounds = (0..ROUNDS).map(|_| {
        let began = Instant::now();
        let rows = pairs.iter().cycle().take(ROWS);
        let equal =
            rows.filter(|(gold, predicted)| verdict(predicted, gold, &table, &Value::Number(0.5)).program_correct);
        assert_eq!(equal.count(), ROWS, "a pair that is not equal costs less");
        began.elapsed().as_secs_f64()
    });
    let best = rounds.fold(f64::INFINITY, f64::min);
    println!(
        "{ROWS} predictions in {:.1} ms: {:.0} a second",
        best * 1e3,
        ROWS as f64 / best
    );
}
