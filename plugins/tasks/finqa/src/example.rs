//! One row, in any of the published forms.
//!
//! The authors' files keep question, program and answers in an object `qa`; the hub's tables have them flat, with
//! `final_result` for `exe_ans` and the program nested in `program_re`. The private test has neither program nor
//! answer.

use crate::official::{Value, repr, tokens};
use crate::parse_answer;
use data::Row;
use plugin_api::Result;
use serde_json::Value as Json;

#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub id: String,
    pub question: String,
    /// The sentences before the table and after it; none when the row has been cut down to its table.
    pub texts: Option<(Vec<String>, Vec<String>)>,
    pub table: Vec<Vec<String>>,
    /// The program as it is written.
    pub program: Option<String>,
    /// The result of the program.
    pub result: Option<Value>,
    /// The same as Python prints it; none if Python treats it as false, as it does zero.
    pub printed: Option<String>,
    /// The answer as an annotator wrote it; it may be empty, and may differ.
    pub answer: Option<String>,
    /// The facts that the question needs, by the annotators.
    pub gold: Option<Vec<Fact>>,
    /// The facts that a retriever picked.
    pub retrieved: Option<Vec<Fact>>,
}

/// A sentence, or a row of the table in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fact {
    /// Its place in the document, if known.
    pub spot: Option<Spot>,
    pub words: String,
}

/// A place in the document. Sentences are numbered consecutively, those after the table after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Spot {
    Sentence(usize),
    TableRow(usize),
}

impl Spot {
    fn named(name: &str) -> Option<Spot> {
        match name.split_once('_')? {
            ("text", index) => index.parse().ok().map(Spot::Sentence),
            ("table", index) => index.parse().ok().map(Spot::TableRow),
            _ => None,
        }
    }
}

impl Example {
    pub fn read(row: &Row) -> Result<Example> {
        let mut example = Example::read_core(row)?;
        let at = |name: &str| path_of(row, name);
        let lines = |path: &str| -> Result<Option<Vec<String>>> {
            let found = row.at(path).map(|_| row.words(path)).transpose()?;
            Ok(found.map(|lines| lines.into_iter().map(Into::into).collect()))
        };
        example.texts = match (lines("pre_text")?, lines("post_text")?) {
            (None, None) => None,
            (before, after) => Some((before.unwrap_or_default(), after.unwrap_or_default())),
        };
        row.text(&at("question"))?.clone_into(&mut example.question);
        for (path, text) in [("id".to_owned(), &example.id), (at("question"), &example.question)] {
            if text.trim().is_empty() {
                return Err(row.wrong(&path, "is empty"));
            }
        }
        example.gold = first(row, &[at("gold_inds"), at("gold_evidence")], &example)?;
        example.retrieved = first(row, &[at("model_input"), "retrieved_facts".to_owned()], &example)?;
        Ok(example)
    }

    /// What a prediction is scored against: the table, the program and its result.
    pub fn read_core(row: &Row) -> Result<Example> {
        let at = |name: &str| path_of(row, name);
        let rows = 0..row.list("table")?.len();
        let table: Result<Vec<Vec<String>>> = rows
            .map(|index| {
                let cells = row.words(&format!("table.{index}"))?;
                Ok(cells.into_iter().map(Into::into).collect())
            })
            .collect();
        Ok(Example {
            id: row.word("id")?.into_owned(),
            question: String::new(),
            texts: None,
            table: table?,
            program: program(row, &at("program"), &at("program_re"))?,
            result: result(row, &[at("exe_ans"), at("final_result")])?,
            printed: printed(row, &[at("exe_ans"), at("final_result")]),
            answer: row.at(&at("answer")).and_then(|answer| match answer {
                Json::String(text) => Some(text.clone()),
                Json::Number(number) => Some(number.to_string()),
                _ => None,
            }),
            gold: None,
            retrieved: None,
        })
    }

    /// The gold program's tokens.
    pub fn tokens(&self) -> Option<Vec<String>> {
        self.program.as_deref().map(tokens)
    }

    /// All sentences, before the table and after it.
    pub fn sentences(&self) -> impl Iterator<Item = &String> {
        self.texts.iter().flat_map(|(before, after)| before.iter().chain(after))
    }

    /// The place of a fact without a name.
    fn spot_of(&self, words: &str) -> Option<Spot> {
        let sentence = self.sentences().position(|sentence| sentence == words);
        sentence.map(Spot::Sentence)
    }
}

/// The path of a field: within `qa` or beside it.
fn path_of(row: &Row, name: &str) -> String {
    match row.at("qa") {
        Some(_) => format!("qa.{name}"),
        None => name.to_owned(),
    }
}

fn program(row: &Row, plain: &str, nested: &str) -> Result<Option<String>> {
    if row.at(plain).is_some() {
        let program = row.text(plain)?.trim();
        return Ok((!program.is_empty()).then(|| program.to_owned()));
    }
    if row.at(nested).is_none() {
        return Ok(None);
    }
    match parse_answer::program(row.text(nested)?) {
        Some(tokens) => Ok(Some(crate::official::written(&tokens))),
        None => Err(row.wrong(nested, "holds no program")),
    }
}

fn result(row: &Row, paths: &[String]) -> Result<Option<Value>> {
    let Some(path) = paths.iter().find(|path| row.at(path).is_some()) else {
        return Ok(None);
    };
    Ok(Some(match row.at(path) {
        Some(Json::String(text)) => match text.trim().parse() {
            Ok(number) => Value::Number(number),
            Err(_) if text.trim().is_empty() => return Ok(None),
            Err(_) => Value::Text(text.trim().to_owned()),
        },
        _ => Value::Number(row.number(path)?),
    }))
}

fn printed(row: &Row, paths: &[String]) -> Option<String> {
    match paths.iter().find_map(|path| row.at(path))? {
        Json::String(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Json::Number(number) if number.is_f64() => number.as_f64().filter(|number| *number != 0.0).map(repr),
        Json::Number(number) => Some(number.to_string()).filter(|text| text != "0"),
        _ => None,
    }
}

/// The facts under the first of these fields that is there: by name, as pairs, or as bare sentences.
fn first(row: &Row, paths: &[String], example: &Example) -> Result<Option<Vec<Fact>>> {
    let Some((path, value)) = paths.iter().find_map(|path| Some((path, row.at(path)?))) else {
        return Ok(None);
    };
    let fact = |name: &str, words: &str| Fact {
        spot: Spot::named(name),
        words: words.to_owned(),
    };
    let facts: Option<Vec<Fact>> = match value {
        Json::Object(named) => {
            let facts = named.iter().map(|(name, words)| Some(fact(name, words.as_str()?)));
            facts.collect()
        }
        Json::Array(items) => {
            let facts = items.iter().map(|item| match item {
                Json::String(words) => Some(Fact {
                    spot: example.spot_of(words),
                    words: words.clone(),
                }),
                Json::Array(pair) => match pair.as_slice() {
                    [Json::String(name), Json::String(words)] => Some(fact(name, words)),
                    _ => None,
                },
                _ => None,
            });
            facts.collect()
        }
        _ => None,
    };
    let expected =
        "is not a list of facts: expected an object of sentences, a list of them, or a list of names with sentences";
    facts.map(Some).ok_or_else(|| row.wrong(path, expected))
}
