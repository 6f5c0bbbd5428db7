//! Numbers as people and models write them.

use regex::Regex;
use std::sync::LazyLock;

static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    let digits = r"(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+";
    Regex::new(&format!(
        r"[-+\x{{2212}}]?\s?[$€£]?\s?[-+\x{{2212}}]?(?:{digits})(?:[eE][-+]?\d+)?%?"
    ))
    .expect("a regex")
});

/// The number that a text is: `1,234.5`, `$12`, `-3`, `2e5`, `12%` (twelve), `3/4`.
///
/// Commas must separate groups of three, so `1,5` is not a number; nor are words, `inf` and `nan`.
pub fn number(text: &str) -> Option<f64> {
    let text = text.trim().trim_end_matches('.').trim();
    if let Some((above, below)) = text.split_once('/') {
        let (above, below) = (plain_number(above.trim())?, plain_number(below.trim())?);
        return Some(above / below).filter(|share| share.is_finite());
    }
    plain_number(text)
}

fn plain_number(text: &str) -> Option<f64> {
    let found = NUMBER.find(text)?;
    if found.len() != text.len() {
        return None;
    }
    let mut digits = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '\u{2212}' => digits.push('-'),
            '0'..='9' | '.' | 'e' | 'E' | '-' | '+' => digits.push(letter),
            _ => {}
        }
    }
    digits.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The number that a text is, or the only one that it contains: `The result is 42.` With two different numbers there
/// is none.
pub fn only_number(text: &str) -> Option<f64> {
    if let Some(whole) = number(text) {
        return Some(whole);
    }
    let mut only: Option<f64> = None;
    for found in NUMBER.find_iter(text) {
        // A digit in a word (`CO2`, `v1.2.3`) or in something longer (`12:30`, `1,5`) is not a number of its own.
        let before = text[..found.start()].chars().next_back();
        let mut after = text[found.end()..].chars();
        let next = after.next();
        let joined = |letter: char| letter.is_alphanumeric() || letter == '_';
        let goes_on = next.is_some_and(|letter| matches!(letter, ',' | '.' | ':' | '/' | '-'))
            && after.next().is_some_and(|letter| letter.is_ascii_digit());
        let came_from = before.is_some_and(|letter| joined(letter) || matches!(letter, '.' | ',' | ':' | '/'));
        let spaced = found.as_str().starts_with(char::is_whitespace);
        if (came_from && !spaced) || next.is_some_and(joined) || goes_on {
            if next.is_some_and(char::is_alphabetic) || before.is_some_and(char::is_alphabetic) {
                continue;
            }
            return None;
        }
        let value = plain_number(found.as_str().trim())?;
        if only.is_some_and(|only| only != value) {
            return None;
        }
        only = Some(value);
    }
    only
}

/// Whether a number is within `tolerance` of the target: absolute, or a share of the target if `relative`.
pub fn is_close(number: f64, target: f64, tolerance: f64, relative: bool) -> bool {
    let room = if relative { tolerance * target.abs() } else { tolerance };
    (number - target).abs() <= room
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<f64>) {
        assert_eq!(number(text), expected, "{text:?}");
    }

    #[track_caller]
    fn check_only(text: &str, expected: Option<f64>) {
        assert_eq!(only_number(text), expected, "{text:?}");
    }

    #[test]
    fn numbers_as_they_are_written() {
        check("42", Some(42.0));
        check(" -3.50 ", Some(-3.5));
        check("1,234,567.8", Some(1_234_567.8));
        check("$1,234", Some(1234.0));
        check("-$5", Some(-5.0));
        check("\u{2212}5", Some(-5.0));
        check("12%", Some(12.0));
        check("2e-3", Some(0.002));
        check(".5", Some(0.5));
        check("42.", Some(42.0));
        check("3/4", Some(0.75));
    }

    #[test]
    fn what_is_no_number() {
        check("", None);
        check("forty", None);
        check("1,5", None);
        check("1 2", None);
        check("nan", None);
        check("inf", None);
        check("1e999", None);
        check("1/0", None);
        check("1/2/3", None);
        check("$", None);
        check("--5", None);
    }

    #[test]
    fn the_only_number_of_a_sentence() {
        check_only("The result is 42.", Some(42.0));
        check_only("It grew by 1,200 people, so 1200.", Some(1200.0));
        check_only("about $3.5 in all", Some(3.5));
        check_only("CO2 fell by 7%", Some(7.0));
        check_only("between 3 and 4", None);
        check_only("at 12:30", None);
        check_only("1,5 litres", None);
        check_only("none at all", None);
    }

    #[test]
    fn tolerances() {
        assert!(is_close(1.0, 1.0, 0.0, false));
        assert!(!is_close(1.0001, 1.0, 0.0, false));
        assert!(is_close(101.0, 100.0, 0.01, true));
        assert!(!is_close(102.0, 100.0, 0.01, true));
        assert!(!is_close(f64::NAN, 1.0, 9.0, false));
    }
}
