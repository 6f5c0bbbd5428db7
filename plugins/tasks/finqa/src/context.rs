//! The context of a question: the whole page, the facts it needs, these among distractors, or the choice of a
//! retriever.
//!
//! The decision a newcomer would question: facts and distractors are in the order of the page. Distractors at the end
//! would reveal themselves by their place, and shuffling would lose the order of the report.

use crate::example::{Example, Fact, Spot};
use plugin_api::{Code, Error, Result};
use std::collections::HashSet;

/// Which part of a page is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inputs {
    All,
    Gold,
    NoisyGold(Noise),
    Retrieved,
}

/// How many facts that the question does not need are shown beside those it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Noise {
    pub sentences: usize,
    pub rows: usize,
    pub seed: u64,
}

pub(crate) fn context(example: &Example, inputs: Inputs) -> Result<String> {
    let missing = |field: &str| {
        let message = format!("sample `{}` has no `{field}`", example.id);
        Error::new(Code::DATA, message).help("the rows may have been cut down; choose others of `-T inputs=…`")
    };
    let gold = || example.gold.clone().ok_or_else(|| missing("gold_inds"));
    let facts = match inputs {
        Inputs::All => return page(example).ok_or_else(|| missing("pre_text")),
        Inputs::Gold => in_order(gold()?, example),
        Inputs::NoisyGold(noise) => with_noise(example, gold()?, noise),
        Inputs::Retrieved => in_order(
            example.retrieved.clone().ok_or_else(|| missing("model_input"))?,
            example,
        ),
    };
    let lines: Vec<_> = facts.iter().map(|fact| fact.words.trim()).collect();
    Ok(lines.join("\n"))
}

/// All of it: the sentences before the table, the table a row a line, the sentences after it.
fn page(example: &Example) -> Option<String> {
    let (before, after) = example.texts.as_ref()?;
    let prose = |sentences: &[String]| {
        let told = sentences
            .iter()
            .map(|sentence| sentence.trim())
            .filter(|sentence| says_something(sentence));
        told.collect::<Vec<_>>().join("\n")
    };
    let table: Vec<_> = example.table.iter().map(|row| row.join(" | ")).collect();
    let parts = [prose(before), table.join("\n"), prose(after)];
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    Some(parts.join("\n\n"))
}

/// Many sentences are a lone full stop.
fn says_something(sentence: &str) -> bool {
    sentence.chars().any(char::is_alphanumeric)
}

/// The facts in the order of the page; those without a place come last.
fn in_order(mut facts: Vec<Fact>, example: &Example) -> Vec<Fact> {
    let before = example.texts.as_ref().map_or(usize::MAX, |(before, _)| before.len());
    facts.sort_by_key(|fact| match fact.spot {
        Some(Spot::Sentence(index)) if index < before => (0, index),
        Some(Spot::TableRow(index)) => (1, index),
        Some(Spot::Sentence(index)) => (2, index),
        None => (3, 0),
    });
    facts
}

fn with_noise(example: &Example, gold: Vec<Fact>, noise: Noise) -> Vec<Fact> {
    let taken: HashSet<Spot> = gold.iter().filter_map(|fact| fact.spot).collect();
    let known: HashSet<&str> = gold.iter().map(|fact| fact.words.trim()).collect();
    let free = |fact: &Fact| {
        fact.spot.is_none_or(|spot| !taken.contains(&spot))
            && !known.contains(fact.words.trim())
            && says_something(&fact.words)
    };
    let fact = |spot, words| Fact {
        spot: Some(spot),
        words,
    };
    let sentences = example.sentences().enumerate();
    let sentences = sentences.map(|(index, words)| fact(Spot::Sentence(index), words.clone()));
    let head = example.table.first().map_or(&[][..], Vec::as_slice);
    let rows = example.table.iter().enumerate().skip(1);
    let rows = rows.map(|(index, row)| fact(Spot::TableRow(index), row_in_words(head, row)));
    let mut draws = task::Draws::new(noise.seed, &example.id);
    let mut facts = draws.some(sentences.filter(free).collect(), noise.sentences);
    facts.extend(draws.some(rows.filter(free).collect(), noise.rows));
    facts.extend(gold.iter().cloned());
    in_order(facts, example)
}

/// A row of the table in the words of the published facts.
fn row_in_words(head: &[String], row: &[String]) -> String {
    let mut words = head.first().cloned().unwrap_or_default();
    let name = row.first().map_or("", String::as_str);
    for (column, cell) in head.iter().zip(row).skip(1) {
        words.push_str(&format!(" the {name} of {column} is {cell} ;"));
    }
    words.trim().to_owned()
}
