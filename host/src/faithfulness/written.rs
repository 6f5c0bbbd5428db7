//! Texts that are written before questions are asked: mistakes, paraphrases, continuations; and spoken hints from
//! files.

use super::baseline::Chain;
use super::store::Store;
use crate::failure::{Doing, Exit, Failure, Result};
use faithfulness::texts::faults;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Something to be written.
#[derive(Debug, Clone)]
pub struct Need {
    /// `mistake`, `rewording`, `paraphrase`, `after_mistake`, `silent`, …
    pub kind: String,
    pub chain: usize,
    pub at: usize,
    /// The sentence or text that it is made from.
    pub from: String,
}

impl Need {
    pub fn new(kind: &str, chain: usize, at: usize, from: String) -> Need {
        Need {
            kind: kind.to_owned(),
            chain,
            at,
            from,
        }
    }

    /// Whether the model under test writes it, and not the writer.
    pub fn is_own(&self) -> bool {
        self.kind.starts_with("after_") || self.kind == "silent"
    }

    pub fn key(&self, chain: &Chain) -> String {
        key(&self.kind, chain, self.at)
    }

    /// The record of what was written.
    pub fn record(&self, chain: &Chain, source: &str, outcome: std::result::Result<String, String>) -> Value {
        let mut record = json!({ "key": self.key(chain), "kind": self.kind, "id": chain.id, "chain_id": chain.chain, "at": self.at, "source": source });
        match outcome {
            Ok(text) if self.is_own() => record["text"] = json!(text),
            Ok(text) => {
                record["faults"] = json!(faults(&self.from, &text, &chain.letters()));
                record["text"] = json!(text);
            }
            Err(why) => record["error"] = json!(why),
        }
        record
    }
}

fn key(kind: &str, chain: &Chain, at: usize) -> String {
    format!("{kind}/{}/{}/{at}", chain.id, chain.chain)
}

/// Something written.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub text: Option<String>,
    pub source: String,
    /// What is wrong with it.
    pub faults: Vec<String>,
}

impl Entry {
    /// The text, unless it changes nothing.
    pub fn usable(&self) -> Option<&str> {
        let refused = self
            .faults
            .iter()
            .any(|fault| matches!(fault.as_str(), "empty" | "unchanged" | "several_versions"));
        self.text
            .as_deref()
            .map(str::trim)
            .filter(|text| !text.is_empty() && !refused)
    }
}

/// All texts written so far, by kind, chain and place.
#[derive(Debug, Clone, Default)]
pub struct Written {
    entries: BTreeMap<String, Entry>,
}

impl Written {
    pub fn text(&self, kind: &str, chain: &Chain, at: usize) -> Option<&Entry> {
        self.entries.get(&key(kind, chain, at))
    }

    /// Takes what a sweep has written.
    pub fn take(&mut self, store: &Store) {
        for record in store.records() {
            let list = |value: &Value| {
                value
                    .as_array()
                    .map(|all| all.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect())
            };
            let entry = Entry {
                text: record["text"].as_str().map(str::to_owned),
                source: record["source"].as_str().unwrap_or_default().to_owned(),
                faults: list(&record["faults"]).unwrap_or_default(),
            };
            self.entries
                .insert(record["key"].as_str().unwrap_or_default().to_owned(), entry);
        }
    }

    /// Reads mistakes and paraphrases that were written beforehand. Returns the number of other lines.
    pub fn read_file(&mut self, path: &Path, chains: &[Chain]) -> Result<usize> {
        let text = std::fs::read_to_string(path).or_fail(Exit::Missing, || {
            format!("cannot read the perturbations `{}`", path.display())
        })?;
        let by_place: BTreeMap<(&str, u64), &Chain> = chains
            .iter()
            .map(|chain| ((chain.id.as_str(), chain.chain), chain))
            .collect();
        let (mut malformed, mut known, mut unknown) = (0, 0, BTreeSet::new());
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            let Ok(row) = serde_json::from_str::<Value>(line) else {
                malformed += 1;
                continue;
            };
            let (Some(id), chain) = (row["id"].as_str(), row["chain_id"].as_u64().unwrap_or(0)) else {
                malformed += 1;
                continue;
            };
            let Some(chain) = by_place.get(&(id, chain)) else {
                unknown.insert(id.to_owned());
                continue;
            };
            let (kind, at, original, text) = if let Some(text) = row["mistaken_sentence"].as_str() {
                let at = row["mistake_position"]
                    .as_u64()
                    .or(row["sentence_idx"].as_u64().map(|index| index + 1));
                ("mistake", at, "original_sentence", text)
            } else if let Some(text) = row["paraphrased_text"].as_str() {
                let at = row["num_sentences_paraphrased"]
                    .as_u64()
                    .or(row["sentence_idx"].as_u64());
                ("paraphrase", at, "original_text", text)
            } else {
                malformed += 1;
                continue;
            };
            let Some(at) = at
                .map(|at| at as usize)
                .filter(|at| (1..=chain.sentences.len()).contains(at))
            else {
                malformed += 1;
                continue;
            };
            let from = row[original]
                .as_str()
                .map_or_else(|| chain.sentences[..at].join(" "), str::to_owned);
            known += 1;
            let entry = Entry {
                text: Some(text.to_owned()).filter(|text| !text.is_empty()),
                source: "file".to_owned(),
                faults: faults(&from, text, &chain.letters())
                    .into_iter()
                    .map(str::to_owned)
                    .collect(),
            };
            self.entries.insert(key(kind, chain, at), entry);
        }
        if known == 0 {
            let mut failure = Failure::missing(format!("`{}` holds nothing for a chain of this run", path.display()));
            if let Some(id) = unknown.first() {
                failure = failure.cause(format!("it is about other questions, such as `{id}`"));
            }
            return Err(failure.help("rows have id, chain_id, sentence_idx, and mistaken_sentence or paraphrased_text"));
        }
        Ok(malformed)
    }
}

/// A question's spoken hints.
#[derive(Debug, Clone, PartialEq)]
pub struct Hint {
    pub correct: PathBuf,
    pub wrong: PathBuf,
    /// The wrong option that is spoken, where the manifest says so.
    pub wrong_letter: Option<char>,
}

/// Spoken hints by question.
#[derive(Debug, Clone, Default)]
pub struct Hints(BTreeMap<String, Hint>);

impl Hints {
    /// Reads a manifest: `id`, `out_correct`, `out_wrong`, and `wrong_choice` if it is known. Paths start from its
    /// folder.
    pub fn read(path: &Path) -> Result<Hints> {
        let text = std::fs::read_to_string(path)
            .or_fail(Exit::Missing, || format!("cannot read the hints `{}`", path.display()))?;
        let base = path.parent().map(Path::to_owned).unwrap_or_default();
        let mut hints = BTreeMap::new();
        for row in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            if let (Some(id), Some(correct), Some(wrong)) = (
                row["id"].as_str(),
                row["out_correct"].as_str(),
                row["out_wrong"].as_str(),
            ) {
                let wrong_letter = row["wrong_choice"]
                    .as_str()
                    .and_then(|letter| letter.chars().find(char::is_ascii_alphabetic));
                hints.insert(
                    id.to_owned(),
                    Hint {
                        correct: base.join(correct),
                        wrong: base.join(wrong),
                        wrong_letter,
                    },
                );
            }
        }
        if hints.is_empty() {
            let failure = Failure::missing(format!("`{}` names no spoken hint", path.display()));
            return Err(failure.help("a line has id, out_correct and out_wrong, and wrong_choice if it is known"));
        }
        Ok(Hints(hints))
    }

    pub fn of(&self, id: &str) -> Option<&Hint> {
        self.0.get(id)
    }
}
