//! Text functions of Python, in which the official scorer is written.

/// Whether a character is white space in Python, in regular expressions and in `float`.
pub(super) fn is_space(letter: char) -> bool {
    letter.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// Python's `float`: accepts white space around the number, digits of any script, `1_000`, `.5`, `5.`, `1e400`
/// (infinity), `inf` and `nan`, but not `0x1F`, `1,000` or `5%`.
///
/// ```
/// use gaia::official::float;
///
/// assert_eq!(float(" +1_000.5e1\n"), Some(10005.0));
/// assert_eq!(float("١٢"), Some(12.0));
/// assert_eq!(float("1__0"), None);
/// ```
pub fn float(text: &str) -> Option<f64> {
    let plain = plain(text)?;
    let plain = plain.trim_matches([' ', '\t', '\n', '\u{b}', '\u{c}', '\r']);
    let unsigned = plain.strip_prefix(['+', '-']).unwrap_or(plain);
    let named = ["inf", "infinity", "nan"];
    if named.iter().any(|name| unsigned.eq_ignore_ascii_case(name)) {
        return plain.parse().ok();
    }
    // Rust parses numbers like Python, except for names and underscores, which must be between digits.
    let mut before = None;
    for letter in unsigned.bytes() {
        let digit = letter.is_ascii_digit();
        let known = digit || matches!(letter, b'_' | b'.' | b'e' | b'E' | b'+' | b'-');
        let after_digit = before.is_some_and(|before: u8| before.is_ascii_digit());
        if !known || before == Some(b'_') && !digit || letter == b'_' && !after_digit {
            return None;
        }
        before = Some(letter);
    }
    if before == Some(b'_') {
        return None;
    }
    plain.replace('_', "").parse().ok()
}

/// A text with ASCII digits and spaces instead of those of other scripts; none if it has other letters that numbers do
/// not have.
///
/// An ASCII text is unchanged, so the separators U+001C to U+001F are not spaces for `float`, although they are for
/// `\s`.
fn plain(text: &str) -> Option<String> {
    let one = |letter: char| match letter {
        '\0'..='\u{7e}' => Some(letter),
        _ if is_space(letter) => Some(' '),
        _ => digit(letter).map(|digit| char::from(b'0' + digit)),
    };
    text.chars().map(one).collect()
}

/// The value of a decimal digit of any script.
fn digit(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    let block = ZEROS.partition_point(|zero| *zero <= code).checked_sub(1)?;
    u8::try_from(code - ZEROS[block]).ok().filter(|value| *value < 10)
}

/// The zeros of Unicode 14's decimal digits, as Python 3.11 knows them; the other nine follow each.
///
/// `[hex(c) for c in range(0x110000) if unicodedata.decimal(chr(c), None) == 0]`
#[rustfmt::skip]
const ZEROS: [u32; 66] = [
    0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0, 0xf20,
    0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50, 0xa620, 0xa8d0, 0xa900,
    0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0,
    0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8,
    0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140, 0x1e2f0, 0x1e950, 0x1fbf0,
];
