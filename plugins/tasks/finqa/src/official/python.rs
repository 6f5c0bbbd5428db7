//! Numbers and blanks as Python reads them, since the official scorer is written in it.
//!
//! `float()` and `int()` accept more than most parsers (`1_000`, `.5`, ` inf `, digits of other scripts) and less than
//! people do (`$ 5`), and each difference can change a verdict.

/// `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python counts the four separators of ASCII as blanks; Unicode's white space is the rest.
fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\x1c'..='\x1f').contains(&letter)
}

/// `float(text)`.
pub(crate) fn float(text: &str) -> Option<f64> {
    let plain = plain(text)?;
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let word = unsigned.to_ascii_lowercase();
    if matches!(word.as_str(), "inf" | "infinity" | "nan") {
        return plain.to_ascii_lowercase().parse().ok();
    }
    // What is left must be digits: Rust reads the same forms then, and rounds as correctly.
    let number = unsigned
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    number.then(|| plain.parse().ok()).flatten()
}

/// `repr(number)` of a float: `94.0`, `1e-05`.
pub(crate) fn repr(number: f64) -> String {
    let shortest = format!("{number:?}");
    // Both have an exponent for the same numbers; Python writes it with its sign and two digits.
    match shortest.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
            format!("{digits}e{sign}{size:0>2}")
        }
        None => shortest,
    }
}

/// More digits than Python turns into an integer.
const MOST_DIGITS: usize = 4300;

/// `int(text)`; a number that is too large for a step counts as none.
pub(crate) fn integer(text: &str) -> Option<i64> {
    let plain = plain(text)?;
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let fits = !digits.is_empty() && digits.len() <= MOST_DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
    fits.then(|| plain.parse().ok()).flatten()
}

/// The text without blanks around it and underscores between digits, all digits in ASCII.
fn plain(text: &str) -> Option<String> {
    let mut plain = String::with_capacity(text.len());
    let mut underscore = false;
    for letter in strip(text).chars() {
        let letter = ascii_digit(letter).unwrap_or(letter);
        if !letter.is_ascii() {
            return None;
        }
        if letter == '_' {
            if underscore || !plain.ends_with(|last: char| last.is_ascii_digit()) {
                return None;
            }
            underscore = true;
            continue;
        }
        if underscore && !letter.is_ascii_digit() {
            return None;
        }
        underscore = false;
        plain.push(letter);
    }
    (!underscore).then_some(plain)
}

/// The zeros of the scripts that have decimal digits (Unicode 14, as Python 3.11 has it); nine more follow each.
const ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0,
    0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0,
    0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0,
    0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];

fn ascii_digit(letter: char) -> Option<char> {
    if letter.is_ascii() {
        return None;
    }
    let code = letter as u32;
    let zero = ZEROS[..ZEROS.partition_point(|zero| *zero <= code)].last()?;
    char::from_digit(code - zero, 10)
}

/// `round(number, 5)`: the correctly rounded decimal of the double, ties to even.
pub(crate) fn round_to_five(number: f64) -> f64 {
    match number.is_finite() {
        true => format!("{number:.5}").parse().unwrap_or(number),
        false => number,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<f64>) {
        assert_eq!(float(text), expected, "{text:?}");
    }

    #[test]
    fn floats_as_python_reads_them() {
        check(" 12 ", Some(12.0));
        check("\u{1f}5.\n", Some(5.0));
        check("+.5", Some(0.5));
        check("-1e3", Some(-1000.0));
        check("1_000.2_5", Some(1000.25));
        check("1e1_0", Some(1e10));
        check("1e400", Some(f64::INFINITY));
        check("-InFinity", Some(f64::NEG_INFINITY));
        check("\u{0663}.\u{ff15}", Some(3.5));
        assert!(float("+nan").unwrap().is_nan());
        for odd in [
            "", " ", ".", "-", "e5", "1e", "1 000", "_1", "1_", "1__0", "1_.5", "0x10", "$5", "--5", "infin", "5f",
            "\u{b2}",
        ] {
            check(odd, None);
        }
    }

    #[test]
    fn integers_as_python_reads_them() {
        assert_eq!(integer(" +07 "), Some(7));
        assert_eq!(integer("-1_0"), Some(-10));
        assert_eq!(integer("\u{0661}"), Some(1));
        assert_eq!(integer(&"0".repeat(4300)), Some(0));
        for odd in ["", "+", "1.0", "1e2", "x", "99999999999999999999", &"0".repeat(4301)] {
            assert_eq!(integer(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn ties_round_to_even_of_the_double_itself() {
        assert_eq!(round_to_five(0.125_005), 0.12501); // the double lies above the tie
        assert_eq!(round_to_five(2.675_015), 2.67502);
        assert_eq!(round_to_five(1.0 / 3.0), 0.33333);
        assert_eq!(round_to_five(-0.000_001), 0.0);
        assert_eq!(round_to_five(1e300), 1e300);
        assert!(round_to_five(f64::NAN).is_nan());
    }
}
