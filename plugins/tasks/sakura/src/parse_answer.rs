//! Our own rule for which option a reply chooses, for figures without a judge.
//!
//! It follows what the official judge is told: exactly one option must be chosen, by its letter or by its words. The
//! rule looks at the conclusion, which the prompt asks for after the reasoning; without one, at the whole reply. If
//! letter and words disagree, or there are two options, nothing is chosen.

use crate::question::{Question, letter, plain};

/// The parsed reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The words before the conclusion.
    pub reasoning: String,
    /// The text that was evaluated.
    pub conclusion: String,
    /// All options in it.
    pub named: Vec<usize>,
}

impl Choice {
    /// The one option that is chosen.
    pub fn option(&self) -> Option<usize> {
        match self.named.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }
}

/// The option that a reply to a question chooses.
///
/// Of several announced answers the last one that names an option counts: `Answer: (b)`, then `My choice is clear`.
pub fn choice(reply: &str, question: &Question) -> Choice {
    let read = |(reasoning, conclusion): (&str, &str)| Choice {
        reasoning: reasoning.trim().to_owned(),
        conclusion: conclusion.trim().to_owned(),
        named: named(conclusion, &question.options),
    };
    let mut announced = announced(reply).map(read);
    let Some(last) = announced.next() else {
        return read(("", reply));
    };
    if !last.named.is_empty() {
        return last;
    }
    announced.find(|choice| !choice.named.is_empty()).unwrap_or(last)
}

/// Phrases that announce an answer. They are ASCII, so a text keeps its length in lower case.
const ANNOUNCED: [&str; 6] = [
    "answer:",
    "answer**:",
    "answer is",
    "option is",
    "choice is",
    "answer\n",
];

/// The most announcements that are evaluated, and the most bytes of a line before one, as in `Final answer:`.
const MOST_ANNOUNCED: usize = 16;
const MOST_BEFORE: usize = 24;

/// The announced answers of a reply, the last one first: what stands before each, and its line.
fn announced(reply: &str) -> impl Iterator<Item = (&str, &str)> {
    let small = reply.to_ascii_lowercase();
    let last = move |end: usize| {
        let found = ANNOUNCED.iter();
        let found = found.filter_map(|words| Some((small.get(..end)?.rfind(words)?, words.len())));
        found.max()
    };
    let places = std::iter::successors(last(reply.len()), move |(at, _)| last(*at));
    places.take(MOST_ANNOUNCED).map(|(at, length)| {
        let line = reply[..at].rfind('\n').map_or(0, |end| end + 1);
        let start = if at - line <= MOST_BEFORE { line } else { at };
        let dress = |letter: char| letter.is_whitespace() || ":*_".contains(letter);
        let rest = reply[at + length..].trim_start_matches(dress);
        (&reply[..start], rest.lines().next().unwrap_or_default())
    })
}

/// All options that a text names, in their order.
fn named(text: &str, options: &[String]) -> Vec<usize> {
    let text = plain(text);
    let mut found = vec![false; options.len()];
    for (index, named) in found.iter_mut().enumerate() {
        *named = text.contains(&format!("({})", letter(index))) || starts_with_letter(&text, letter(index));
    }
    // The longest first; each is removed, so that `dark red` does not also count as `red`.
    let mut texts: Vec<(usize, String)> = options.iter().map(|option| plain(&bare(option))).enumerate().collect();
    texts.sort_by_key(|(index, option)| (std::cmp::Reverse(option.len()), *index));
    let mut rest = text;
    for (index, option) in texts.iter().filter(|(_, option)| !option.is_empty()) {
        let mut without = String::with_capacity(rest.len());
        let mut read = 0;
        while let Some(at) = find_words(&rest, option, read) {
            found[*index] = true;
            without.push_str(&rest[read..at]);
            without.push_str(" \u{0} ");
            read = at + option.len();
        }
        without.push_str(&rest[read..]);
        rest = without;
    }
    (0..options.len()).filter(|index| found[*index]).collect()
}

/// An option's words without the full stop at their end, which a reply may omit.
fn bare(option: &str) -> String {
    option.trim().trim_end_matches(['.', '!']).to_owned()
}

/// Whether a text is only a letter, or begins with a letter marked as an option's: `b`, `b.`, `b) crow`, `b: crow`.
fn starts_with_letter(text: &str, letter: char) -> bool {
    let text = text.trim_start_matches(['*', '_', '`', '"', '\'', '[', '(', '<', '{']);
    let Some(rest) = text.strip_prefix(letter) else {
        return false;
    };
    let closed = rest.trim_start_matches(['*', '_', '`', '"', '\'']);
    closed.is_empty()
        || closed.starts_with(['.', ')', ':', ',', ';', ']', '>', '}', '=', '!'])
        || closed.starts_with(" - ")
}

/// The place of words in a text, not as part of longer words.
fn find_words(text: &str, words: &str, from: usize) -> Option<usize> {
    let joined = |letter: Option<char>| letter.is_some_and(char::is_alphanumeric);
    let mut at = from;
    loop {
        let start = at + text.get(at..)?.find(words)?;
        let end = start + words.len();
        let before = text[..start].chars().next_back();
        let after = text[end..].chars().next();
        let first = words.chars().next();
        let inside = joined(before) && joined(first) || joined(words.chars().next_back()) && joined(after);
        if !inside {
            return Some(start);
        }
        at = start + first.map_or(1, char::len_utf8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(options: &[&str]) -> Question {
        Question {
            instruction: String::new(),
            stem: String::new(),
            options: options.iter().map(|option| (*option).to_owned()).collect(),
            truth: None,
            right: None,
        }
    }

    #[track_caller]
    fn check(reply: &str, expected: &str) {
        let found = choice(reply, &question(&["crow", "dog", "Hen", "big  dog, barking."]));
        let letters: String = found.named.iter().map(|index| letter(*index)).collect();
        assert_eq!(letters, expected, "{reply:?} is read as {found:?}");
    }

    #[test]
    fn an_option_is_named_by_letter_or_words() {
        check("(b)", "b");
        check("(B) Dog", "b");
        check("b", "b");
        check("B.", "b");
        check("**b) dog**", "b");
        check("C: hen", "c");
        check("A dog", "b"); // an article
        check("It sounds like a dog.", "b");
        check("The big dog, barking", "d");
        check("BIG DOG, BARKING!", "d");
        check("The sound is most likely (a) crow.", "a");
    }

    #[test]
    fn the_conclusion_counts_and_not_the_reasoning() {
        check("It could be a crow or a hen, but it barks.\nAnswer: (b)", "b");
        check("Crow? Dog?\n\n**Final Answer:** (c) Hen", "c");
        check("Hens cluck, so the answer is (c).", "c");
        check("Answer: (b)\nCrows and hens do not bark. My choice is clear.", "b");
        check("Answer: (a)\nNo, wait.\nAnswer: b", "b");
        check("answer**: dog", "b");
        let found = choice("It barks.\nFinal answer: (b)", &question(&["x", "y"]));
        assert_eq!(
            (found.reasoning.as_str(), found.conclusion.as_str()),
            ("It barks.", "(b)")
        );
    }

    #[test]
    fn none_or_several_options_are_no_choice() {
        check("I think it is a barking noise.", "");
        check("", "");
        check("Answer:", "");
        check("(a) dog", "ab"); // letter and words disagree
        check("(a) or (b)", "ab");
        check("crow and hen", "ac");
        check("doghouse, henna, scrow", "");
        check("(e)", "");
        check("b-side", "");
        check("c'est un chien", "");
    }

    #[test]
    fn odd_texts_do_no_harm() {
        for reply in ["\u{0}", "answer is", "ANSWER: \u{130}(b)", "(", "İanswer:é(b)", "(b"] {
            assert!(choice(reply, &question(&["", "é"])).named.len() < 3);
        }
    }
}
