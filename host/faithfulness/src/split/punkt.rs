//! Punkt (Kiss and Strunk, 2006) with parameters that need no training.
//!
//! A sentence can end at `.`, `?` or `!`. Each such mark is looked at with the word before and the token after it; the
//! tables say whether the dot is an abbreviation's. With the short tables the cut equals that of the full English
//! parameters except after an abbreviation before a capitalised common noun (`Mr. Pig`).

use super::tables;
use crate::space::is_space;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::LazyLock;

static ABBREVIATIONS: LazyLock<HashSet<&str>> = LazyLock::new(|| tables::ABBREVIATIONS.split(' ').collect());
static STARTERS: LazyLock<HashSet<&str>> = LazyLock::new(|| tables::STARTERS.split(' ').collect());

pub(super) fn sentences(text: &str) -> Vec<&str> {
    let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    let chars: Vec<char> = text.chars().collect();
    realign(&chars, slices(&chars))
        .into_iter()
        .map(|range| &text[offsets[range.start]..offsets[range.end]])
        .collect()
}

/// A mark that may end a sentence.
#[derive(Debug, Clone)]
struct Candidate {
    /// Where the word before the mark starts.
    word: usize,
    mark: usize,
    /// The end of what follows: one nonword, or blanks and the next token.
    after: usize,
    /// Where the next token starts, if blanks follow the mark.
    next: Option<usize>,
}

fn candidates(text: &[char]) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = Vec::new();
    // The word and the mark of the last candidate, which bound how far back the next word is looked for.
    let (mut word, mut mark) = (0, 0);
    for at in (0..text.len()).filter(|at| is_mark(text[*at])) {
        let (after, next) = match text.get(at + 1) {
            Some(char) if is_nonword(*char) => (at + 2, None),
            Some(char) if is_space(*char) => {
                let Some(blanks) = text[at + 1..].iter().position(|char| !is_space(*char)) else {
                    continue;
                };
                let next = at + 1 + blanks;
                let length = text[next..].iter().position(|char| is_space(*char));
                (length.map_or(text.len(), |length| next + length), Some(next))
            }
            _ => continue,
        };
        // Blanks at the very place where the search ends are not seen, as in the reference.
        let space = (mark + 1..at)
            .rev()
            .find(|place| text[*place].is_ascii_whitespace() || text[*place] == '\u{b}');
        let start = space.map_or(word, |space| space + 1);
        if found.last().is_some_and(|last| last.mark > start) {
            found.pop();
        }
        found.push(Candidate {
            word: start,
            mark: at,
            after,
            next,
        });
        (word, mark) = (start, at);
    }
    found
}

fn slices(text: &[char]) -> Vec<Range<usize>> {
    let mut slices = Vec::new();
    let mut start = 0;
    for candidate in candidates(text) {
        if holds_break(&text[candidate.word..candidate.after]) {
            slices.push(start..candidate.mark + 1);
            start = candidate.next.unwrap_or(candidate.mark + 1);
        }
    }
    let end = text.len() - text.iter().rev().take_while(|char| is_space(**char)).count();
    slices.push(start..end.max(start));
    slices
}

/// Moves closing quotes and brackets at the head of a sentence to the one before.
fn realign(text: &[char], slices: Vec<Range<usize>>) -> Vec<Range<usize>> {
    let mut whole = Vec::new();
    let mut skip = 0;
    for (index, slice) in slices.iter().enumerate() {
        let start = slice.start + skip;
        let closing = slices
            .get(index + 1)
            .and_then(|next| Some((next, closing(&text[next.clone()])?)));
        let end = match &closing {
            Some((next, (closed, _))) => next.start + closed,
            None => slice.end,
        };
        skip = closing.map_or(0, |(_, (_, skipped))| skipped);
        if start < end {
            whole.push(start..end);
        }
    }
    whole
}

/// How many closing characters a sentence begins with, and how far it is to what follows them.
fn closing(sentence: &[char]) -> Option<(usize, usize)> {
    let mut count = 0;
    while sentence
        .get(count)
        .is_some_and(|char| matches!(char, '"' | '\'' | ')' | ']' | '}'))
    {
        count += 1;
        let blanks = sentence[count..].iter().take_while(|char| is_space(**char)).count();
        let ends = blanks > 0 || sentence[count..].is_empty() || sentence[count..].starts_with(&['-', '-']);
        if ends {
            return Some((count, count + blanks));
        }
    }
    None
}

#[derive(Debug, Clone)]
struct Token {
    text: Vec<char>,
    /// The lower-cased token; all numbers have one type.
    kind: String,
    ends_sentence: bool,
    abbreviation: bool,
    ellipsis: bool,
}

const NUMBER: &str = "##number##";

/// Whether a sentence ends inside of this context, with a token after it.
fn holds_break(context: &[char]) -> bool {
    let mut tokens: Vec<Token> = context
        .split(|char| *char == '\n')
        .flat_map(tokenize)
        .map(first_pass)
        .collect();
    for index in 0..tokens.len().saturating_sub(1) {
        let (before, after) = tokens.split_at_mut(index + 1);
        second_pass(&mut before[index], &after[0]);
    }
    let last = tokens.len().saturating_sub(1);
    tokens[..last].iter().any(|token| token.ends_sentence)
}

fn first_pass(text: Vec<char>) -> Token {
    let word: String = text.iter().collect::<String>().to_lowercase();
    let mut token = Token {
        kind: if is_number(&text) {
            NUMBER.to_owned()
        } else {
            word.clone()
        },
        ends_sentence: false,
        abbreviation: false,
        ellipsis: false,
        text,
    };
    if matches!(token.text[..], ['.' | '?' | '!']) {
        token.ends_sentence = true;
    } else if token.text.len() > 1 && token.text.iter().all(|char| *char == '.') {
        token.ellipsis = true;
    } else if token.text.ends_with(&['.']) && !token.text.ends_with(&['.', '.']) {
        let word = &word[..word.len() - 1];
        let tail = word.rsplit('-').next().unwrap_or(word);
        token.abbreviation = ABBREVIATIONS.contains(word) || ABBREVIATIONS.contains(tail);
        token.ends_sentence = !token.abbreviation;
    }
    token
}

fn second_pass(token: &mut Token, next: &Token) {
    if !token.text.ends_with(&['.']) {
        return;
    }
    let next_kind = match next.ends_sentence && next.kind.len() > 1 {
        true => next.kind.strip_suffix('.').unwrap_or(&next.kind),
        false => &next.kind,
    };
    let first = next.text[0];
    let known = STARTERS.contains(next_kind);
    let is_initial = matches!(token.text[..], [letter, '.'] if letter == '_' || letter.is_alphabetic());
    if (token.abbreviation || token.ellipsis) && !is_initial {
        // With the short tables no word is known in lower case alone, so only a starter begins a sentence here.
        token.ends_sentence |= first.is_uppercase() && known;
    } else if is_initial || token.kind == NUMBER {
        let continues = matches!(next.text[..], [';' | ':' | ',' | '.' | '!' | '?']) || first.is_lowercase();
        if continues || (is_initial && first.is_uppercase() && !known) {
            token.ends_sentence = false;
            token.abbreviation = true;
        }
    }
}

/// `^-?[.,]?\d[\d,.-]*\.?$`
fn is_number(text: &[char]) -> bool {
    let text = text.strip_prefix(&['-']).unwrap_or(text);
    let text = match text {
        ['.' | ',', rest @ ..] => rest,
        all => all,
    };
    let digit = |char: &char| char.is_ascii_digit();
    text.first().is_some_and(digit) && text.iter().all(|char| digit(char) || matches!(char, ',' | '.' | '-'))
}

fn is_mark(char: char) -> bool {
    matches!(char, '.' | '?' | '!')
}

fn is_nonword(char: char) -> bool {
    matches!(
        char,
        ')' | '"' | ';' | '}' | ']' | '*' | ':' | '@' | '\'' | '(' | '{' | '[' | '!' | '?'
    )
}

/// Cuts a line into Punkt's tokens.
fn tokenize(line: &[char]) -> Vec<Vec<char>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < line.len() {
        if is_space(line[at]) {
            at += 1;
            continue;
        }
        let length = match punctuation_run(&line[at..]) {
            0 if starts_word(line[at]) => word_length(&line[at..]),
            0 => 1,
            length => length,
        };
        tokens.push(line[at..at + length].to_vec());
        at += length;
    }
    tokens
}

fn starts_word(char: char) -> bool {
    !matches!(
        char,
        '(' | '"' | '`' | '{' | '[' | ':' | ';' | '&' | '#' | '*' | '@' | ')' | '}' | ']' | '-' | ','
    )
}

fn word_length(text: &[char]) -> usize {
    let ends = |rest: &[char]| match rest.first() {
        None => true,
        Some(char) => is_space(*char) || is_nonword(*char) || punctuation_run(rest) > 0,
    };
    // A shortest run of non-blanks before such an end; without one it is a single character.
    for length in 1..=text.len() {
        if is_space(text[length - 1]) {
            break;
        }
        let rest = &text[length..];
        if ends(rest) || (rest[0] == ',' && ends(&rest[1..])) {
            return length;
        }
    }
    1
}

/// The length of `--`, `..` and longer, or of `. . .` and longer; 0 if the text begins with none.
fn punctuation_run(text: &[char]) -> usize {
    let run = |of: char| text.iter().take_while(|char| **char == of).count();
    for of in ['-', '.'] {
        let length = run(of);
        if length >= 2 {
            return length;
        }
    }
    let pairs = text
        .chunks_exact(2)
        .take_while(|pair| pair[0] == '.' && is_space(pair[1]))
        .count();
    // The last dot of `(?:\.\s){2,}\.`; without it the last pair is given back.
    match pairs {
        _ if pairs >= 2 && text.get(2 * pairs) == Some(&'.') => 2 * pairs + 1,
        _ if pairs >= 3 => 2 * pairs - 1,
        _ => 0,
    }
}
