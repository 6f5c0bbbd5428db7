use super::*;
use crate::official::written;

#[track_caller]
fn check(text: &str, expected: Option<&str>) {
    let found = program(text).map(|tokens| written(&tokens));
    assert_eq!(found.as_deref(), expected, "{text:?}");
}

#[test]
fn a_plain_program() {
    check(
        "subtract(5829, 5735), divide(#0, 5735)",
        Some("subtract(5829, 5735), divide(#0, 5735)"),
    );
    check("add(1,2)", Some("add(1, 2)"));
    check("  add( 1 , 2 ) EOF\n", Some("add(1, 2)"));
    check("table_max(net sales, none)", Some("table_max(net sales, none)"));
}

#[test]
fn talk_and_markup_around_it() {
    check("Program: add(1, 2)", Some("add(1, 2)"));
    check("```\nadd(1, 2)\n```", Some("add(1, 2)"));
    check("The change is `Subtract(7, 5)` dollars.", Some("subtract(7, 5)"));
    check(
        "Step 1: subtract(7, 5)\nStep 2: divide(#0, 5)",
        Some("subtract(7, 5), divide(#0, 5)"),
    );
    check(
        "#0 = subtract(7, 5); #1 = divide(#0, 5)",
        Some("subtract(7, 5), divide(#0, 5)"),
    );
    check("<think>add(1, 2)</think>none", None);
}

#[test]
fn the_last_program_counts() {
    check("First add(1, 2), or rather subtract(4, 3).", Some("subtract(4, 3)"));
    check(
        "We start with add(1, 2), and with that we get divide(#0, 3)",
        Some("add(1, 2), divide(#0, 3)"),
    );
    check("divide(#0, 3)", Some("divide(#0, 3)"));
}

#[test]
fn nested_calls_become_steps() {
    check("divide(subtract(7, 5), 5)", Some("subtract(7, 5), divide(#0, 5)"));
    check(
        "divide(add(1, 2), add(3, 4)), multiply(#0, const_100)",
        Some("add(1, 2), add(3, 4), divide(#0, #1), multiply(#2, const_100)"),
    );
    check(
        "add(table_max(net sales, none), 1)",
        Some("table_max(net sales, none), add(#0, 1)"),
    );
}

#[test]
fn numbers_as_models_write_them() {
    check("subtract($5,829, $ 5,735.5)", Some("subtract(5829, 5735.5)"));
    check("add(-$5, 14 %)", Some("add(-5, 14%)"));
    check("add(\"7\", '8')", Some("add(7, 8)"));
    check("add(const_100, net sales)", Some("add(const_100, net sales)"));
    check("add(1,5, 2)", Some("add(1,5, 2)"));
}

#[test]
fn rows_as_models_name_them() {
    check("table_sum(net sales)", Some("table_sum(net sales, none)"));
    check("table_sum(\"net sales\", None)", Some("table_sum(net sales, none)"));
    check(
        "table_sum(land, buildings and more, none)",
        Some("table_sum(land, buildings and more, none)"),
    );
    check("table_sum(income (loss), none)", Some("table_sum(income (loss), none)"));
}

#[test]
fn lists_of_tokens() {
    let tokens = ["add(", "1", "2", ")", "EOF"].map(str::to_owned).to_vec();
    assert_eq!(program(r#"["add(", "1", "2", ")", "EOF"]"#), Some(tokens.clone()));
    assert_eq!(program("```json\n[\"add(\", \"1\", \"2\", \")\"]\n```"), Some(tokens));
    check("[1] add(3, 4) [2]", Some("add(3, 4)"));
    check(r#"["nothing", "of", "it"]"#, None);
}

#[test]
fn what_holds_no_program() {
    check("", None);
    check("The answer is 14.1%.", None);
    check("add", None);
    check("add(", None);
    check("add(1)", None);
    check("add(1, 2, 3)", None);
    check("readd(1, 2)", None);
    check("table_max()", None);
    check("((((", None);
    check("))))", None);
}

#[track_caller]
fn check_value(text: &str, expected: Option<f64>) {
    let found = value(text).map(|value| match value {
        Value::Number(number) => Value::Number(crate::official::round_to_five(number)),
        other => other,
    });
    assert_eq!(found, expected.map(Value::Number), "{text:?}");
}

#[test]
fn the_value_of_a_reply() {
    check_value("0.14136", Some(0.14136));
    check_value("14.136%", Some(0.14136));
    check_value("14.1 percent", Some(0.141));
    check_value("$ 1,234.5", Some(1234.5));
    check_value("We divide 94 by 5735.\nAnswer: 0.01639", Some(0.01639));
    check_value("The answer is **-3.5**.", Some(-3.5));
    check_value("94 / 5735 = 0.01639", Some(0.01639));
    check_value("so it is\n\\boxed{12}", Some(12.0));
    check_value("$12 million", Some(12.0));
    check_value("between 3 and 4", None);
    check_value("", None);
}

#[test]
fn yes_or_no() {
    for (text, expected) in [
        ("Yes.", "yes"),
        ("no", "no"),
        ("Answer: yes, it is", "yes"),
        ("**No**, 5 is less", "no"),
    ] {
        assert_eq!(value(text), Some(Value::Text(expected.to_owned())), "{text:?}");
    }
    assert_eq!(value("yes and no"), None);
    check_value("there is no doubt: 7", Some(7.0));
}

#[test]
fn no_text_does_harm() {
    let pieces = [
        "add(",
        "table_max(",
        ")",
        ",",
        ", ",
        "#0",
        "#99999999999999999999",
        "(",
        "[",
        "]",
        "\"",
        "`",
        "\\boxed{",
        "}",
        "answer:",
        "=",
        "%",
        "$",
        "-",
        "1",
        "é",
        "\u{2212}",
        "İ",
        "\n",
        " ",
        "</think>",
        "none",
        "yes",
        "step ",
        "1,000",
    ];
    let mut state = 7_u64;
    let mut below = |bound: usize| {
        state = state
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (state >> 33) as usize % bound
    };
    for _ in 0..10_000 {
        let text: String = (0..below(40)).map(|_| pieces[below(pieces.len())]).collect();
        program(&text);
        value(&text);
    }
    for piece in pieces {
        let long = piece.repeat(20_000);
        program(&long);
        value(&long);
    }
    assert_eq!(
        program(&"add(1, 2)\n".repeat(2_000)).map(|tokens| tokens.len()),
        Some(4 * MOST_CALLS + 1)
    );
    assert_eq!(
        program(&format!("{}1, 2{}", "add(".repeat(500), ", 1)".repeat(500))),
        None
    );
}
