//! The official rules, oddities included, one line each.

use finqa::official::{Value, equal, execute, operators, tokens, verdict};
use std::time::{Duration, Instant};

/// Some rows as reports have them.
fn table() -> Vec<Vec<String>> {
    let rows: [&[&str]; 9] = [
        &["item", "2020", "2019"],
        &["net sales", "$ 120", "$ 80 ( 1 )"],
        &["net loss", "-32 ( 32 )", "-8 ( 8 )"],
        &["share", "12 %", "30%"],
        &["twice", "1", "2"],
        &["twice", "5", "7"],
        &["notes", "", "7"],
        &["in brackets", "( 35 )", "7"],
        &["empty row"],
    ];
    let words = |row: &&[&str]| row.iter().map(|cell| (*cell).to_owned()).collect();
    rows.iter().map(words).collect()
}

fn number(number: f64) -> (bool, Value) {
    (false, Value::Number(number))
}

fn text(text: &str) -> (bool, Value) {
    (false, Value::Text(text.to_owned()))
}

#[track_caller]
fn check(program: &str, expected: (bool, Value)) {
    check_tokens(&tokens(program), expected);
}

#[track_caller]
fn check_tokens<S: AsRef<str> + std::fmt::Debug>(tokens: &[S], expected: (bool, Value)) {
    let run = execute(tokens, &table());
    assert_eq!((run.invalid, run.value), expected, "{tokens:?}");
}

/// The program can't be executed, whatever it had come to.
#[track_caller]
fn check_invalid(program: &str) {
    assert!(execute(&tokens(program), &table()).invalid, "{program:?}");
}

#[test]
fn arithmetic() {
    check("subtract(5829, 5735), divide(#0, 5735)", number(0.01639));
    check("add(1,000, 1)", number(1001.0));
    check("multiply(9%, const_100)", number(9.0));
    check("add(const_m1, const_2.5)", number(1.5));
    check("divide(1, 3)", number(0.33333));
    check("exp(0, 0)", number(1.0));
    check("exp(-8, 3)", number(-512.0));
    check("multiply(1e200, 1e200)", number(f64::INFINITY));
    check("exp(inf, 2)", number(f64::INFINITY));
    check("exp(0, -inf)", number(f64::INFINITY));
}

#[test]
fn what_cannot_be_computed_is_invalid() {
    check_invalid("divide(1, 0)");
    check_invalid("exp(-8, 0.5)");
    check_invalid("exp(0, -1)");
    check_invalid("exp(1e200, 2)");
    check_invalid("add(none, 1)");
    check_invalid("add(, 1)");
    check_invalid("add($ 5, 1)");
    check_invalid("add(const_pi, 1)");
    check_invalid("add(CONST_1, 1)");
    check_invalid("add(const_5%, 1)");
    check_invalid("add(1)");
    check_invalid("minus(1, 2)");
    check_invalid("divide(1, 0), add(1, 2)"); // though nobody needs the first step
}

#[test]
fn references_are_read_as_integers() {
    check("add(1, 2), add(# 0, 1)", number(4.0));
    check("add(1, 2), add(##00, 1)", number(4.0));
    check("add(1, 2), add(0#0, 1)", number(4.0));
    for odd in ["#1", "#-1", "#x", "#0.0", "#", "1#0"] {
        check_invalid(&format!("add(1, 2), add({odd}, 1)"));
    }
}

#[test]
fn comparisons_give_words() {
    check("greater(2, 1)", text("yes"));
    check("greater(1, 1)", text("no"));
    check("greater(nan, 1)", text("no"));
    check("greater(2, 1), greater(1, 2), greater(#0, #1)", text("yes"));
    check_invalid("greater(2, 1), greater(#0, 1)");
    check_invalid("greater(2, 1), add(#0, 1)");
    check_invalid("greater(2, 1), add(#0, #0)");
    check("greater(2, 1), add(#0, #0), greater(#1, #0)", text("yes")); // `yesyes` comes after `yes`
    check("exp(-8, 0.5), add(1, 2)", number(3.0)); // a complex number that nobody uses
    check_invalid("exp(-8, 0.5), add(#0, 2)");
}

#[test]
fn table_rows() {
    check("table_max(net sales, none)", number(120.0));
    check("table_min(net loss, none)", number(-32.0));
    check("table_sum(share, none)", number(0.42));
    check("table_average(net sales, none)", number(100.0));
    check("table_average(net sales, whatever)", number(100.0));
    check("table_sum(twice, none)", number(12.0)); // the last row of that name
    check("table_sum(item, none)", number(4039.0)); // the head is a row, too
    check_tokens(
        &["table_sum(", "", "none", ")", "EOF"],
        (true, Value::Text("n/a".to_owned())),
    ); // bars are trimmed away
    check("table_sum(empty row, none)", number(0.0));
    for odd in ["notes", "in brackets", "no such row", "Net sales"] {
        check_invalid(&format!("table_sum({odd}, none)"));
    }
    check_invalid("table_max(empty row, none)");
    check_invalid("table_average(empty row, none)");
}

#[test]
fn a_table_step_over_a_result_takes_the_row_before_it() {
    check("table_max(net sales, none), table_min(#0, none)", number(80.0));
    check("table_sum(twice, none), add(1, 1), table_max(#1, none)", number(7.0));
    check_invalid("add(1, 1), table_max(#0, none)");
    check_invalid("table_max(net sales, none), table_min(#1, none)");
}

#[test]
fn the_structure_of_the_tokens() {
    let nothing = text("n/a");
    check_tokens::<&str>(&[], nothing.clone());
    check_tokens(&["EOF"], nothing.clone());
    check_tokens(&["add(", "1", "2", ")"], nothing.clone()); // the last token is taken for the end
    check_tokens(&["add(", "1", "2", ")", "EOF"], number(3.0));
    check_tokens(&["add(", " 1 ", "2", ")", "anything"], number(3.0));
    check_tokens(&["add(", "1|2", "9", ")", "EOF"], number(3.0));
    check_tokens(&["add(", "1", "2", ")", "exp(", "EOF"], number(3.0));
    check_tokens(&["(add", "1", "2", ")", "EOF"], nothing.clone()); // no operator: passed over
    let bad = (true, nothing.1);
    check_tokens(&["add", "1", "2", ")", "EOF"], bad.clone());
    check_tokens(&["add((", "1", "2", ")", "EOF"], bad.clone());
    check_tokens(&["Add(", "1", "2", ")", "EOF"], bad.clone());
    check_tokens(&["add(", "1", ")", "EOF"], bad.clone());
    check_tokens(&["add(", "1", "2", ") ", "EOF"], bad);
}

#[test]
fn a_program_that_fails_keeps_what_it_had_come_to() {
    check("divide(1, 3), add(none, 1)", (true, Value::Number(0.33333)));
    check("divide(1, 3), divide(1, 0)", (true, Value::Number(1.0 / 3.0)));
}

#[test]
fn answers_are_compared_exactly() {
    let check = |program: &str, expected: Value, correct: bool| {
        let gold = tokens(program);
        let verdict = verdict(&gold, &gold, &table(), &expected);
        assert_eq!(
            (verdict.execution_correct, verdict.program_correct),
            (correct, true),
            "{program}"
        );
    };
    check("divide(14.136, 100)", Value::Number(0.14136), true);
    check("add(14.136, 0)", Value::Number(0.14136), false);
    check("subtract(0, 0.0000001)", Value::Number(0.0), true);
    check("add(nan, 1)", Value::Number(f64::NAN), false);
    check("greater(2, 1)", Value::Text("yes".to_owned()), true);
    check("greater(2, 1)", Value::Number(1.0), false);
    // Equal to gold, though it can't be executed: the official script stops here, and we count both.
    check("divide(1, 0), add(1, 2)", Value::Number(3.0), false);
}

#[track_caller]
fn check_equal(gold: &str, predicted: &str, expected: bool) {
    assert_eq!(
        equal(&tokens(gold), &tokens(predicted)),
        expected,
        "{gold:?} and {predicted:?}"
    );
}

#[test]
fn programs_are_equal_when_their_functions_are() {
    check_equal("add(a, b)", "add(b, a)", true);
    check_equal("subtract(a, b)", "subtract(b, a)", false);
    let change = "subtract(a, b), divide(#0, b)";
    check_equal(change, "divide(a, b), divide(b, b), subtract(#0, #1)", true);
    check_equal(change, "divide(a, b), subtract(#0, a)", false);
    check_equal(change, "subtract(b, a), divide(b, #0)", false);
    check_equal(
        change,
        "subtract(a, b), multiply(#0, a), multiply(b, a), divide(#1, #2)",
        true,
    );
    check_equal(
        "add(a, b), add(#0, c), divide(#1, d)",
        "divide(a, d), divide(b, d), divide(c, d), add(#0, #1), add(#3, #2)",
        true,
    );
    check_equal("divide(a, b)", "divide(b, a), divide(b, b), divide(#1, #0)", true);
    check_equal("subtract(a, a)", "subtract(a, a), multiply(#0, a)", true);
    check_equal("add(a, a)", "add(a, a), add(#0, #0), subtract(#1, #0)", true);
}

#[test]
fn only_the_texts_of_the_gold_program_are_symbols() {
    check_equal("add(100, b)", "add(const_100, b)", false);
    check_equal("add(5, b)", "add(5.0, b)", false);
    check_equal("add(9%, b)", "add(0.09, b)", false);
    check_equal("divide(a, const_1)", "add(a, const_1)", false);
    check_equal("add(a, b)", "add( a, b)", true);
    check_equal("add(a, b)", "add(c, d), add(a, b)", false); // though nobody uses them
    check_equal("add(a, b)", "subtract(b, b), divide(a, #0), add(a, b)", true);
    check_equal("add(a, b)", "add(a, b), add(#1, a)", false);
    check_equal("add(a, b)", "add(a, #-1), add(a, b)", true);
    check_equal("add(a, b)", "add(a, #-1)", false);
    check_equal("add(a, b)", "subtract(b, b), divide(a, #0)", false);
    check_equal("add(a, b)", "", false);
    check_equal("", "", false);
}

#[test]
fn table_steps_are_known_by_their_text() {
    let gold = "table_max(x, none), table_min(y, none), subtract(#0, #1)";
    check_equal(gold, gold, true);
    check_equal(gold, "table_min(y, none), table_max(x, none), subtract(#1, #0)", false);
    check_equal(gold, "table_max(x, no), table_min(y, none), subtract(#0, #1)", false);
    check_equal("table_max(x, none)", "table_max(x, none), table_max(x, none)", false); // the bar before the second
}

#[test]
fn comparisons_are_equal_as_far_as_they_are_simplified() {
    check_equal("greater(a, b)", "greater(a, b)", true);
    check_equal("greater(a, b)", "greater(b, a)", false);
    check_equal("greater(a, b)", "subtract(a, b), subtract(b, b), greater(#0, #1)", true);
    check_equal("greater(a, b)", "subtract(a, b), subtract(b, a), greater(#0, #1)", true);
    check_equal(
        "greater(a, b)",
        "multiply(a, a), multiply(b, a), greater(#0, #1)",
        false,
    );
    check_equal("greater(a, a)", "greater(a, a)", true);
    check_equal("greater(a, b)", "greater(a, b), add(#0, a)", false);
    check_equal("greater(a, b), add(#0, a)", "greater(a, b), add(#0, a)", false);
    check_equal("add(a, b)", "greater(a, b)", false);
}

#[test]
fn powers_are_opaque_but_for_their_exponents() {
    check_equal("exp(a, b)", "exp(a, b)", true);
    check_equal("exp(a, b)", "exp(b, a)", false);
    check_equal("add(b, c), exp(a, #0)", "exp(a, b), exp(a, c), multiply(#0, #1)", true);
    check_equal(
        "exp(a, b), multiply(#0, a)",
        "divide(a, a), add(b, #0), exp(a, #1)",
        true,
    );
    check_equal("multiply(a, a)", "divide(a, a), add(#0, #0), exp(a, #1)", true);
    check_equal(
        "divide(a, b), exp(#0, c)",
        "exp(a, c), exp(b, c), divide(#0, #1)",
        false,
    );
    check_equal(
        "multiply(a, a), add(#0, const_2)",
        "exp(a, const_2), add(#0, const_2)",
        false,
    );
}

#[test]
fn operators_are_told_in_order() {
    assert_eq!(
        operators(&tokens("subtract(1, 2), divide(#0, 2)")),
        ["subtract", "divide"]
    );
    assert!(operators(&tokens("nothing")).is_empty());
}

/// Random numbers that are the same everywhere (SplitMix64).
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }
}

#[test]
fn no_list_of_tokens_does_harm() {
    let words = [
        "add(",
        "subtract(",
        "multiply(",
        "divide(",
        "exp(",
        "greater(",
        "table_max(",
        "table_sum(",
        "(add",
        "((",
        ")",
        ")",
        ")",
        "|",
        "#0",
        "#1",
        "#2",
        "#-1",
        "1",
        "-2.5",
        "9%",
        "const_100",
        "net sales",
        "",
        "\u{0}",
        "é",
        "٣",
        "EOF",
        "1e308",
    ];
    let mut draws = Draws(1);
    for _ in 0..10_000 {
        let mut random = |most| -> Vec<&str> {
            (0..draws.below(most))
                .map(|_| words[draws.below(words.len())])
                .collect()
        };
        let (gold, predicted) = (random(24), random(40));
        execute(&predicted, &table());
        equal(&gold, &predicted);
    }
}

#[test]
fn no_program_takes_long() {
    let gold = tokens("add(a, b), multiply(#0, c), divide(#1, d), exp(#2, e)");
    let operators = ["add", "subtract", "multiply", "divide", "exp", "greater"];
    let mut draws = Draws(2);
    let mut slowest = Duration::ZERO;
    for round in 0..10 {
        let mut program = vec!["add(a, b)".to_owned(), "multiply(c, d)".to_owned()];
        for index in 2..40 {
            let operator = match round {
                0 => "multiply",
                1 => "add",
                2 => "exp",
                _ => operators[draws.below(5)],
            };
            let (left, right) = (index - 1, index - 1 - draws.below(2));
            program.push(format!("{operator}(#{left}, #{right})"));
        }
        let program = tokens(&program.join(", "));
        let start = Instant::now();
        assert!(!equal(&gold, &program));
        execute(&program, &table());
        slowest = slowest.max(start.elapsed());
        assert!(equal(&program, &program) || round > 1, "{program:?}"); // too large, yet the same step by step
    }
    // Far above what it takes: it fails when the work is not bounded at all.
    assert!(slowest < Duration::from_secs(30), "{slowest:?}");
}
