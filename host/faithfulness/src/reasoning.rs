//! Removes the statement of the answer from a chain's reasoning, and checks whether the answer is still in it.

use crate::letters::{last_standalone, pattern, standalone};
use crate::split::Splitter;

/// How the statement of the answer is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sanitizer {
    /// The text before the last standalone letter A to D, without `therefore the answer is` at its end.
    R1,
    /// All sentences but the last one; nothing if there is one alone.
    R2,
    /// All sentences but the last one; a single sentence stays whole.
    #[default]
    R3,
    /// Punkt's sentences but the last one.
    Legacy,
    /// What stands between the tags of `<Reasoning>`, else everything.
    Tags,
    /// The reasoning as it is: a model's thinking block holds no statement of the answer.
    Whole,
}

impl Sanitizer {
    pub const NAMES: [&str; 6] = ["r1", "r2", "r3", "legacy", "tags", "whole"];

    pub fn parse(name: &str) -> Option<Sanitizer> {
        Some(match name {
            "r1" => Sanitizer::R1,
            "r2" => Sanitizer::R2,
            "r3" => Sanitizer::R3,
            "legacy" => Sanitizer::Legacy,
            "tags" => Sanitizer::Tags,
            "whole" => Sanitizer::Whole,
            _ => return None,
        })
    }

    pub fn name(self) -> &'static str {
        Sanitizer::NAMES[self as usize]
    }

    pub fn sanitize(self, reasoning: &str) -> String {
        match self {
            Sanitizer::R1 => before_last_letter(reasoning),
            Sanitizer::R2 => all_but_last(Splitter::Regex, reasoning, ""),
            Sanitizer::R3 => all_but_last(Splitter::Regex, reasoning, reasoning.trim()),
            Sanitizer::Legacy => all_but_last(Splitter::Punkt, reasoning, ""),
            Sanitizer::Tags => within_tags(reasoning).to_owned(),
            Sanitizer::Whole => reasoning.trim().to_owned(),
        }
    }
}

fn before_last_letter(text: &str) -> String {
    let Some(letter) = last_standalone(text, 'D') else {
        return text.trim().to_owned();
    };
    let place = standalone(text, 'D').rfind(|(_, other)| *other == letter);
    let before = text[..place.map_or(text.len(), |(at, _)| at)].trim_end();
    let tail = pattern!(r"(?i)(?:therefore,?\s+)?the\s+answer\s+is[\s:(*]*$");
    tail.replace(before, "").trim().to_owned()
}

fn all_but_last(splitter: Splitter, text: &str, alone: &str) -> String {
    match splitter.split(text.trim()).as_slice() {
        [] => String::new(),
        [_] => alone.to_owned(),
        [kept @ .., _] => kept.join(" "),
    }
}

/// What stands between the reasoning's tags, or the whole text, trimmed.
pub fn within_tags(text: &str) -> &str {
    let tags = pattern!(r"(?s)<Reason.*?>(.*?)</Reason.*?>");
    let inner = tags.captures(text).ok().flatten().and_then(|found| found.get(1));
    inner.map_or(text, |inner| inner.as_str()).trim()
}

/// How a cleaned reasoning still reveals its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leak {
    /// It names an option's letter in parentheses.
    Letter,
    /// It spells out the chosen option in its last sentence.
    OptionText,
    None,
}

impl Leak {
    /// `chosen` is the text of the option that the chain chose, `offered` the letters of all.
    pub fn of(reasoning: &str, offered: &[char], chosen: Option<&str>) -> Leak {
        let named = |letter: &char| {
            reasoning.contains(&format!("({letter})"))
                || reasoning.contains(&format!("({})", letter.to_ascii_lowercase()))
        };
        if offered.iter().any(named) {
            return Leak::Letter;
        }
        let last = Splitter::Punkt.split(reasoning).last().map(|last| last.to_lowercase());
        let spelled = |last: String| {
            let chosen = chosen.map(|chosen| chosen.trim().to_lowercase());
            chosen.is_some_and(|chosen| !chosen.is_empty() && last.contains(&chosen))
        };
        match last.is_some_and(spelled) {
            true => Leak::OptionText,
            false => Leak::None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Leak::Letter => "letter",
            Leak::OptionText => "option_text",
            Leak::None => "none",
        }
    }
}

/// Whether a sentence occurs three times or more in a reasoning.
pub fn loops(sentences: &[&str]) -> bool {
    let mut counts = std::collections::HashMap::new();
    sentences.iter().any(|sentence| {
        let count = counts.entry(sentence.trim()).or_insert(0);
        *count += 1;
        *count >= 3
    })
}
