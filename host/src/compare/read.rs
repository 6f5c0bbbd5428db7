//! A run directory as one side of a comparison.

use super::side::{Entries, Figures, Key, Part, Side, UNSCORED};
use crate::failure::Result;
use crate::run::recorded::Recorded;
use crate::run::store::hash::{hash_all, hash_json};
use crate::run::store::record::Record;
use crate::run::store::score::{JUDGED, ScoreEntry, ScoreStatus};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// The key in a score's details for the two sums of a ratio over all samples: `{"slu_f1": [above, below]}`.
const RATIOS: &str = "ratios";

impl Side {
    /// Reads a run's figures.
    pub fn read(path: &Path) -> Result<Side> {
        let run = Recorded::open(path)?;
        let results = run.results()?;
        let task = results["versions"].as_object().and_then(|map| map.keys().next());
        let task = task.cloned().unwrap_or_default();
        let mut side = Side {
            name: name_of(path),
            path: path.display().to_string(),
            facts: facts(results, &task),
            finished: !has_mark(results, "incomplete"),
            ..Side::default()
        };
        for (name, higher) in results["higher_is_better"][&task].as_object().unwrap_or(&Map::new()) {
            side.order.push(name.clone());
            side.higher_is_better
                .insert(name.clone(), higher.as_bool().unwrap_or(true));
        }
        side.entries = Entries::of(run.len());
        let mut reader = run.reader()?;
        for place in &run.places {
            let record = reader.read_at(*place)?;
            side.entries.add(Key::of(&record), figures(&record, *place, &task));
        }
        drop(reader);
        side.entries.sort();
        side.run = Some(run.unlocked());
        Ok(side)
    }
}

/// The last part of the path, which is the run's own name wherever it lies.
fn name_of(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = whole.file_name().unwrap_or(whole.as_os_str());
    name.to_string_lossy().into_owned()
}

fn has_mark(results: &Value, mark: &str) -> bool {
    let marks = results["host"]["marks"].as_array().into_iter().flatten();
    marks.filter_map(Value::as_str).any(|known| known.starts_with(mark))
}

/// The facts in which both sides must agree. The place and build of a plugin's file change no score.
fn facts(results: &Value, task: &str) -> BTreeMap<String, String> {
    let host = &results["host"];
    let mut scorer = host["identity"]["task"].clone();
    let short = |value: &Value| match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => hash_json(other)[..12].to_owned(),
    };
    let mut data = Map::new();
    if let Some(map) = scorer.as_object_mut() {
        for name in ["plugin_sha256", "plugin_version", "plugin", "version"] {
            map.remove(name);
        }
        for name in ["files", "data", "resources"] {
            data.extend(map.remove(name).map(|value| (name.to_owned(), value)));
        }
    }
    let judges: BTreeMap<&String, String> = host["judges"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, judge)| (name, hash_json(&json!([judge["identity"], judge["graders"]]))))
        .collect();
    let mut facts = BTreeMap::from([
        ("task".to_owned(), task.to_owned()),
        ("task-version".to_owned(), short(&results["versions"][task])),
        ("data".to_owned(), short(&Value::Object(data))),
        ("scorer".to_owned(), short(&scorer)),
    ]);
    // A judge that ruled on only one side has no metric in the comparison; only two judgings can contradict each other.
    for (name, identity) in judges {
        facts.insert(format!("judges.{name}"), identity[..12].to_owned());
    }
    facts
}

fn figures(record: &Record, place: u64, task: &str) -> Figures {
    let mut figures = Figures {
        place,
        prompt: asked(record),
        cluster: record.cluster.clone(),
        groups: record.groups.clone(),
        latency_ms: record.latency_ms,
        generated_tokens: record.generated_tokens,
        ..Figures::default()
    };
    if record.error.is_some() || record.reply.is_none() {
        figures.missing = Some("failed");
        return figures;
    }
    for (scorer, score) in &record.scores {
        let own = scorer == task;
        if matches!(score.status, ScoreStatus::Scored | ScoreStatus::NoAnswer) {
            add_values(&mut figures.values, scorer, own, score);
        } else if own {
            figures.missing = Some(UNSCORED);
        } else {
            figures.unscored.push(scorer.clone());
        }
    }
    if record.scores.is_empty() {
        figures.missing = Some(UNSCORED);
    }
    figures
}

/// The hash of the task's question: the sample and its words. Sampling, seed and LoRA are left out, since these are
/// what comparisons are about.
fn asked(record: &Record) -> [u8; 16] {
    let prompt = &record.arguments;
    let hash = hash_all(&[
        &json!(record.doc_hash),
        &prompt["messages"],
        &prompt["tools"],
        &prompt["want"]["options"],
    ]);
    u128::from_str_radix(&hash[..32], 16).unwrap_or_default().to_be_bytes()
}

fn add_values(values: &mut BTreeMap<String, Part>, scorer: &str, own: bool, score: &ScoreEntry) {
    let name_of = |metric: &str| match (own, metric == JUDGED) {
        (true, _) => metric.to_owned(),
        (false, true) => scorer.to_owned(),
        (false, false) => format!("{scorer}.{metric}"),
    };
    let finite = score.values.iter().filter(|(_, value)| value.is_finite());
    values.extend(finite.map(|(metric, value)| (name_of(metric), Part::Mean(*value))));
    // A ratio over all samples replaces the mean of the same name.
    let ratios = score.details.get(RATIOS).and_then(Value::as_object);
    for (metric, sums) in ratios.into_iter().flatten() {
        if let (Some(above), Some(below)) = (sums[0].as_f64(), sums[1].as_f64()) {
            values.insert(name_of(metric), Part::Ratio(above, below));
        }
    }
}
