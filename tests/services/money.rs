//! Limits of spending, and answers that runs share.

use super::{Dialect, Questions, charges, right, service};
use serde_json::Value;

/// A dollar a thousand tokens read or written: 12 read and 8 written are two cents.
const PRICES: &str = "as_of = 2026-01-01\nprice = [{ model = \"m\", from = 2020-01-01, input = 1000, output = 1000, source = \"a test\" }]\n";

#[test]
fn spending_ends_at_its_limit_and_the_same_command_goes_on() {
    let service = service(Dialect::Openai, right);
    let questions = Questions::new(20);
    std::fs::write(questions.bench.path("prices.toml"), PRICES).unwrap();
    let more = "-M prices=prices.toml -T max_tokens=16 -M concurrency=4-4-4";
    let words = ["--max-cost-usd", "finished answers are kept"];
    questions.check(
        Dialect::Openai,
        &service,
        &format!("{more} --max-cost-usd 0.35"),
        5,
        &words,
    );
    let paid = f64::from(charges(&[&service]).values().sum::<u32>()) * 0.02;
    assert!(paid > 0.0 && paid <= 0.35, "{paid}");
    let words = ["20 answered for 0.4000 dollars"];
    questions.check(
        Dialect::Openai,
        &service,
        &format!("{more} --max-cost-usd 2"),
        0,
        &words,
    );
    let charged = charges(&[&service]);
    assert!(
        charged.len() == 20 && charged.values().all(|count| *count == 1),
        "{charged:?}"
    );
    let spent: f64 = questions
        .calls()
        .iter()
        .filter_map(|line| line["dollars"].as_f64())
        .sum();
    assert!((spent - 0.4).abs() < 1e-9, "{spent}");
}

#[test]
fn a_model_without_a_price_is_refused_under_a_limit() {
    let service = service(Dialect::Openai, right);
    let questions = Questions::new(3);
    questions.check(
        Dialect::Openai,
        &service,
        "--max-cost-usd 1",
        2,
        &["no price", "--allow-unpriced"],
    );
    assert_eq!(charges(&[&service]).len(), 0);
    questions.check(Dialect::Openai, &service, "--max-cost-usd 1 --allow-unpriced", 0, &[]);
}

#[test]
fn runs_share_answers_by_a_folder() {
    let service = service(Dialect::Gemini, right);
    let questions = Questions::new(5);
    let shared = "--call-cache shared";
    questions.check(Dialect::Gemini, &service, shared, 0, &[]);
    questions.check(Dialect::Gemini, &service, &format!("{shared} --out other"), 0, &[]);
    let charged = charges(&[&service]);
    assert!(
        charged.len() == 5 && charged.values().all(|count| *count == 1),
        "{charged:?}"
    );
    let line = |line: &Value| line["event"].as_str().map(str::to_owned);
    assert!(
        questions
            .calls()
            .iter()
            .filter_map(line)
            .filter(|event| event == "sent")
            .count()
            == 5
    );
}
