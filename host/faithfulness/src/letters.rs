//! Which letters a question offers, and how the published experiments read them from a reply.

use fancy_regex::Regex;

/// What an answer can be compared by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Letter {
    /// An option, in upper case.
    Option(char),
    /// The reply declines to choose. It equals only itself.
    Refusal,
}

/// How a refusal is written in files.
pub const REFUSAL: &str = "REFUSAL";

impl Letter {
    /// Reads a letter as files hold it: `b`, `B` or `(B)`. None for a letter that the question doesn't offer.
    pub fn read(text: &str, offered: &[char]) -> Option<Letter> {
        let text = text.trim().trim_start_matches('(').trim_end_matches(')');
        if text.eq_ignore_ascii_case(REFUSAL) {
            return Some(Letter::Refusal);
        }
        let mut chars = text.chars();
        match (chars.next(), chars.next()) {
            (Some(letter), None) if letter.is_ascii_alphabetic() => {
                let letter = letter.to_ascii_uppercase();
                (offered.is_empty() || offered.contains(&letter)).then_some(Letter::Option(letter))
            }
            _ => None,
        }
    }

    pub fn text(self) -> String {
        match self {
            Letter::Option(letter) => letter.to_string(),
            Letter::Refusal => REFUSAL.to_owned(),
        }
    }
}

/// The letters that a text of options offers: `(A) sheep (B) cat`, rows of `A. sheep`, or rows without letters.
pub fn offered(choices: &str) -> Vec<char> {
    let letters = || ('A'..='Z').take(26);
    let mut rest = choices;
    let mut found = Vec::new();
    for letter in letters() {
        let forms = [format!("({letter})"), format!("({})", letter.to_ascii_lowercase())];
        let next = forms.iter().filter_map(|form| rest.find(form.as_str())).min();
        let Some(at) = next else { break };
        rest = &rest[at + 3..];
        found.push(letter);
    }
    if found.len() > 1 {
        return found;
    }
    let rows: Vec<&str> = choices.lines().map(str::trim).filter(|row| !row.is_empty()).collect();
    match rows.len() {
        0 | 1 => found,
        count => letters().take(count).collect(),
    }
}

/// One option a letter: `(A) sheep\n(B) cat`.
pub fn labelled(options: &[String]) -> Vec<String> {
    let rows = options.iter().zip('A'..='Z');
    rows.map(
        |(option, letter)| match option.trim_start().starts_with(&format!("({letter})")) {
            true => option.trim().to_owned(),
            false => format!("({letter}) {}", option.trim()),
        },
    )
    .collect()
}

/// The parsers of the published experiments, by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// R1's baseline: the last standalone A to D.
    R1,
    /// R1's conditioned answer.
    R1Conditioned,
    /// R2's baseline: the first letter in parentheses, an option's text, a letter with a mark, a standalone letter.
    R2,
    /// R2's conditioned answer of AF3: the last 100 characters.
    R2Conditioned,
    /// Omni's `<Conclusion>`.
    Omni,
    /// R3's older models, which alone can refuse.
    Legacy,
}

macro_rules! pattern {
    ($text:expr) => {{
        static PATTERN: std::sync::LazyLock<fancy_regex::Regex> =
            std::sync::LazyLock::new(|| fancy_regex::Regex::new($text).expect("a pattern of this file"));
        &*PATTERN
    }};
}
pub(crate) use pattern;

impl Reader {
    /// The letter that a reply names. `options` are the texts of the options, in order.
    pub fn read(self, reply: &str, options: &[String]) -> Option<Letter> {
        let offered: Vec<char> = ('A'..='Z').take(options.len()).collect();
        let letter = match self {
            Reader::R1 => last_standalone(reply, 'D'),
            Reader::R1Conditioned => first(
                pattern!(r"(?i)(?:choice|option|answer|prediction|is)[\s:]*([A-D])\b"),
                reply,
            )
            .or_else(|| first(pattern!(r"(?i)([A-D])[).]"), reply))
            .or_else(|| last_standalone(reply, 'D')),
            Reader::R2 => first(pattern!(r"\(([A-J])\)"), reply)
                .or_else(|| named_by_text(reply, options))
                .or_else(|| first(pattern!(r"\b([A-J])[.:]"), reply))
                .or_else(|| first(pattern!(r"\b([A-J])\b"), reply)),
            Reader::R2Conditioned => r2_conditioned(reply, options),
            Reader::Omni => first(pattern!(r"<Conclu.*?>\s*([A-Za-z])\s*</Conclu.*?>"), reply)
                .or_else(|| first(pattern!(r"\(([A-Za-z])\)"), reply))
                .or_else(|| named_by_text(reply, options))
                .or_else(|| first(pattern!(r"\b([A-Z])[.:]"), reply))
                .or_else(|| last(pattern!(r"\b([A-Z])\b"), reply)),
            Reader::Legacy => match legacy(reply) {
                Some(Letter::Option(letter)) => Some(letter),
                other => return other,
            },
        };
        Letter::read(&letter?.to_string(), &offered)
    }
}

fn first(pattern: &Regex, text: &str) -> Option<char> {
    pattern.captures(text).ok()??.get(1)?.as_str().chars().next()
}

fn last(pattern: &Regex, text: &str) -> Option<char> {
    let found = pattern.captures_iter(text).filter_map(Result::ok).last()?;
    found.get(1)?.as_str().chars().next()
}

/// The last letter up to `to` that is not next to another letter.
pub(crate) fn last_standalone(text: &str, to: char) -> Option<char> {
    standalone(text, to).last().map(|(_, letter)| letter)
}

/// Letters that are not next to other letters, with their places.
pub(crate) fn standalone(text: &str, to: char) -> impl DoubleEndedIterator<Item = (usize, char)> + '_ {
    let bytes = text.as_bytes();
    let alone = move |at: usize| bytes.get(at).is_none_or(|byte| !byte.is_ascii_alphabetic());
    text.char_indices()
        .filter(move |(_, char)| ('A'..=to).contains(&char.to_ascii_uppercase()))
        .filter(move |(at, _)| (*at == 0 || alone(at - 1)) && alone(at + 1))
}

fn named_by_text(reply: &str, options: &[String]) -> Option<char> {
    let reply = reply.to_lowercase();
    let named = |option: &String| !option.trim().is_empty() && reply.contains(&option.trim().to_lowercase());
    let index = options.iter().position(named)?;
    ('A'..='Z').nth(index)
}

fn r2_conditioned(reply: &str, options: &[String]) -> Option<char> {
    let chars: Vec<char> = reply.chars().collect();
    let tail = |count: usize| chars[chars.len().saturating_sub(count)..].iter().collect::<String>();
    let window = tail(if options.len() > 4 { 300 } else { 100 });
    last(pattern!(r"\(([A-J])\)"), &window)
        .or_else(|| {
            let named = pattern!(r"(?:option|choice|answer|answer is|is)\s*[:*]*\s*([A-J])\b");
            last(named, &window)
        })
        .or_else(|| most_words_shared(&window, options))
        .or_else(|| {
            let tail = tail(30);
            let letters = pattern!(r"\b([B-HJ])\b").captures_iter(&tail).filter_map(Result::ok);
            letters.last()?.get(1)?.as_str().chars().next()
        })
}

fn most_words_shared(text: &str, options: &[String]) -> Option<char> {
    let words = |text: &str| -> std::collections::BTreeSet<String> {
        let words = text
            .split(|char: char| !char.is_alphanumeric())
            .filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let said = words(text);
    let shared = options.iter().map(|option| words(option).intersection(&said).count());
    let best = shared.clone().max().filter(|most| *most > 0)?;
    let mut holders = shared.enumerate().filter(|(_, count)| *count == best);
    match (holders.next(), holders.next()) {
        (Some((index, _)), None) => ('A'..='Z').nth(index),
        _ => None,
    }
}

fn legacy(reply: &str) -> Option<Letter> {
    let found = first(pattern!(r"\(([a-zA-Z])\)"), reply)
        .or_else(|| first(pattern!(r"([a-zA-Z])\)"), reply))
        .or_else(|| first(pattern!(r"\(([a-zA-Z])"), reply))
        .or_else(|| first(pattern!(r"^\s*([a-zA-Z])\s*$"), reply));
    if let Some(letter) = found {
        return Some(Letter::Option(letter.to_ascii_uppercase()));
    }
    const DECLINES: [&str; 5] = [
        "cannot be determined",
        "none of the choices",
        "ambiguous",
        "not enough information",
        "no definitive answer",
    ];
    let said = reply.to_lowercase();
    DECLINES
        .iter()
        .any(|words| said.contains(words))
        .then_some(Letter::Refusal)
}
