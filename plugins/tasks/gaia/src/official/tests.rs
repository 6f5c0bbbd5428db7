//! What the official scorer decides, trap by trap. Each verdict is what the same rules give in Python 3.11.

use super::{final_answer, float, is_right};

#[track_caller]
fn right(answer: &str, truth: &str) {
    assert!(is_right(answer, truth), "{answer:?} is right for {truth:?}");
}

#[track_caller]
fn wrong(answer: &str, truth: &str) {
    assert!(!is_right(answer, truth), "{answer:?} is wrong for {truth:?}");
}

#[test]
fn numbers_are_equal_or_wrong() {
    for answer in [
        "17", "17.0", "+17", " 17 ", "1.7e1", "17,", "$17", "17%", "1,7", "١٧", "17\u{a0}", "1_7",
    ] {
        right(answer, "17");
    }
    for answer in [
        "17 units",
        "about 17",
        "€17",
        "1 7",
        "(17)",
        "17;",
        "",
        "\u{2212}17",
        "17.000001",
        "0x11",
        "1__7",
        "17_",
        "_17",
    ] {
        wrong(answer, "17");
    }
    right("50%", "50");
    wrong("50%", "0.5");
    right("-0", "0");
    right("$3,868.80", "3868.8");
    right("9007199254740993", "9007199254740992"); // as doubles
    right("1e-400", "0");
    wrong("−3", "-3");
}

#[test]
fn a_truth_that_is_infinite_takes_anything_unreadable_and_nan_takes_nothing() {
    right("no idea", "inf");
    right("no idea", "1e400");
    right("", "Infinity");
    wrong("3", "inf");
    wrong("no idea", "-inf");
    right("-inf", "-INF");
    wrong("nan", "nan");
    wrong("x", "nan");
}

#[test]
fn lists_are_cut_at_every_comma_and_semicolon() {
    right("1,000", "1,000");
    wrong("1000", "1,000");
    right("alder cross,millgate,quarry end", "Alder Cross, Millgate, Quarry End");
    right("418; Teal", "418;teal");
    right("a;b", "A, b");
    wrong("b, a", "a, b");
    wrong("a, b,", "a, b");
    wrong("a and b", "a, b");
    wrong("[a, b]", "a, b");
    wrong("a., b", "a, b"); // punctuation is kept
    right("$5, 10%", "5, 10");
    wrong("five, 10", "5, 10");
    right("x, a", "inf, a");
    right(",", ",");
    right(" ;\t", ",");
    wrong("", ",");
    wrong("2, 3 0", "2.0, 30");
    right("2, 3.0", "2.0,30e-1 ");
}

#[test]
fn texts_lose_blanks_case_and_ascii_punctuation() {
    right("Sea Gull.", "seagull");
    right("rye  flour.", "Rye flour");
    right("don't", "dont");
    right("a\u{3000}b\u{85}c\u{1c}", "ABC");
    right("!?", "...");
    right("", "!");
    right("a\u{130}", "Ai\u{307}");
    right("ΟΔΟΣ", "οδος");
    wrong("a\u{200b}b", "ab");
    wrong("don’t", "dont");
    wrong("…", "");
    wrong("straße", "STRASSE");
    wrong("ｆull", "full");
    wrong("e\u{301}", "é");
    right("5 apples", "5apples");
    wrong("about 12.67 m", "12.67 m");
}

#[test]
fn floats_are_pythons() {
    let check = |text: &str, expected: Option<f64>| assert_eq!(float(text), expected, "{text:?}");
    check(" \u{3000}+1_000.5e1_0\n", Some(1000.5e10));
    check(".5", Some(0.5));
    check("5.", Some(5.0));
    check("-.5E-1", Some(-0.05));
    check("1e400", Some(f64::INFINITY));
    check("iNf", Some(f64::INFINITY));
    check("-infinity", Some(f64::NEG_INFINITY));
    check("٣٫٥", None);
    check("٣.٥", Some(3.5));
    check("𝟏𝟗", Some(19.0));
    for text in [
        "",
        " ",
        ".",
        "+",
        "e5",
        "1e",
        "1e+",
        "1.e",
        "._5",
        "1_.5",
        "1._5",
        "1_e5",
        "1e_5",
        "++1",
        "1.2.3",
        "inf_",
        "in f",
        "nanx",
        "²",
        "½",
        "\u{1c}17",
        "17\u{1f}",
        "1\0",
        "1\u{200b}",
    ] {
        check(text, None);
    }
    assert!(float(" NaN ").unwrap().is_nan());
    assert!(float("-nan").unwrap().is_nan());
}

#[test]
fn the_answer_stands_behind_its_mark_up_to_the_end_of_the_line() {
    let check = |reply: &str, expected: Option<&str>| assert_eq!(final_answer(reply), expected, "{reply:?}");
    check("Steps.\nFINAL ANSWER: 17 \nBye", Some("17"));
    check("FINAL ANSWER:17", Some("17"));
    check("FINAL ANSWER: 1\nNo.\nFINAL ANSWER: 2", Some("2"));
    check("Final answer: 17", None);
    check("FINAL ANSWER:\n17", None);
    check("17", None);
}
