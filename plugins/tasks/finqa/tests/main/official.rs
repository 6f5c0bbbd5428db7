//! The scorer against verdicts of the official one, where a machine has such files.
//!
//! `FINQA_PREDICTIONS` names a prediction file (`id`, `predicted`), `FINQA_VERDICTS` what the official scorer says of
//! it (`rows` of `id`, `invalid_flag`, `exe_res`, `exe_correct`, `prog_correct`), `FINQA_GOLD` the data, several files
//! parted by `:`.
#![expect(
    clippy::print_stderr,
    reason = "a test that finds no files says so, and one that fails shows the rows"
)]

use finqa::official::{Value, Verdict, tokens, verdict};
use plugin_api::client::TaskClient;
use plugin_api::{Kind, NoCallbacks, Reply, make};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

fn rows(path: &str, list: Option<&str>) -> Vec<Json> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|why| panic!("{path}: {why}"));
    let rows: Vec<Json> = match path.ends_with(".jsonl") {
        true => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
        false => {
            let value: Json = serde_json::from_str(&text).unwrap();
            let rows = list.map_or(&value, |list| &value[list]);
            rows.as_array().unwrap().clone()
        }
    };
    rows
}

fn words(value: &Json) -> Vec<String> {
    let words = value.as_array().unwrap().iter();
    words.map(|word| word.as_str().unwrap().to_owned()).collect()
}

fn value(value: &Json) -> Value {
    match value {
        Json::String(text) => match text.as_str() {
            "inf" | "-inf" | "nan" => Value::Number(text.parse().unwrap()),
            "complex" => Value::Complex,
            text => Value::Text(text.to_owned()),
        },
        number => Value::Number(number.as_f64().unwrap()),
    }
}

/// Equal, or both not a number.
fn same(left: &Verdict, right: &Verdict) -> bool {
    let nan = |value: &Value| matches!(value, Value::Number(number) if number.is_nan());
    let flags = |verdict: &Verdict| (verdict.invalid, verdict.execution_correct, verdict.program_correct);
    flags(left) == flags(right) && (left.value == right.value || nan(&left.value) && nan(&right.value))
}

#[test]
fn every_row_has_the_official_verdict() {
    let named = |name| std::env::var(name).ok();
    let (Some(predictions), Some(verdicts), Some(gold)) =
        (named("FINQA_PREDICTIONS"), named("FINQA_VERDICTS"), named("FINQA_GOLD"))
    else {
        eprintln!("skipped: FINQA_PREDICTIONS, FINQA_VERDICTS and FINQA_GOLD name no files");
        return;
    };
    let mut examples = HashMap::new();
    for row in gold.split(':').flat_map(|path| rows(path, None)) {
        let table: Vec<_> = row["table"].as_array().unwrap().iter().map(words).collect();
        let program = tokens(row["qa"]["program"].as_str().unwrap());
        examples.insert(
            row["id"].as_str().unwrap().to_owned(),
            (table, program, value(&row["qa"]["exe_ans"])),
        );
    }
    let predictions = rows(&predictions, None);
    let predicted: Vec<_> = predictions.iter().map(|row| words(&row["predicted"])).collect();
    let (mut slowest, start) = ((0.0, String::new()), Instant::now());
    let mut found = Vec::new();
    for (row, predicted) in predictions.iter().zip(&predicted) {
        let id = row["id"].as_str().unwrap();
        let (table, program, expected) = &examples[id];
        let one = Instant::now();
        found.push(verdict(predicted, program, table, expected));
        let took = one.elapsed().as_secs_f64();
        if took > slowest.0 {
            slowest = (took, id.to_owned());
        }
    }
    let took = start.elapsed();
    let mut different = 0;
    let official = rows(&verdicts, Some("rows"));
    for ((official, found), predicted) in official.iter().zip(&found).zip(&predicted) {
        let expected = Verdict {
            invalid: official["invalid_flag"] == 1,
            execution_correct: official["exe_correct"] == true,
            program_correct: official["prog_correct"] == true,
            value: value(&official["exe_res"]),
        };
        if !same(found, &expected) {
            different += 1;
            let id = &official["id"];
            let gold = &examples[id.as_str().unwrap()].1;
            eprintln!("{id}: {predicted:?}\n  gold {gold:?}\n  got {found:?}\n  expected {expected:?}");
        }
    }
    eprintln!(
        "{} rows in {took:?}, {different} different, the slowest took {slowest:?} seconds",
        found.len()
    );
    assert_eq!((different, found.len()), (0, official.len()));
}

#[test]
fn every_published_program_earns_every_point() {
    let Ok(gold) = std::env::var("FINQA_GOLD") else {
        eprintln!("skipped: FINQA_GOLD names no files");
        return;
    };
    let mut count = 0;
    for data in gold.split(':') {
        let settings = serde_json::from_value(json!({ "data": data })).unwrap();
        let task = TaskClient(Arc::from(make(Kind::Task, "finqa", &settings).unwrap()));
        for index in 0..task.count().unwrap() {
            let sample = task.sample(index).unwrap();
            let reply = Reply::text(sample.target.as_str().unwrap());
            let score = task.score(&sample, &reply, &NoCallbacks).unwrap();
            let right = score.values.values().all(|value| *value == 1.0);
            assert!(right, "{data}: {}: {}: {score:?}", sample.id, sample.target);
            count += 1;
        }
    }
    eprintln!("{count} rows");
    assert!(count > 0);
}
