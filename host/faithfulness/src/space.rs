//! What Python calls whitespace, which four control characters tell from what Rust does.

/// `\s` of Python's `re`, and what `str.strip` takes off.
pub(crate) fn is_space(char: char) -> bool {
    char.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&char)
}

/// A text's words, cut at Python's whitespace.
pub(crate) fn fields(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}
