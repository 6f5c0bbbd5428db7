//! The run that a sweep is about: its chains, each with reasoning and answer.

use crate::failure::{Doing, Exit, Failure, Result};
use faithfulness::Splitter;
use faithfulness::letters::labelled;
use faithfulness::reasoning::{Leak, Sanitizer, loops, within_tags};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::Path;

/// One answer to one question, with the reasoning that is stated for it.
#[derive(Debug, Clone)]
pub struct Chain {
    pub key: String,
    pub doc_id: u64,
    pub id: String,
    pub chain: u64,
    pub doc: Value,
    /// The texts of the options; none for a task without.
    pub options: Vec<String>,
    /// The parsed answer: a letter, or text.
    pub answer: Option<String>,
    pub truth: Option<String>,
    pub right: bool,
    pub raw: String,
    /// The reasoning as it was given, and whether it came in a thinking block.
    pub reasoning: String,
    pub thought: bool,
    /// The reasoning without the statement of the answer.
    pub sanitized: String,
    pub sentences: Vec<String>,
    pub cluster: String,
    pub audio: Option<String>,
    pub leak: Leak,
    pub loops: bool,
}

impl Chain {
    pub fn letters(&self) -> Vec<char> {
        ('A'..='Z').take(self.options.len()).collect()
    }

    /// The options as rows of letters and texts.
    pub fn choices(&self) -> String {
        labelled(&self.options).join("\n")
    }

    pub fn sentences(&self) -> Vec<&str> {
        self.sentences.iter().map(String::as_str).collect()
    }

    /// What the question asks, in the data's own words where they are known.
    pub fn question(&self, fallback: &str) -> String {
        let known = ["stem", "question", "instruction", "prompt"]
            .iter()
            .find_map(|key| self.doc[*key].as_str());
        known.unwrap_or(fallback).trim().to_owned()
    }
}

/// How chains are read.
#[derive(Debug, Clone, Copy)]
pub struct Reading {
    pub splitter: Splitter,
    pub sanitizer: Option<Sanitizer>,
}

/// A run's chains.
#[derive(Debug, Clone)]
pub struct Baseline {
    pub chains: Vec<Chain>,
    /// The hash of everything that was recorded of them.
    pub hash: String,
    /// Records without a reply, or whose reply holds no reasoning.
    pub failed: usize,
    pub without_reasoning: usize,
}

impl Baseline {
    pub fn read(run: &Path, reading: Reading) -> Result<Baseline> {
        let file = run.join("samples.jsonl");
        if !file.exists() {
            let message = format!("`{}` is not a run directory: it has no samples.jsonl", run.display());
            return Err(Failure::missing(message).help("`host ls runs` lists the runs"));
        }
        let text = std::fs::read(&file).or_fail(Exit::Missing, || format!("cannot read `{}`", file.display()))?;
        let mut baseline = Baseline {
            chains: Vec::new(),
            hash: String::new(),
            failed: 0,
            without_reasoning: 0,
        };
        let mut found: std::collections::BTreeMap<(u64, u64), Value> = std::collections::BTreeMap::new();
        for line in text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.trim_ascii().is_empty())
        {
            // A last line that was cut short is the work of a kill, and is asked again by the run itself.
            let Ok(record) = serde_json::from_slice::<Value>(line) else {
                continue;
            };
            if record["variant"].is_string() {
                continue;
            }
            let place = (
                record["doc_id"].as_u64().unwrap_or(0),
                record["chain"].as_u64().unwrap_or(0),
            );
            found.insert(place, record);
        }
        let mut hasher = Sha256::new();
        for ((doc_id, chain), record) in &found {
            let reply = &record["reply"];
            for part in [
                &record["key"],
                &reply["text"],
                &reply["thinking"],
                &record["filtered_resps"],
            ] {
                hasher.update(part.to_string());
                hasher.update(b"\n");
            }
            match read_chain(record, *doc_id, *chain, reading) {
                None => baseline.failed += 1,
                Some(chain) if chain.sentences.is_empty() => {
                    baseline.without_reasoning += 1;
                    baseline.chains.push(chain);
                }
                Some(chain) => baseline.chains.push(chain),
            }
        }
        baseline.hash = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(baseline)
    }
}

fn read_chain(record: &Value, doc_id: u64, chain: u64, reading: Reading) -> Option<Chain> {
    let text = record["reply"]["text"].as_str()?;
    let details = &record["details"];
    let thinking = record["reply"]["thinking"]
        .as_str()
        .map(str::trim)
        .filter(|text| !text.is_empty());
    // The reasoning according to the task comes first, then tags, then everything before the answer.
    let by_task = record["scores"]
        .as_object()
        .and_then(|scores| scores.values().find_map(|score| score["reasoning"].as_str()))
        .or_else(|| details["reasoning"].as_str())
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let (reasoning, default) = match (thinking, by_task) {
        (Some(thinking), _) => (thinking, Sanitizer::Whole),
        (None, Some(reasoning)) => (reasoning, Sanitizer::Whole),
        (None, None) if within_tags(text) != text.trim() => (text, Sanitizer::Tags),
        // A reply without an answer does not end with a statement of one.
        (None, None) if record["status"] == "no_answer" => (text, Sanitizer::Whole),
        (None, None) => (text, Sanitizer::R2),
    };
    let sanitized = reading.sanitizer.unwrap_or(default).sanitize(reasoning);
    let sentences: Vec<String> = reading
        .splitter
        .split(&sanitized)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let options: Vec<String> = list(&record["choices"]);
    let answer = record["filtered_resps"][0].as_str().map(str::to_owned);
    let said = match record["status"].as_str() {
        Some("no_answer") => None,
        _ => details["letter"].as_str().map(str::to_owned).or(answer),
    };
    let letter = said.as_deref().and_then(|said| option_of(said, &options));
    let truth = record["target"]
        .as_str()
        .map(str::to_owned)
        .or_else(|| record["target"].as_i64().map(|n| n.to_string()));
    let right = record["metrics"]
        .as_object()
        .and_then(|metrics| metrics.values().next()?.as_f64())
        == Some(1.0);
    let offered: Vec<char> = ('A'..='Z').take(options.len()).collect();
    let chosen = letter
        .and_then(|letter| options.get(letter as usize - 'A' as usize))
        .cloned();
    let id = record["sample_id"].as_str().unwrap_or_default().to_owned();
    let pieces: Vec<&str> = sentences.iter().map(String::as_str).collect();
    Some(Chain {
        key: record["key"].as_str().unwrap_or_default().to_owned(),
        doc_id,
        chain,
        doc: record["doc"].clone(),
        answer: match options.is_empty() {
            true => said,
            false => letter.map(String::from),
        },
        truth: match options.is_empty() {
            true => truth,
            false => truth.and_then(|truth| option_of(&truth, &options)).map(String::from),
        },
        right,
        raw: text.to_owned(),
        thought: thinking.is_some(),
        reasoning: reasoning.to_owned(),
        leak: Leak::of(&sanitized, &offered, chosen.as_deref()),
        loops: loops(&pieces),
        sanitized,
        sentences,
        cluster: record["cluster"].as_str().map_or_else(|| id.clone(), str::to_owned),
        audio: record["doc"]["file"].as_str().map(str::to_owned),
        options,
        id,
    })
}

fn list(value: &Value) -> Vec<String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

/// The letter of an option that a text names: by its letter, its place, or its words.
pub fn option_of(said: &str, options: &[String]) -> Option<char> {
    let fold = |text: &str| {
        let text = text.trim();
        let bare = text
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'))
            .map_or(text, |(_, rest)| rest);
        bare.trim().to_lowercase()
    };
    let letter = said.trim().trim_start_matches('(').trim_end_matches(['.', ')']);
    let mut chars = letter.chars();
    if let (Some(letter), None) = (chars.next(), chars.next())
        && letter.is_ascii_alphabetic()
    {
        let letter = letter.to_ascii_uppercase();
        return ((letter as usize - 'A' as usize) < options.len()).then_some(letter);
    }
    let by_text = options
        .iter()
        .position(|option| option.trim() == said.trim() || fold(option) == fold(said));
    let index = by_text.or_else(|| letter.parse().ok().filter(|index: &usize| *index < options.len()));
    index.and_then(|index| ('A'..='Z').nth(index))
}
