//! Normalises text for comparison.

/// Removes differences in case, kinds of quote and dash, runs of blanks, and punctuation or markup at both ends.
///
/// Nothing inside is removed, not even articles: `a` may be an option's letter. A text of only punctuation is kept, so
/// that `?` and `!` differ.
pub fn normalised(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for letter in text.chars().flat_map(char::to_lowercase) {
        match letter {
            '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' => plain.push('\''),
            '\u{201c}' | '\u{201d}' | '\u{201f}' | '\u{2033}' => plain.push('"'),
            '\u{2010}'..='\u{2015}' | '\u{2212}' => plain.push('-'),
            '\u{200b}' | '\u{feff}' | '\u{ad}' => {}
            other => plain.push(other),
        }
    }
    let spaced = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    // A sign or currency belongs to the number after it.
    let starts = |letter: char| letter.is_alphanumeric() || matches!(letter, '-' | '+' | '$' | '€' | '£' | '°');
    let ends = |letter: char| letter.is_alphanumeric() || matches!(letter, '%' | '°' | '+');
    let bare = spaced.trim_start_matches(|letter| !starts(letter));
    let bare = bare.trim_end_matches(|letter| !ends(letter));
    let bare = bare.strip_prefix("- ").unwrap_or(bare);
    match bare.chars().any(char::is_alphanumeric) {
        true => bare.to_owned(),
        false => spaced,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(normalised(text), expected, "{text:?}");
    }

    #[test]
    fn what_people_write_differently_is_gone() {
        check("  The  Moon.\n", "the moon");
        check("**Sunlight**", "sunlight");
        check("\u{201c}It\u{2019}s\u{201d}", "it's");
        check("(well\u{2011}known)", "well-known");
        check("- a list item", "a list item");
        check("ÉCOLE", "école");
    }

    #[test]
    fn what_carries_meaning_stays() {
        check("A", "a");
        check("U.S. dollar", "u.s. dollar");
        check("-3.5", "-3.5");
        check("$5", "$5");
        check("12%", "12%");
        check("C++", "c++");
        check("?", "?");
        check("日本", "日本");
        check("", "");
    }
}
