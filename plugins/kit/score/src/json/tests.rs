use super::*;
use serde_json::json;

fn objects(text: &str) -> Vec<(Value, bool)> {
    json_objects(text)
        .map(|found| (Value::Object(found.object), found.whole))
        .collect()
}

#[track_caller]
fn check(text: &str, expected: Value) {
    assert_eq!(objects(text), [(expected, true)], "{text}");
}

#[track_caller]
fn check_cut(text: &str, expected: Value) {
    assert_eq!(objects(text), [(expected, false)], "{text}");
}

#[track_caller]
fn check_none(text: &str) {
    assert_eq!(objects(text), [], "{text}");
}

#[test]
fn json_as_it_should_be() {
    check("{}", json!({}));
    check(
        r#" {"a": [1, -2.5e3, true, null, {"b": "c"}]} "#,
        json!({"a": [1, -2500.0, true, null, {"b": "c"}]}),
    );
    check(r#"{"a": "\" \\ \/ \n A 😀"}"#, json!({"a": "\" \\ / \n A 😀"}));
    check(
        r#"{"big": 18446744073709551615, "a": 1, "a": 2}"#,
        json!({"big": u64::MAX, "a": 2}),
    );
}

#[test]
fn words_and_fences_around_it() {
    check("The answer is {\"a\": 1}. I hope that helps!", json!({"a": 1}));
    check("```json\n{\"a\": 1}\n```", json!({"a": 1}));
    check("<think>{not this}</think>{\"a\": 1}", json!({"a": 1}));
    check("{I think {\"a\": 1}}", json!({"a": 1}));
    check("[{\"a\": 1}]", json!({"a": 1}));
    let two = objects("{\"a\": 1} or rather {\"a\": 2}");
    assert_eq!(two, [(json!({"a": 1}), true), (json!({"a": 2}), true)]);
}

#[test]
fn slips_of_those_who_write_it_by_hand() {
    check("{\"a\": [1, 2,], \"b\": 3,}", json!({"a": [1, 2], "b": 3}));
    check("{'a': 'b', 'c': ['d']}", json!({"a": "b", "c": ["d"]}));
    check(
        "{'a': 'john 's party', 'b': 'o'clock'}",
        json!({"a": "john 's party", "b": "o'clock"}),
    );
    check("{'a': 'it\\'s', \"b\": \"it's\"}", json!({"a": "it's", "b": "it's"}));
    check("{“a”: “b”, ‘c’: ‘d’}", json!({"a": "b", "c": "d"}));
    check("{a: 1, b_2: \"c\"}", json!({"a": 1, "b_2": "c"}));
    check(
        "{\"a\": True, \"b\": False, \"c\": None}",
        json!({"a": true, "b": false, "c": null}),
    );
    check("{\"a\": 1, // one\n /* and */ \"b\": +2.}", json!({"a": 1, "b": 2.0}));
    check("{\"a\": \"two\nlines\"}", json!({"a": "two\nlines"}));
    check("{\"a\": \"\\ud800 \\u12 \\x\"}", json!({"a": "\u{fffd} \u{fffd}12 x"}));
}

#[test]
fn an_end_that_never_came() {
    check_cut("{", json!({}));
    check_cut("{\"a\": 1, \"b\": [2, {\"c\": 3", json!({"a": 1, "b": [2, {}]}));
    check_cut("{\"a\": 1, \"b\": [2, {\"c\": 3}", json!({"a": 1, "b": [2, {"c": 3}]}));
    check_cut("{\"a\": \"tues", json!({"a": "tues"}));
    check_cut("{\"a\": \"tues\\", json!({"a": "tues"}));
    check_cut("{\"a\": \"tues\\u00", json!({"a": "tues\u{fffd}00"}));
    check_cut("{\"a\": 1, \"b", json!({"a": 1}));
    check_cut("{\"a\": 1, \"b\"", json!({"a": 1}));
    check_cut("{\"a\": 1, \"b\":", json!({"a": 1}));
    check_cut("{\"a\": 1, \"b\": tru", json!({"a": 1}));
    check_cut("```json\n{\"a\": [1,\n```\nThat is all.", json!({"a": [1]}));
}

#[test]
fn an_open_quote_hides_no_later_object() {
    let found = objects("{'a': 'oh no} I meant {\"a\": 1}, which is right");
    assert_eq!(found.last(), Some(&(json!({"a": 1}), true)));
}

#[test]
fn what_is_not_json_is_not_guessed_at() {
    check_none("");
    check_none("no braces at all");
    check_none("{a dog barks}");
    check_none("{scenario: calendar}");
    check_none("{\"a\" 1}");
    check_none("{\"a\": 1 \"b\": 2}");
    check_none("{\"a\": 1e999}");
    check_none("{\"a\": .}");
    check_none("{{x}}");
    check_none("\\boxed{C}");
}

#[test]
fn only_the_standard_is_strict() {
    assert_eq!(strict_json(" {\"a\": 1}\n"), Some(json!({"a": 1})));
    for slip in ["", "{\"a\": 1,}", "{'a': 1}", "```\n{}\n```", "{} {}", "{\"a\": NaN}"] {
        assert_eq!(strict_json(slip), None, "{slip}");
    }
}

/// Random numbers, the same in every run of the test.
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn text(&mut self) -> String {
        const LETTERS: [&str; 12] = ["a", "é", "'", "\"", "\\", "\n", "{", "}", ",", ":", "😀", "\u{0}"];
        (0..self.below(6)).map(|_| LETTERS[self.below(12)]).collect()
    }

    fn value(&mut self, depth: usize) -> Value {
        match self.below(if depth < 4 { 7 } else { 5 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.below(1000) as i64 - 500),
            3 => json!(self.below(1000) as f64 / 8.0),
            4 => json!(self.text()),
            5 => (0..self.below(4)).map(|_| self.value(depth + 1)).collect(),
            _ => Value::Object(self.object(depth + 1)),
        }
    }

    fn object(&mut self, depth: usize) -> Map<String, Value> {
        let members = 0..self.below(4);
        members.map(|_| (self.text(), self.value(depth))).collect()
    }
}

#[test]
fn every_object_that_is_json_is_read_as_the_strict_reader_reads_it() {
    let mut draws = Draws(1);
    for _ in 0..2_000 {
        let object = Value::Object(draws.object(0));
        check(&object.to_string(), object.clone());
        check(&format!("So: {object:#} it is."), object);
    }
}

#[test]
fn an_object_cut_anywhere_is_the_beginning_of_what_it_was() {
    let mut draws = Draws(2);
    for _ in 0..300 {
        let object = draws.object(0);
        let text = Value::Object(object.clone()).to_string();
        for end in (1..text.len()).filter(|end| text.is_char_boundary(*end)) {
            let found = json_objects(&text[..end]).next().expect("what there is of it");
            assert!(!found.whole, "{}", &text[..end]);
            assert!(found.object.len() <= object.len(), "{}", &text[..end]);
        }
    }
}

/// Parses a text to its end, and returns how many bytes were looked at.
fn work_on(text: &str) -> usize {
    let mut found = json_objects(text);
    for object in found.by_ref() {
        assert!(text.get(object.at.clone()).is_some(), "{:?} of {text:?}", object.at);
    }
    found.work
}

#[test]
fn random_strings_are_read_to_an_end() {
    const PIECES: [&str; 30] = [
        "{", "}", "[", "]", ":", ",", "\"", "'", "\\", "\\u", "d83d", "```", "//", "/*", "*/", "\n", " ", "a", "True",
        "tru", "null", "-", "1", "1e9", ".", "é", "😀", "“", "’", "{\"a\":",
    ];
    let mut draws = Draws(3);
    for _ in 0..50_000 {
        let text: String = (0..draws.below(40)).map(|_| PIECES[draws.below(30)]).collect();
        work_on(&text);
    }
}

#[test]
fn hostile_strings_cost_no_more_than_their_length_allows() {
    for piece in [
        "{",
        "[",
        "{\"a\":",
        "{\"a\":[",
        "{'a':'",
        "{\"a\":'",
        "{\"",
        "{'",
        "{}",
        "{/*",
        "{//",
        "'",
        "{\"a\":\"\\",
        "' ",
        "{\"a\":{},",
        "{\"a\":[{},{},",
        "{“",
        "{'a':'\u{a0}",
    ] {
        let text = piece.repeat(100_000 / piece.len());
        // The last attempt may exceed the limit by one pass over the text and its look-aheads.
        let most = text.len() * (WORK_PER_BYTE + 3) + 4096;
        assert!(work_on(&text) <= most, "{piece}: {} of {}", work_on(&text), text.len());
    }
}
