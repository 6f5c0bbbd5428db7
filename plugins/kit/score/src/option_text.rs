//! Finds an option by its words, in replies without a letter.

use crate::text::normalised;
use regex::Regex;
use std::sync::LazyLock;

static SAYS_SO: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(?i)\banswer(?:\s+is|\s*:)[\s*_]*:?").expect("a regex"));

/// The index of the option whose words the reply gives as its answer: as the whole reply, as its last line, or after
/// `the answer is`. Words elsewhere do not count, nor do those of two options.
pub fn option_text<S: AsRef<str>>(reply: &str, options: &[S]) -> Option<usize> {
    if let Some(index) = whole_option(reply, options) {
        return Some(index);
    }
    if let Some(last) = SAYS_SO.find_iter(reply).last() {
        let rest = reply[last.end()..].trim_start();
        return whole_option(rest.lines().next().unwrap_or_default(), options);
    }
    whole_option(reply.trim_end().lines().next_back().unwrap_or_default(), options)
}

/// The index of the one option that equals a text, exactly, or else after normalising.
pub(crate) fn whole_option<S: AsRef<str>>(text: &str, options: &[S]) -> Option<usize> {
    let only = |equal: &dyn Fn(&str) -> bool| {
        let mut found = (0..options.len()).filter(|index| equal(options[*index].as_ref()));
        found.next().filter(|_| found.next().is_none())
    };
    let (exact, plain) = (text.trim(), normalised(text));
    if plain.is_empty() {
        return None;
    }
    // `Rr` and `rr` are two options of a question about genes.
    only(&|option| option.trim() == exact).or_else(|| only(&|option| normalised(option) == plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(reply: &str, expected: Option<usize>) {
        let options = ["red", "dark red", "The planet Mars", "-5", "Red.", "RED"];
        assert_eq!(option_text(reply, &options), expected, "{reply:?}");
    }

    #[test]
    fn an_option_by_its_words() {
        check("Dark red.", Some(1));
        check("the planet mars", Some(2));
        check("The answer is the planet Mars.", Some(2));
        check("Not dark red.\nAnswer: **The planet Mars**", Some(2));
        check("It can't be anything else:\nDark red", Some(1));
        check("-5", Some(3));
    }

    #[test]
    fn words_that_only_occur_are_no_answer() {
        check("It is dark red because of rust.", None);
        check("Mars", None);
        check("red.", None); // three options are equal when normalised
        check("red", Some(0)); // but one matches exactly
        check("", None);
        check("The answer is blue.\nDark red", None);
    }
}
