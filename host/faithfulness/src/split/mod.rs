//! Cuts a reasoning into sentences.
//!
//! Every number that counts sentences depends on the splitter, so a run records its name and version.

mod punkt;
mod tables;

use crate::space::is_space;
use std::ops::Range;

/// How a reasoning is cut into sentences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Splitter {
    /// Punkt with its English abbreviations, as `nltk.sent_tokenize` cuts.
    #[default]
    Punkt,
    /// After `.`, `!` or `?` and blanks: `(?<=[.!?])\s+`.
    Regex,
    /// A line, one sentence; empty lines count for nothing.
    Lines,
}

impl Splitter {
    pub const NAMES: [&str; 3] = ["punkt", "regex", "lines"];

    pub fn parse(name: &str) -> Option<Splitter> {
        match name {
            "punkt" => Some(Splitter::Punkt),
            "regex" => Some(Splitter::Regex),
            "lines" => Some(Splitter::Lines),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Splitter::Punkt => "punkt",
            Splitter::Regex => "regex",
            Splitter::Lines => "lines",
        }
    }

    /// Changes whenever a text can be cut differently than before.
    pub fn version(self) -> &'static str {
        "1"
    }

    /// The sentences of a text, in order. Leading whitespace stays, trailing whitespace goes.
    pub fn split(self, text: &str) -> Vec<&str> {
        match self {
            Splitter::Punkt => punkt::sentences(text),
            Splitter::Regex => by_regex(text).into_iter().map(|range| &text[range]).collect(),
            Splitter::Lines => text.lines().map(str::trim).filter(|line| !line.is_empty()).collect(),
        }
    }
}

fn by_regex(text: &str) -> Vec<Range<usize>> {
    let text_end = text.trim_end_matches(is_space).len();
    let mut pieces = Vec::new();
    let (mut start, mut after_mark) = (0, false);
    let mut chars = text[..text_end].char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if after_mark && is_space(char) {
            while chars.next_if(|(_, next)| is_space(*next)).is_some() {}
            let next = chars.peek().map_or(text_end, |(at, _)| *at);
            pieces.push(start..at);
            start = next;
        }
        after_mark = matches!(char, '.' | '!' | '?');
    }
    if start < text_end {
        pieces.push(start..text_end);
    }
    pieces
}
