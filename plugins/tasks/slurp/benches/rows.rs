//! How many predictions are scored in a second, and how many replies are read.
//!
//! On the published files where `SLURP_OFFICIAL` names their folder (see `tests/official.rs`), else on the demo, many
//! times over. Prints the best of several rounds, since other load can only make a round slower.

#![allow(clippy::print_stdout)] // prints what it measured

use data::{Place, Row, Rows};
use serde_json::json;
use slurp::official::{Gold, Key, prediction_line, score};
use slurp::{answer, utterance};
use std::path::{Path, PathBuf};
use std::time::Instant;

const ROUNDS: usize = 20;

fn main() {
    let (gold, predictions) = match std::env::var_os("SLURP_OFFICIAL").map(PathBuf::from) {
        Some(folder) => {
            let all = |name: &str| -> Vec<Row> {
                let rows = Rows::open(folder.join(name)).expect("a published file");
                rows.iter().map(|row| row.expect("a row")).collect()
            };
            (all("test.jsonl"), all("google_hermit_predictions.jsonl"))
        }
        None => demo(),
    };
    measure(gold, &predictions);
}

/// The demo's utterances a thousand times, each under a name of its own, and a prediction for each.
fn demo() -> (Vec<Row>, Vec<Row>) {
    let test = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/test.jsonl");
    let (mut gold, mut predictions) = (Vec::new(), Vec::new());
    for row in Rows::open(&test).expect("the demo").iter() {
        let row = row.expect("a row");
        let labels = utterance::labels(&row).expect("labels");
        for index in 0..1000 {
            let file = format!("{}-{index}", row.text("recordings.0.file").expect("a recording"));
            let line = prediction_line(Key::File, &file, &labels);
            let mut own = row.clone();
            own.value["recordings"] = json!([{ "file": file }]);
            gold.push(own);
            predictions.push(Row::new(line, Place::Sample(file)));
        }
    }
    (gold, predictions)
}

fn measure(gold: Vec<Row>, predictions: &[Row]) {
    let gold = Gold::read(gold.into_iter().map(Ok), Key::File).expect("labels");
    let scored = best(predictions.len(), || {
        let rows = predictions.to_vec();
        let began = Instant::now();
        let scored = score(&gold, rows.into_iter().map(Ok), Key::File).expect("figures");
        let metrics = scored.metrics().expect("figures");
        assert!(metrics.is_object());
        (began, scored.verdicts.len() as u64)
    });
    println!("scored: {scored:.0} predictions a second");
    let replies: Vec<String> = predictions
        .iter()
        .map(|row| format!("```json\n{}\n```", row.value))
        .collect();
    let read = best(replies.len(), || {
        let began = Instant::now();
        let found = replies
            .iter()
            .filter(|reply| answer::read(reply, false).is_some())
            .count();
        (began, found as u64)
    });
    println!("read: {read:.0} replies a second");
}

/// The rate of the quickest round.
fn best(rows: usize, round: impl Fn() -> (Instant, u64)) -> f64 {
    let rates = (0..ROUNDS).map(|_| {
        let (began, found) = round();
        let seconds = began.elapsed().as_secs_f64();
        assert!(found > 0, "nothing was found");
        rows as f64 / seconds
    });
    rates.fold(0.0, f64::max)
}
