//! The rules themselves.

use plugin_api::{Code, Error, Result, Settings};
use regex::{Regex, RegexBuilder};
use score::{is_close, normalised, number, only_number};

/// The result of a comparison, and why.
pub(crate) enum Ruled {
    Right(String),
    Wrong(String),
    Unclear(String),
}

pub(crate) enum Rule {
    Exact { ignore_case: bool },
    Normalised,
    Pattern(Pattern),
    Number { tolerance: f64, relative: bool },
}

pub(crate) struct Pattern {
    text: String,
    ignore_case: bool,
    /// Compiled once if it does not contain the target.
    fixed: Option<Regex>,
}

/// The placeholder of the target in a pattern. It is not a valid regex itself, so it cannot mean anything else.
const TARGET: &str = "{target}";

const RULES: [&str; 4] = ["exact", "normalised", "regex", "number"];

impl Rule {
    pub fn load(settings: &Settings) -> Result<Rule> {
        let rule: String = settings.or("rule", "normalised".to_owned())?;
        let ignore_case = settings.or("ignore_case", false)?;
        let pattern: Option<String> = settings.get("pattern")?;
        if pattern.is_some() && rule != "regex" {
            let message = format!("setting `pattern` is given, but the rule is `{rule}`");
            return Err(Error::new(Code::SETTINGS, message).help("add `-J rule=regex`"));
        }
        match rule.as_str() {
            "exact" => Ok(Rule::Exact { ignore_case }),
            "normalised" => Ok(Rule::Normalised),
            "regex" => match pattern {
                Some(pattern) => Ok(Rule::Pattern(Pattern::new(pattern, ignore_case)?)),
                None => {
                    let error = Error::new(Code::SETTINGS, "rule `regex` needs the setting `pattern`");
                    Err(error.help("for instance `-J pattern='answer is {target}'`"))
                }
            },
            "number" => {
                let tolerance: f64 = settings.or("tolerance", 0.0)?;
                let relative = settings.or("relative", false)?;
                if !(tolerance >= 0.0 && tolerance.is_finite()) {
                    let message = format!("setting `tolerance` is {tolerance}, expected 0 or more");
                    return Err(Error::new(Code::SETTINGS, message));
                }
                Ok(Rule::Number { tolerance, relative })
            }
            other => Err(not_among("rule", other, &RULES)),
        }
    }

    pub fn word(&self) -> &'static str {
        match self {
            Rule::Exact { .. } => RULES[0],
            Rule::Normalised => RULES[1],
            Rule::Pattern(_) => RULES[2],
            Rule::Number { .. } => RULES[3],
        }
    }

    /// Compares an answer with the targets; one match is enough.
    pub fn compare(&self, answer: &str, targets: &[String]) -> Ruled {
        match self {
            Rule::Exact { ignore_case: false } => equal(answer, targets, |text| text.trim().to_owned()),
            Rule::Exact { ignore_case: true } => equal(answer, targets, |text| text.trim().to_lowercase()),
            Rule::Normalised => equal(answer, targets, normalised),
            Rule::Pattern(pattern) => pattern.compare(answer, targets),
            Rule::Number { tolerance, relative } => close(answer, targets, *tolerance, *relative),
        }
    }
}

impl Pattern {
    fn new(text: String, ignore_case: bool) -> Result<Pattern> {
        let sample = compile(&text.replace(TARGET, "target"), ignore_case).map_err(|why| {
            let error = Error::new(
                Code::SETTINGS,
                format!("setting `pattern` is not a regular expression: `{text}`"),
            );
            error.cause(why)
        })?;
        let fixed = (!text.contains(TARGET)).then_some(sample);
        Ok(Pattern {
            text,
            ignore_case,
            fixed,
        })
    }

    fn compare(&self, answer: &str, targets: &[String]) -> Ruled {
        if let Some(regex) = &self.fixed {
            return matched(regex, answer, targets);
        }
        let mut last = Ruled::Unclear(String::new());
        for target in targets {
            let filled = self.text.replace(TARGET, &format!("(?:{})", regex::escape(target)));
            last = match compile(&filled, self.ignore_case) {
                Ok(regex) => matched(&regex, answer, std::slice::from_ref(target)),
                Err(why) => Ruled::Unclear(format!("the pattern fails with the target `{}`: {why}", short(target))),
            };
            if matches!(last, Ruled::Right(_)) {
                break;
            }
        }
        last
    }
}

fn compile(pattern: &str, ignore_case: bool) -> std::result::Result<Regex, String> {
    let built = RegexBuilder::new(pattern).case_insensitive(ignore_case).build();
    built.map_err(|why| why.to_string())
}

fn matched(regex: &Regex, answer: &str, targets: &[String]) -> Ruled {
    let groups = regex.captures_len() > 1;
    match regex.captures(answer) {
        Some(found) if groups => match found.iter().skip(1).flatten().next() {
            Some(captured) => equal(captured.as_str(), targets, normalised),
            None => Ruled::Unclear("no group of the pattern took part in its match".to_owned()),
        },
        Some(_) => Ruled::Right("the pattern matches".to_owned()),
        None if groups => Ruled::Unclear("the pattern finds no answer".to_owned()),
        None => Ruled::Wrong("the pattern doesn't match".to_owned()),
    }
}

fn equal(answer: &str, targets: &[String], plain: impl Fn(&str) -> String) -> Ruled {
    let said = plain(answer);
    match targets.iter().find(|target| plain(target) == said) {
        Some(target) => Ruled::Right(format!("`{}` is the target `{}`", short(answer), short(target))),
        None => Ruled::Wrong(format!("`{}` is not {}", short(answer), listed(targets))),
    }
}

fn close(answer: &str, targets: &[String], tolerance: f64, relative: bool) -> Ruled {
    let mut numbers = Vec::new();
    for target in targets {
        match number(target) {
            Some(number) => numbers.push(number),
            None => return Ruled::Unclear(format!("the target `{}` is not a number", short(target))),
        }
    }
    let Some(said) = only_number(answer) else {
        return Ruled::Unclear(format!("`{}` is not a number and names no single one", short(answer)));
    };
    match numbers
        .iter()
        .find(|target| is_close(said, **target, tolerance, relative))
    {
        Some(target) => Ruled::Right(format!("{said} is within the tolerance of {target}")),
        None => Ruled::Wrong(format!("{said} is not {}", listed(targets))),
    }
}

fn listed(targets: &[String]) -> String {
    let names: Vec<_> = targets
        .iter()
        .take(5)
        .map(|target| format!("`{}`", short(target)))
        .collect();
    let more = if targets.len() > names.len() { ", …" } else { "" };
    match names.as_slice() {
        [only] => only.clone(),
        several => format!("one of {}{more}", several.join(", ")),
    }
}

fn short(text: &str) -> String {
    let mut line: String = text
        .trim()
        .chars()
        .take(60)
        .collect::<String>()
        .escape_debug()
        .to_string();
    if text.trim().chars().nth(60).is_some() {
        line.push('…');
    }
    line
}

pub(crate) fn not_among(name: &str, given: &str, known: &[&str]) -> Error {
    let words: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
    let message = format!("setting `{name}` is `{given}`, expected one of {}", words.join(", "));
    Error::new(Code::SETTINGS, message)
}
