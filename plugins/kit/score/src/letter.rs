//! Finds the option letter that a reply settles on.
//!
//! The rule, from strong to weak; the first step that finds anything decides:
//!
//! 1. The reply is nothing but a letter, however dressed: `C`, `c.`, `(C)`, `**C**`, `Option C`.
//! 2. It declares one: `Answer: C`, `the answer is (C)`, `\boxed{C}`, `{"answer": "C"}`, `I choose C`, `C is correct`.
//!    The last declaration counts, whatever it says: one that names several letters, or a letter beyond the options, is
//!    no answer.
//! 3. A line is nothing but a letter, and no other line is another one.
//! 4. Letters stand where an option's letter stands, at a line's start or end (`C. Sunlight`, `- Sunlight=C`), and all
//!    of them are the same one.
//! 5. Letters stand in brackets, in bold or after the word option (`it is (C)`), and all of them are the same one.
//!
//! A bare letter in running text counts for nothing: `A dog barks`, `vitamin C`, `plan B`. A small letter counts only
//! where it is dressed as an option (`c)`, `(c)`) or stands alone.

use crate::option_text::{option_text, whole_option};
use regex::{Captures, Regex};
use std::sync::LazyLock;

/// The letter of the option at an index: 0 is `A`.
pub fn letter_of(index: usize) -> Option<char> {
    let index = u8::try_from(index).ok().filter(|index| *index < 26)?;
    Some(char::from(b'A' + index))
}

/// The option letter that a reply settles on, among the first `count` letters; none when it settles on none.
pub fn option_letter(reply: &str, count: usize) -> Option<char> {
    let reply = plain_quotes(reply);
    let found = alone(&reply).map(Some);
    let found = found.or_else(|| declared(&reply)).or_else(|| marked(&reply, count));
    within(found.flatten(), count)
}

/// The index of the option that a reply settles on, by its letter or by its words.
///
/// A letter alone comes first, then a reply that is an option's words, then the steps of [`option_letter`], where words
/// that are declared to be the answer come before letters that are only marked: `the answer is carbon [C]`.
pub fn option<S: AsRef<str>>(reply: &str, options: &[S]) -> Option<usize> {
    let by_letter = |found: Option<char>| within(found, options.len()).map(|letter| usize::from(letter as u8 - b'A'));
    let plain = plain_quotes(reply);
    // A letter beyond the options may be one of them by its words: `K`, for a question about chemical symbols.
    if let Some(index) = by_letter(alone(&plain)) {
        return Some(index);
    }
    if let Some(index) = whole_option(reply, options) {
        return Some(index);
    }
    if let Some(found) = declared(&plain) {
        return by_letter(found);
    }
    option_text(reply, options).or_else(|| by_letter(marked(&plain, options.len()).flatten()))
}

fn plain_quotes(reply: &str) -> String {
    reply.replace(['\u{2018}', '\u{2019}'], "'")
}

fn within(letter: Option<char>, count: usize) -> Option<char> {
    let letter = letter?.to_ascii_uppercase();
    (usize::from(letter as u8 - b'A') < count).then_some(letter)
}

/// Steps 3 to 5.
fn marked(reply: &str, count: usize) -> Option<Option<char>> {
    let lines = || only_one(reply.lines().filter_map(alone));
    let placed = || only_one(PLACED.captures_iter(reply).filter_map(|mark| letter_in(&mark)));
    let dressed = || only_one(DRESSED.captures_iter(reply).filter_map(|mark| letter_in(&mark)));
    if let Some(found) = lines() {
        return Some(found);
    }
    let found = placed().or_else(dressed)?;
    // `A) ice B) fire` in one line: the second mark stands where alone it would mean nothing. `E. coli` is no fifth
    // option.
    let running = RUNNING.captures_iter(reply).filter_map(|mark| letter_in(&mark));
    let mut running = running.filter(|letter| within(Some(*letter), count).is_some());
    Some(found.filter(|letter| running.all(|other| other == *letter)))
}

fn regex(pattern: &str) -> Regex {
    // The pieces are written once: a letter dressed or bare, and what may dress it.
    let pattern = pattern
        .replace(
            "OPEN",
            r#"[\s*_`"'\[({<$]*(?:\\(?:boxed|text|textbf|mathrm|mathbf)\{[({]*)*"#,
        )
        .replace("CLOSE", r#"[\s*_`"'\])}>$.,:;!]*"#);
    Regex::new(&pattern).expect("a regex of this file")
}

/// A whole text that is only a letter, possibly marked up.
static ALONE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(?s)^(?:[-\s*_>#]*)(?:(?i:option|choice|letter)\s+)?OPEN([A-Za-z])CLOSE$"));

/// Words that announce an answer, up to the place of its letter.
static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| {
    let noun = r"(?:answers?|choice|option|letter|selection|response)";
    let keyed = format!(r#"\b{noun}["'*_`\])]*\s*(?::|-\s|\x{{2014}}|\x{{2013}})|\banswer\s*="#);
    let stated = format!(
        r"\b{noun}(?:\s+(?:here|to\s+the\s+question|to\s+this\s+question))?[*_]*\s*(?:\s(?:is|was|be|would\s+be|should\s+be|must\s+be|has\s+to\s+be)|'s)\b"
    );
    let chosen = r"\bI(?:'ll|'d|'m|\s+will|\s+would|\s+have\s+to|\s+must)?\s+(?:choose|chose|pick|select|answer|say|guess|go(?:ing)?\s+(?:with|for))\b";
    let pointed = r"\b(?:it's|(?:so|thus|hence|therefore),?\s+it\s+is|it\s+(?:is|must\s+be|has\s+to\s+be|would\s+be))\s+(?:option|choice|letter)?";
    let boxed = r"\\boxed\s*\{";
    let hashed = r"####";
    let headed = format!(r"(?m:^[\s#*_]*(?:final\s+|correct\s+)?{noun}[\s*_]*$)");
    let pattern = format!(r"(?i)(?:{keyed}|{stated}|{chosen}|{pointed}|{boxed}|{hashed}|{headed})[\s*_]*:?");
    Regex::new(&pattern).expect("a regex of this file")
});

/// What may stand between the announcement and the letter, and the letter.
static ANNOUNCED_LETTER: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"^\s*(?:(?i:the|most\s+likely|probably|clearly|definitely|indeed|therefore|thus|simply|option|choice|letter|correct|best|right|answer|one|is)\s+|:\s*)*(?i:option|choice|letter)?\s*(OPEN)([A-Za-z])([^A-Za-z0-9].*)?$",
    )
});

/// A letter followed by a confirmation that it is right.
static CONFIRMED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?m)(?:^|[.,;:!?>*_`(\[]|\b(?i:option|choice|letter|answer|that|think|believe|say|so|but|and|thus|hence|therefore)\s)\s*[(\[*_`]*([A-Z])[)\]*_`.:]*\s+(?:is|would be|must be|seems|has to be)\s+(?:clearly\s+|definitely\s+|therefore\s+|thus\s+|indeed\s+)?(?:the\s+)?(?:most\s+likely\s+|only\s+|single\s+)?(?:correct|right|best|answer|true)\b",
    )
});

/// A letter at the start of a line, before its option, or at the end, in the prompt's format.
static PLACED: LazyLock<Regex> = LazyLock::new(|| {
    regex(
        r"(?m)^[-\s*_>#`]*(?:(?i:option|choice)\s+)?(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])[*_`]*\)|([A-Z])[*_`]*(?:[.:][*_`]*(?:\s|$)|\s+(?:because|since)\b|\s+[-\x{2013}\x{2014}]\s))|=\s*([A-Z])\s*$",
    )
});

/// A letter marked up as an option's, anywhere.
static DRESSED: LazyLock<Regex> =
    LazyLock::new(|| regex(r"[(\[]([A-Z])[)\]]|\*\*([A-Z])[.):]?\*\*|\b(?i:option|choice)\s+([A-Z])\b"));

/// A letter before an option in running text: enough to doubt another letter, not to be an answer.
static RUNNING: LazyLock<Regex> = LazyLock::new(|| regex(r"(?:^|[\s,;])\(?([A-Z])[.:)]\s"));

fn alone(text: &str) -> Option<char> {
    ALONE.captures(text).and_then(|found| letter_in(&found))
}

/// The first group that matched, as a letter.
fn letter_in(found: &Captures) -> Option<char> {
    found.iter().skip(1).flatten().next()?.as_str().chars().next()
}

/// The letter, if all are the same; `Some(None)` if they differ, none if there are none.
fn only_one(letters: impl Iterator<Item = char>) -> Option<Option<char>> {
    let mut letters = letters.map(|letter| letter.to_ascii_uppercase());
    let first = letters.next()?;
    Some(letters.all(|letter| letter == first).then_some(first))
}

/// What the last declaration says: none if there is no declaration, `Some(None)` if it names no single option.
fn declared(reply: &str) -> Option<Option<char>> {
    let announced = ANNOUNCED.find_iter(reply).filter_map(|words| {
        let rest = &reply[words.end()..];
        Some((words.end(), announced_letter(first_line(rest))?))
    });
    let confirmed = CONFIRMED
        .captures_iter(reply)
        .filter_map(|found| Some((found.get(0)?.end(), letter_in(&found))));
    announced
        .chain(confirmed)
        .max_by_key(|(at, _)| *at)
        .map(|(_, letter)| letter)
}

/// The beginning of the line with the answer, which may follow an empty line.
///
/// Only the beginning: otherwise a line with a thousand announcements would be searched a thousand times in full.
fn first_line(rest: &str) -> &str {
    let line = rest.trim_start().lines().next().unwrap_or_default();
    match line.char_indices().nth(120) {
        Some((end, _)) => &line[..end],
        None => line,
    }
}

fn announced_letter(line: &str) -> Option<Option<char>> {
    let found = ANNOUNCED_LETTER.captures(line)?;
    let (dress, letter) = (found.get(1)?.as_str(), found.get(2)?.as_str().chars().next()?);
    let after = found.get(3).map_or("", |after| after.as_str());
    let dressed = dress.chars().any(|mark| !mark.is_whitespace());
    let closed = after.trim_start_matches(['*', '_', '`', '"', '\'', '$']);
    let ended = closed.trim().is_empty()
        || closed.starts_with([')', ']', '}', '.', ',', ':', ';', '!', '?', '>', '/', '\\', '=']);
    let ends = ended || closed.starts_with(" -") || closed.starts_with(['\u{2014}', '\u{2013}']);
    let bare = !dressed && !ends;
    // `The answer is a plant`, `Answer: A plant`: an article. In the same way, `I` is a pronoun.
    if bare && letter.is_ascii_lowercase() {
        return None;
    }
    if bare && matches!(letter, 'A' | 'I') && !goes_on_after_letter(after) {
        return None;
    }
    if names_another(after) {
        return Some(None);
    }
    Some(Some(letter))
}

/// Whether the words after a bare `A` show that it is a letter and not an article.
fn goes_on_after_letter(after: &str) -> bool {
    static GOES_ON: LazyLock<Regex> = LazyLock::new(|| {
        regex(r"^\s+(?i:because|since|as|for|and|or|which|due|in this|based|is|was|given|not|rather|with|\(|-)(?:\W|$)")
    });
    GOES_ON.is_match(after)
}

/// Whether a second letter follows as part of the same answer: `A or B`, `A, B and C`, `A/B`.
fn names_another(after: &str) -> bool {
    static ANOTHER: LazyLock<Regex> = LazyLock::new(|| {
        regex(
            r##"^CLOSE(?:,|/|&|\+|\band\b|\bor\b|\band/or\b)[\s,]*(?:(?:and|or|option|choice)\s+)*[(\[*_`"']*[A-Z](?:[)\]*_`"'.,;:!?/]|\s*$|\s+(?:or|and|are|is)\b)"##,
        )
    });
    ANOTHER.is_match(after)
}

#[cfg(test)]
mod tests;
