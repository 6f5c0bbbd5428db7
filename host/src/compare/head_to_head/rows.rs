//! The files of a comparison: one line per sample, the summary, and the flips.

use super::contest::{PairVerdict, PairVerdicts, in_text};
use super::tally::{Outcome, Said, Tally};
use crate::compare::{Key, Report};
use crate::export::Recorded;
use crate::failure::Result;
use crate::run::record::Record;
use crate::run::store::directory::write_whole;
use crate::run::store::score::{JUDGED, ScoreEntry, judge_key};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

/// The names of the two sides in columns: `base` and `lora` if the second run has the first one's weights and a LoRA,
/// `a` and `b` otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arms {
    pub first: &'static str,
    pub second: &'static str,
}

impl Arms {
    pub fn of(first: &Recorded, second: &Recorded) -> Result<Arms> {
        let (one, two) = (first.results()?, second.results()?);
        let model = |results: &Value| results["host"]["identity"]["model"].clone();
        let weights = |results: &Value| {
            let model = model(results);
            (model["adapter"].clone(), model["sources"]["weights"].clone())
        };
        let has_lora = |results: &Value| {
            let loaded = !model(results)["sources"]["lora"].is_null();
            loaded && results["host"]["identity"]["lora"] != json!("off")
        };
        Ok(match weights(one) == weights(two) && !has_lora(one) && has_lora(two) {
            true => Arms {
                first: "base",
                second: "lora",
            },
            false => Arms {
                first: "a",
                second: "b",
            },
        })
    }

    fn word(self, outcome: Option<Outcome>) -> Value {
        match outcome {
            Some(Outcome::First) => self.first.into(),
            Some(Outcome::Second) => self.second.into(),
            Some(Outcome::Tie) => "tie".into(),
            Some(Outcome::Inconsistent) => "inconsistent".into(),
            Some(Outcome::Unscored) | None => Value::Null,
        }
    }
}

/// The content of the files.
pub struct Files<'a> {
    pub first: &'a Recorded,
    pub second: &'a Recorded,
    pub arms: Arms,
    pub report: &'a Report,
    pub verdicts: &'a PairVerdicts,
    /// The judge of each side by itself: `match[gemini]`.
    pub judge: &'a str,
    /// The model that judged.
    pub model: &'a str,
}

/// Adds one pair to the tally: both texts, and the judge's ruling.
pub fn tally(first: &Recorded, second: &Recorded, verdicts: &PairVerdicts) -> Result<(Tally, bool)> {
    let (mut tally, mut all_alike) = (Tally::default(), true);
    let others = second.places_by_key()?;
    let mut reader = second.reader()?;
    let mut verdicts = verdicts.reader()?;
    first.each(|mine| {
        let key = Key::of(&mine);
        let Some(place) = others.get(&key) else { return Ok(()) };
        let theirs = reader.read_at(*place)?;
        if mine.reply.is_none() || theirs.reply.is_none() {
            return Ok(());
        }
        let (one, two) = (mine.said(), theirs.said());
        all_alike &= one == two;
        let verdict = verdicts.get(&key)?.and_then(std::result::Result::ok);
        let said = verdict.as_ref().map(Said::of);
        let unscored = Said {
            outcome: Outcome::Unscored,
            forward: None,
            backward: None,
        };
        tally.add(said.unwrap_or(unscored), one.chars().count(), two.chars().count());
        Ok(())
    })?;
    Ok((tally, all_alike))
}

/// Writes `comparison_results*.jsonl` at `out`, and `comparison_summary.json` and `flips.jsonl` beside it.
pub fn write_files(files: &Files, tally: &Tally, out: &Path) -> Result<Vec<PathBuf>> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).to_owned();
    let unwritable = |why: std::io::Error| crate::run::store::directory::unwritable(out, why);
    std::fs::create_dir_all(&folder).map_err(unwritable)?;
    let partial = out.with_extension("partial");
    let mut lines = BufWriter::new(File::create(&partial).map_err(unwritable)?);
    let others = files.second.places_by_key()?;
    let mut reader = files.second.reader()?;
    let mut verdicts = files.verdicts.reader()?;
    let (mut number, mut scored) = (0, 0);
    files.first.each(|mine| {
        let key = Key::of(&mine);
        if let Some(place) = others.get(&key) {
            let theirs = reader.read_at(*place)?;
            let row = files.row(number, &key, &mine, &theirs, verdicts.get(&key)?.as_ref());
            number += 1;
            scored +=
                u64::from(!row[files.column("accuracy").0].is_null() && !row[files.column("accuracy").1].is_null());
            writeln!(lines, "{row}").map_err(unwritable)?;
        }
        Ok(())
    })?;
    lines
        .into_inner()
        .map_err(|why| unwritable(why.into_error()))?
        .sync_all()
        .map_err(unwritable)?;
    std::fs::rename(&partial, out).map_err(unwritable)?;
    let summary = folder.join("comparison_summary.json");
    let text = serde_json::to_string_pretty(&files.summary(number, scored, tally)).unwrap_or_default() + "\n";
    write_whole(&summary, text.as_bytes())?;
    let flips = folder.join("flips.jsonl");
    let text: Result<String> = files
        .report
        .flips
        .read()?
        .map(|flip| Ok(format!("{}\n", json!(flip?))))
        .collect();
    write_whole(&flips, text?.as_bytes())?;
    Ok(vec![out.to_owned(), summary, flips])
}

impl Files<'_> {
    fn column(&self, name: &str) -> (String, String) {
        (
            format!("{}_{name}", self.arms.first),
            format!("{}_{name}", self.arms.second),
        )
    }

    /// The score of one side by itself: the judge's entry, else the task's own.
    fn entry<'r>(&self, record: &'r Record) -> Option<&'r ScoreEntry> {
        record.scores.get(&judge_key(self.judge, &record.task))
    }

    fn row(&self, id: u64, key: &Key, mine: &Record, theirs: &Record, ruled: Option<&PairVerdict>) -> Value {
        let mut row = Map::new();
        let mut put = |name: &str, value: Value| drop(row.insert(name.to_owned(), value));
        let (one, two) = (self.entry(mine), self.entry(theirs));
        let accuracy = |entry: Option<&ScoreEntry>| entry.and_then(|entry| entry.values.get(JUDGED)).copied();
        let detail = |entry: Option<&ScoreEntry>, name: &str| {
            entry
                .and_then(|entry| entry.details.get(name))
                .cloned()
                .unwrap_or(Value::Null)
        };
        let level = mine
            .groups
            .get("level")
            .map_or_else(|| mine.doc["level"].clone(), |level| json!(level));
        put("id", id.into());
        put("sample_id", key.sample.clone().into());
        put("turn", mine.doc["turn"].clone());
        put("level", level);
        put("gold_raw", in_text(&mine.target));
        let mut both = |name: &str, first: Value, second: Value| {
            let (mine, theirs) = self.column(name);
            put(&mine, first);
            put(&theirs, second);
        };
        both("raw", mine.said().into(), theirs.said().into());
        both("accuracy", json!(accuracy(one)), json!(accuracy(two)));
        both("latency_ms", mine.latency_ms.into(), theirs.latency_ms.into());
        let (check, other_check) = (detail(one, "check"), detail(two, "check"));
        both("overlap", check["overlap"].clone(), other_check["overlap"].clone());
        both("check", check, other_check);
        let verdict = ruled.and_then(|ruled| ruled.as_ref().ok());
        let said = verdict.map(Said::of);
        put("winner", self.arms.word(said.map(|said| said.outcome)));
        put("winner_forward", self.arms.word(said.and_then(|said| said.forward)));
        put("winner_backward", self.arms.word(said.and_then(|said| said.backward)));
        put("winner_reason", json!(verdict.map(|verdict| &verdict.reason)));
        put("flip", flip(accuracy(one), accuracy(two)));
        put("unscored", self.unscored(one, two, ruled, said));
        put("judge", self.model.into());
        let version = verdict
            .and_then(|verdict| verdict.model_version.clone())
            .map(Value::from);
        let version = version.unwrap_or_else(|| match detail(one, "model_version") {
            Value::Null => detail(two, "model_version"),
            version => version,
        });
        put("judge_version", version);
        let (mut calls, mut dollars) = verdict.map_or((0, 0.0), |verdict| (verdict.cost.calls, verdict.cost.dollars));
        for cost in [detail(one, "cost"), detail(two, "cost")] {
            calls += cost["calls"].as_u64().unwrap_or(0);
            dollars += cost["dollars"].as_f64().unwrap_or(0.0);
        }
        put("judge_calls", calls.into());
        put("judge_dollars", dollars.into());
        let (mine_key, theirs_key) = self.column("key");
        put(&mine_key, mine.key.clone().into());
        put(&theirs_key, theirs.key.clone().into());
        Value::Object(row)
    }

    /// The parts of this pair without a verdict, and why.
    fn unscored(
        &self,
        one: Option<&ScoreEntry>,
        two: Option<&ScoreEntry>,
        ruled: Option<&PairVerdict>,
        said: Option<Said>,
    ) -> Value {
        let mut list = Vec::new();
        for (of, entry) in [(self.arms.first, one), (self.arms.second, two)] {
            let scored = entry.is_some_and(|entry| entry.values.contains_key(JUDGED));
            if !scored {
                let why = entry.and_then(|entry| entry.details.get("why")).cloned();
                list.push(json!({ "of": of, "why": why.unwrap_or_else(|| "failed".into()) }));
            }
        }
        match (ruled, said.map(|said| said.outcome)) {
            (Some(Ok(verdict)), Some(Outcome::Unscored)) => {
                list.push(json!({ "of": "winner", "why": verdict.why.as_deref().unwrap_or("unparsable") }));
            }
            (Some(Err(_)) | None, _) => list.push(json!({ "of": "winner", "why": "failed" })),
            _ => {}
        }
        list.into()
    }

    fn summary(&self, n: u64, scored: u64, tally: &Tally) -> Value {
        let row = self
            .report
            .summary
            .comparison
            .rows
            .iter()
            .find(|row| row.metric == self.judge);
        let (calls, dollars) = (self.verdicts.calls, self.verdicts.dollars);
        let of = |results: &Value, name: &str| results["host"]["judges"][self.judge][name].clone();
        let sides: Vec<&Value> = [self.first, self.second]
            .iter()
            .filter_map(|run| run.results().ok())
            .collect();
        let sum = |name: &str| {
            sides
                .iter()
                .filter_map(|results| of(results, name).as_f64())
                .sum::<f64>()
        };
        let mut all_versions = self.verdicts.versions.clone();
        for results in &sides {
            all_versions.extend(
                of(results, "model_versions")
                    .as_object()
                    .into_iter()
                    .flat_map(|map| map.keys().cloned()),
            );
        }
        let mut summary = Map::new();
        let mut put = |name: &str, value: Value| drop(summary.insert(name.to_owned(), value));
        let (first, second) = self.column("accuracy");
        let (first_wins, second_wins) = self.column("wins");
        put("n", n.into());
        put("scored", scored.into());
        put(&first, json!(row.map(|row| row.first)));
        put(&second, json!(row.map(|row| row.second)));
        put("difference", json!(row.map(|row| row.difference)));
        put("difference_ci95", json!(row.and_then(|row| row.interval)));
        put("b", json!(row.and_then(|row| row.b)));
        put("c", json!(row.and_then(|row| row.c)));
        put("p_mcnemar", json!(row.and_then(|row| row.p_mcnemar)));
        put("p_clustered", json!(row.and_then(|row| row.p_clustered)));
        put(&first_wins, tally.first_wins.into());
        put(&second_wins, tally.second_wins.into());
        put("ties", tally.ties.into());
        put("inconsistent", tally.inconsistent.into());
        put("unscored", tally.unscored.into());
        put("win_rate_half", json!(tally.win_rate_half().map(|half| half.0)));
        put("win_rate_decided", json!(tally.win_rate_decided()));
        put("p_sign", tally.p_sign().into());
        put("order_consistency", json!(tally.order_consistency()));
        put("first_slot_share", json!(tally.first_slot_share()));
        put("longer_wins_share", json!(tally.longer_wins_share()));
        put("dollars", (dollars + sum("dollars")).into());
        put("calls", ((calls as f64 + sum("calls")) as u64).into());
        put("calls_maybe", self.report.calls_maybe.into());
        put("judge", self.model.into());
        put("versions", json!(all_versions));
        Value::Object(summary)
    }
}

fn flip(one: Option<f64>, two: Option<f64>) -> Value {
    match (one, two) {
        (Some(one), Some(two)) if two > one => "gain".into(),
        (Some(one), Some(two)) if two < one => "loss".into(),
        (Some(_), Some(_)) => "same".into(),
        _ => Value::Null,
    }
}
