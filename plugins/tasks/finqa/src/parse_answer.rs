//! Programs and values out of what a model wrote.
//!
//! The decision a newcomer would question: parsing is lenient, and scoring is not. Fences, prose, labels, nested
//! calls, capitals and dollar signs are removed; the remaining tokens are scored by the official rules. Of several
//! programs the last one counts, since models reason first.

use crate::official::{END, OPERATORS, Value};

/// The tokens of the last program in a text, `EOF` at their end.
pub(crate) fn program(text: &str) -> Option<Vec<String>> {
    let text = after_thinking(text);
    listed(text).or_else(|| {
        let calls = last_run(text, calls(text))?;
        Some(Steps::of(&calls).tokens())
    })
}

/// What follows a model's reasoning, where it wrote that into the answer.
fn after_thinking(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, after)| after).trim()
}

/// A list of tokens, in the format of prediction files.
fn listed(text: &str) -> Option<Vec<String>> {
    let start = text.find('[')?;
    let end = text.rfind(']')?;
    // A list must be alone, except for a fence around it: elsewhere, brackets are prose.
    let alone = [&text[..start], &text[end + 1..]].map(|around| around.trim_matches(['`', '\n', ' ']));
    if start > end || !matches!(alone, ["" | "json", ""]) {
        return None;
    }
    let list: Vec<String> = serde_json::from_str(&text[start..=end]).ok()?;
    let first = list.first()?.trim_end_matches('(');
    if !OPERATORS.contains(&first) {
        return None;
    }
    let ended = list.last().is_some_and(|last| last == END);
    Some(list.into_iter().chain((!ended).then(|| END.to_owned())).collect())
}

/// An operator with its arguments.
#[derive(Debug, PartialEq)]
struct Call {
    operator: &'static str,
    arguments: [Argument; 2],
    /// Where it stands in the text.
    span: (usize, usize),
}

#[derive(Debug, PartialEq)]
enum Argument {
    Text(String),
    Call(Box<Call>),
}

/// Limits on the length of a call or value in bytes, on nesting, and on the number of calls; only a looping model
/// exceeds them.
const LONGEST: usize = 1000;
const DEEPEST: usize = 16;
const MOST_CALLS: usize = 500;

/// All outermost calls of a text, in order.
fn calls(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    let mut from = 0;
    while let Some(open) = text[from..].find('(').map(|at| from + at) {
        match call(text, from, open, DEEPEST) {
            Some(call) => {
                from = call.span.1;
                calls.push(call);
            }
            None => from = open + 1,
        }
    }
    let surplus = calls.len().saturating_sub(MOST_CALLS);
    calls.split_off(surplus)
}

/// The call whose opening bracket stands at `open` and whose operator begins no earlier than `from`.
fn call(text: &str, from: usize, open: usize, depth: usize) -> Option<Call> {
    let (operator, start) = operator_before(&text[from..open])?;
    let (inside, close) = bracketed(text, open)?;
    let arguments = match operator.starts_with("table") {
        true => row_and_none(inside)?.map(Argument::Text),
        false => {
            let [first, second] = two_parts(inside)?;
            [argument(first, depth)?, argument(second, depth)?]
        }
    };
    Some(Call {
        operator,
        arguments,
        span: (from + start, close),
    })
}

/// A nested call, or anything else as it is; none where a call is broken or too deep.
fn argument(text: &str, depth: usize) -> Option<Argument> {
    let text = text.trim();
    let operator = text.find('(').filter(|open| operator_before(&text[..*open]).is_some());
    let Some(open) = operator else {
        return Some(Argument::Text(bare_number(text)));
    };
    let nested = call(text, 0, open, depth.checked_sub(1)?)?;
    (nested.span == (0, text.len())).then(|| Argument::Call(Box::new(nested)))
}

/// The operator that a text ends with, and where it starts.
fn operator_before(text: &str) -> Option<(&'static str, usize)> {
    let text = text.trim_end();
    let letters = text
        .bytes()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let start = text.len() - letters.count();
    let known = OPERATORS
        .into_iter()
        .find(|operator| operator.eq_ignore_ascii_case(&text[start..]));
    known.map(|operator| (operator, start))
}

/// What stands between a bracket and its partner, and where that ends.
fn bracketed(text: &str, open: usize) -> Option<(&str, usize)> {
    let mut depth = 0_usize;
    for (at, byte) in text.bytes().enumerate().skip(open).take(LONGEST) {
        match byte {
            b'(' if depth > DEEPEST => return None,
            b'(' => depth += 1,
            b')' if depth == 1 => return Some((&text[open + 1..at], at + 1)),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The two arguments. If commas also separate thousands, the one with a blank after it separates arguments.
fn two_parts(inside: &str) -> Option<[&str; 2]> {
    let commas = outer_commas(inside);
    let spaced = commas
        .iter()
        .copied()
        .filter(|at| inside[at + 1..].starts_with(char::is_whitespace));
    let spaced: Vec<usize> = spaced.collect();
    match (commas.as_slice(), spaced.as_slice()) {
        ([at], _) | (_, [at]) => Some([&inside[..*at], &inside[at + 1..]]),
        _ => None,
    }
}

fn outer_commas(inside: &str) -> Vec<usize> {
    let mut depth = 0_usize;
    let mut commas = Vec::new();
    for (at, byte) in inside.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => commas.push(at),
            _ => {}
        }
    }
    commas
}

/// A row's name and the word `none`, which may have been left out.
fn row_and_none(inside: &str) -> Option<[String; 2]> {
    let (name, rest) = match outer_commas(inside).last() {
        Some(at) if is_none(&inside[at + 1..]) => (&inside[..*at], "none"),
        _ => (inside, "none"),
    };
    let name = unquoted(name);
    (!name.is_empty()).then(|| [name.to_owned(), rest.to_owned()])
}

fn is_none(text: &str) -> bool {
    let text = unquoted(text);
    text.is_empty() || text.eq_ignore_ascii_case("none") || text.eq_ignore_ascii_case("null")
}

fn unquoted(text: &str) -> &str {
    let text = text.trim();
    let inner = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    ['"', '\'', '`'].into_iter().find_map(inner).map_or(text, str::trim)
}

/// A number without currency, thousands separators, and the blank before a percent sign.
fn bare_number(text: &str) -> String {
    let text = unquoted(text);
    let bare = text.replacen('$', "", 1).replace(" %", "%");
    let bare = bare.trim();
    let number = bare.trim_start_matches('-').trim_end_matches('%').trim();
    if score::number(number).is_none() || number.starts_with(['$', '+']) {
        return text.to_owned();
    }
    bare.replace(',', "").replace("- ", "-")
}

/// The calls of the last program: those that only separators and labels follow, and earlier ones that they refer to.
fn last_run(text: &str, mut calls: Vec<Call>) -> Option<Vec<Call>> {
    let mut start = calls.len().checked_sub(1)?;
    while start > 0 {
        let between = &text[calls[start - 1].span.1..calls[start].span.0];
        let dangling = || {
            let run = calls[start..].iter().enumerate();
            run.into_iter()
                .any(|(index, call)| call.highest_reference().is_some_and(|highest| highest >= index))
        };
        if !is_separator(between) && !dangling() {
            break;
        }
        start -= 1;
    }
    Some(calls.split_off(start))
}

/// Whether there is only punctuation, numbers and counting words between two steps.
fn is_separator(between: &str) -> bool {
    let mut words = between
        .split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty());
    words.all(|word| {
        word.bytes().all(|byte| byte.is_ascii_digit())
            || ["step", "then", "and", "next"]
                .iter()
                .any(|known| known.eq_ignore_ascii_case(word))
    })
}

impl Call {
    fn highest_reference(&self) -> Option<usize> {
        let highest = self.arguments.iter().map(|argument| match argument {
            Argument::Text(text) => reference(text),
            Argument::Call(call) => call.highest_reference(),
        });
        highest.max().flatten()
    }
}

fn reference(text: &str) -> Option<usize> {
    text.strip_prefix('#')?.trim().parse().ok()
}

/// Calls written out one after another, nested ones before those they stand in.
struct Steps {
    tokens: Vec<String>,
    count: usize,
    /// For each outermost call, the step that holds its result.
    results: Vec<usize>,
}

impl Steps {
    fn of(calls: &[Call]) -> Steps {
        let mut steps = Steps {
            tokens: Vec::new(),
            count: 0,
            results: Vec::new(),
        };
        for call in calls {
            let result = steps.add(call);
            steps.results.push(result);
        }
        steps
    }

    fn tokens(mut self) -> Vec<String> {
        self.tokens.push(END.to_owned());
        self.tokens
    }

    fn add(&mut self, call: &Call) -> usize {
        let arguments = call.arguments.each_ref().map(|argument| match argument {
            Argument::Call(call) => format!("#{}", self.add(call)),
            Argument::Text(text) => match reference(text).and_then(|index| self.results.get(index)) {
                Some(step) => format!("#{step}"),
                None => text.clone(),
            },
        });
        let [first, second] = arguments;
        self.tokens
            .extend([format!("{}(", call.operator), first, second, ")".to_owned()]);
        self.count += 1;
        self.count - 1
    }
}

/// Phrases before a conclusion.
const MARKS: [&str; 4] = ["answer:", "answer is", "answer**:", "answer:**"];

/// The part of a reply that states its answer: what follows the last `Answer:`, or its last line.
pub(crate) fn conclusion(text: &str) -> &str {
    let text = after_thinking(text);
    let plain = text.to_ascii_lowercase(); // changes no byte's place
    let marked = MARKS
        .iter()
        .filter_map(|mark| plain.rfind(mark).map(|at| at + mark.len()))
        .max();
    let stated = match marked {
        Some(at) => text[at..].trim().lines().next(),
        None => text.lines().rev().find(|line| !line.trim().is_empty()),
    };
    let stated = stated.unwrap_or_default().trim().trim_matches(['*', '`', '"', ' ']);
    boxed(stated).unwrap_or(stated)
}

fn boxed(text: &str) -> Option<&str> {
    let (_, inside) = text.split_once("\\boxed{")?;
    inside.split_once('}').map(|(inside, _)| inside)
}

/// The number, or yes or no, that a reply concludes with; percentages become fractions.
pub(crate) fn value(text: &str) -> Option<Value> {
    let stated = conclusion(text)
        .replace("\\%", "%")
        .replace("\\$", "$")
        .replace("$ ", "$")
        .replace(" %", "%");
    let words = stated.split(|letter: char| !letter.is_alphabetic());
    let said: Vec<String> = words.map(str::to_ascii_lowercase).collect();
    let says = |word: &str| said.iter().any(|said| said == word);
    match (says("yes"), says("no")) {
        (true, false) => return Some(Value::Text("yes".to_owned())),
        (false, true) if said[0] == "no" => return Some(Value::Text("no".to_owned())),
        (true, true) => return None,
        _ => {}
    }
    let number = match stated.rsplit_once('=') {
        // In a calculation, the part after its last equals sign.
        Some((_, result)) => score::only_number(result.trim()),
        None => score::only_number(stated.trim()),
    }?;
    let percent = stated.contains('%') || says("percent");
    Some(Value::Number(if percent { number / 100.0 } else { number }))
}

#[cfg(test)]
mod tests;
