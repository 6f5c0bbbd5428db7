//! The words of the filler experiments: `nltk.word_tokenize`, that is Punkt's sentences cut by rules in order.

use crate::space::fields;
use crate::split::Splitter;
use fancy_regex::Regex;
use std::sync::LazyLock;

/// A pattern and what takes its place.
type Rule = (Regex, &'static str);

/// Pads of the rules before and after the whole sentence is put between blanks.
static RULES: LazyLock<[Vec<Rule>; 2]> = LazyLock::new(|| {
    let before = [
        (r"([«“‘„]|`+)", " ${1} "),
        (r#"^""#, "``"),
        ("(``)", " ${1} "),
        (r#"([ (\[{<])("|'')"#, "${1} `` "),
        (r"(?i)(?<!\w)(')(?!(?:re|ve|ll|m|t|s|d|n)\b)(?=\w)", "${1} "),
        (r#"([^.])(\.)([\])}>"'»”’ ]*)\s*$"#, "${1} ${2} ${3} "),
        (r"([:,])([^\d])", " ${1} ${2}"),
        (r"([:,])$", " ${1} "),
        (r"(\.{2,})", " ${1} "),
        (r"([;@#$%&])", " ${1} "),
        (r"([\x{2012}-\x{2015}])", " ${1} "),
        (r#"([^.])(\.)([\])}>"']*)\s*$"#, "${1} ${2}${3} "),
        (r"([?!])", " ${1} "),
        (r"([^'])' ", "${1} ' "),
        (r"([*])", " ${1} "),
        (r"([\]\[(){}<>])", " ${1} "),
        (r"(--)", " ${1} "),
    ];
    let after = [
        (r"([»”’])", " ${1} "),
        (r"('')", " ${1} "),
        (r#"""#, " '' "),
        (r"\s+", " "),
        (r"([^' ])('[sS]|'[mM]|'[dD]|') ", "${1} ${2} "),
        (r"([^' ])('ll|'LL|'re|'RE|'ve|'VE|n't|N'T) ", "${1} ${2} "),
        (r"(?i)\b(can)(not)\b", " ${1} ${2} "),
        (r"(?i)\b(d)('ye)\b", " ${1} ${2} "),
        (r"(?i)\b(gim)(me)\b", " ${1} ${2} "),
        (r"(?i)\b(gon)(na)\b", " ${1} ${2} "),
        (r"(?i)\b(got)(ta)\b", " ${1} ${2} "),
        (r"(?i)\b(lem)(me)\b", " ${1} ${2} "),
        (r"(?i)\b(more)('n)\b", " ${1} ${2} "),
        (r"(?i)\b(wan)(na)(?=\s)", " ${1} ${2} "),
        (r"(?i) ('t)(is)\b", " ${1} ${2} "),
        (r"(?i) ('t)(was)\b", " ${1} ${2} "),
    ];
    let compile = |rules: &[(&str, &'static str)]| {
        let rules = rules.iter().map(|(pattern, with)| (Regex::new(pattern), *with));
        rules
            .map(|(pattern, with)| (pattern.expect("a pattern of this file"), with))
            .collect()
    };
    [compile(&before), compile(&after)]
});

/// The words of a text, in order.
pub fn words(text: &str) -> Vec<String> {
    let sentences = Splitter::Punkt.split(text);
    sentences.into_iter().flat_map(of_sentence).collect()
}

fn of_sentence(sentence: &str) -> Vec<String> {
    let [before, after] = &*RULES;
    let apply = |text: String, rules: &[Rule]| {
        rules.iter().fold(text, |text, (pattern, with)| {
            pattern.replace_all(&text, *with).into_owned()
        })
    };
    let text = apply(sentence.to_owned(), before);
    let text = apply(format!(" {text} "), after);
    fields(&text).map(str::to_owned).collect()
}
