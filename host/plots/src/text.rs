//! Words and numbers inside pictures.

/// Text that can't become markup, nor turn the text after it around: control and bidirectional marks become spaces.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{61c}' => out.push(' '),
            char if char.is_control() => out.push(' '),
            char => out.push(char),
        }
    }
    out
}

/// A number with as many digits as a reader can use.
pub fn number(value: f64) -> String {
    let size = value.abs();
    let text = match () {
        () if !value.is_finite() => return "NaN".to_owned(),
        () if size >= 1e6 || (size > 0.0 && size < 1e-4) => return format!("{value:.1e}"),
        () if size >= 1000.0 => format!("{value:.0}"),
        () if size >= 100.0 => format!("{value:.1}"),
        () if size >= 10.0 => format!("{value:.2}"),
        () => format!("{value:.4}"),
    };
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

/// The beginning of a label that would run out of its column.
pub fn shortened(label: &str, most: usize) -> String {
    match label.chars().count() > most {
        true => label.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => label.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_words_stay_words() {
        let hostile = "<script>\"'&\u{202e}\u{2066}\u{7}\n";
        assert_eq!(escaped(hostile), "&lt;script&gt;&quot;&#39;&amp;    ");
    }

    #[test]
    fn numbers_are_short() {
        let check = |value: f64, words: &str| assert_eq!(number(value), words);
        check(0.5, "0.5");
        check(100.0, "100");
        check(12_345.6, "12346");
        check(0.123_45, "0.1235");
        check(f64::NAN, "NaN");
        check(-2.0, "-2");
    }
}
