//! A run's samples on its page: a list that is read at once, and records in compressed blocks that are unpacked when
//! somebody opens them.

use super::main_metric;
use crate::page::Blocks;
use crate::run::record::Record;
use crate::run::results::Summary;
use crate::run::store::score::{JUDGED, ScoreStatus};
use plugin_api::Part;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The most samples that a page lists; for a larger run it lists every second, third or nth.
const LISTED: usize = 200_000;
/// Rows of the list in one block.
const ROWS: usize = 10_000;
/// A block of records ends when it has this much JSON.
const BLOCK: usize = 256 << 10;
/// A record with more JSON than this is left to `samples.jsonl`.
const RECORD: usize = 16 << 20;
/// The most bytes of kept clips that go into the page.
const SOUND: u64 = 48 << 20;

/// The outcome of a sample, as the page's script numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Wrong,
    Right,
    Partly,
    Unscored,
    NoAnswer,
    Failed,
}

/// Numbers of all records, for the distributions.
#[derive(Debug, Default)]
pub struct Spread {
    pub latency: Vec<f64>,
    pub first_token: Vec<f64>,
    pub written: Vec<f64>,
    pub read: Vec<f64>,
    pub margin: Vec<f64>,
}

/// The probability of the chosen option against whether it was right, in ten bins.
#[derive(Debug, Default)]
pub struct Calibration {
    bins: [(f64, u64, u64); 10],
}

/// A bin that has samples.
#[derive(Debug, PartialEq)]
pub struct Point {
    pub probability: f64,
    pub right: f64,
    pub count: u64,
}

impl Calibration {
    fn add(&mut self, probability: f64, right: bool) {
        let bin = &mut self.bins[((probability * 10.0) as usize).min(9)];
        bin.0 += probability;
        bin.1 += u64::from(right);
        bin.2 += 1;
    }

    pub fn count(&self) -> u64 {
        self.bins.iter().map(|bin| bin.2).sum()
    }

    pub fn points(&self) -> Vec<Point> {
        let point = |(sum, right, count): &(f64, u64, u64)| Point {
            probability: sum / *count as f64,
            right: *right as f64 / *count as f64,
            count: *count,
        };
        self.bins.iter().filter(|bin| bin.2 > 0).map(point).collect()
    }

    /// The mean distance between probability and share, weighted by the bins' sizes.
    pub fn error(&self) -> f64 {
        let all = self.count().max(1) as f64;
        let distance = |point: Point| (point.probability - point.right).abs() * point.count as f64 / all;
        self.points().into_iter().map(distance).sum()
    }
}

/// What the page says about all samples.
pub struct Gathered {
    pub spread: Spread,
    pub calibration: Calibration,
    pub listed: usize,
    pub all: usize,
}

/// Builds the samples of a page.
pub struct Gathering<W: Write> {
    blocks: Blocks<W>,
    gathered: Gathered,
    /// The metrics that say whether a sample is right, the first that it has counting, and whether higher is better.
    metrics: Vec<(String, bool)>,
    seen: usize,
    block: Vec<u8>,
    /// The first row of each block.
    firsts: Vec<usize>,
    in_block: usize,
    rows: Rows,
    /// The list's blocks so far.
    parts: usize,
    groups: Vec<(String, Vec<String>)>,
    verdicts: [u64; 6],
    clips: PathBuf,
    sound: u64,
    clips_done: HashSet<String>,
}

/// The list, column by column.
#[derive(Default, serde::Serialize)]
struct Rows {
    id: Vec<String>,
    about: Vec<String>,
    verdict: Vec<u8>,
    value: Vec<Option<f64>>,
    latency: Vec<f64>,
    sure: Vec<Option<f64>>,
    length: Vec<usize>,
    groups: Vec<Vec<Option<usize>>>,
    block: Vec<usize>,
    at: Vec<usize>,
}

impl<W: Write> Gathering<W> {
    pub fn new(out: W, summary: &Summary, results: &Value, all: usize, clips: &Path) -> Gathering<W> {
        let known = results["higher_is_better"][&summary.task].as_object();
        let more = |name: &str| known.and_then(|known| known.get(name)?.as_bool()).unwrap_or(true);
        let main = main_metric(summary).map(|metric| metric.name.clone());
        let names = main
            .into_iter()
            .chain(known.into_iter().flatten().map(|(name, _)| name.clone()));
        Gathering {
            blocks: Blocks::new(out),
            gathered: Gathered {
                spread: Spread::default(),
                calibration: Calibration::default(),
                listed: 0,
                all,
            },
            metrics: names.map(|name| (name.clone(), more(&name))).collect(),
            seen: 0,
            block: Vec::new(),
            firsts: Vec::new(),
            in_block: 0,
            rows: Rows::default(),
            parts: 0,
            groups: Vec::new(),
            verdicts: [0; 6],
            clips: clips.to_owned(),
            sound: 0,
            clips_done: HashSet::new(),
        }
    }

    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        let (fate, value) = self.fate(record);
        let sure = self.measure(record, fate);
        let place = self.seen;
        self.seen += 1;
        // Evenly spread over the data if there are too many.
        let all = self.gathered.all.max(1);
        if all > LISTED && place * LISTED / all == (place + 1) * LISTED / all {
            return Ok(());
        }
        self.verdicts[fate as usize] += 1;
        self.put(record, fate, value, sure)
    }

    /// Adds to the distributions, and returns how sure the model was of the option that it chose.
    fn measure(&mut self, record: &Record, fate: Fate) -> Option<f64> {
        if record.error.is_some() {
            return None;
        }
        let Gathered {
            spread, calibration, ..
        } = &mut self.gathered;
        spread.latency.push(record.latency_ms);
        spread.first_token.extend(record.ttft_ms);
        spread.written.push(f64::from(record.generated_tokens));
        spread.read.push(f64::from(record.prompt_tokens));
        let (probability, margin) = certainty(record)?;
        spread.margin.extend(margin);
        if matches!(fate, Fate::Right | Fate::Wrong) {
            calibration.add(probability, fate == Fate::Right);
        }
        Some(probability)
    }

    fn fate(&self, record: &Record) -> (Fate, Option<f64>) {
        if record.failure().is_some() {
            return (Fate::Failed, None);
        }
        let own = record.own();
        match own.map(|own| own.status) {
            Some(ScoreStatus::NoAnswer) => return (Fate::NoAnswer, Some(0.0)),
            Some(ScoreStatus::Failed) => return (Fate::Failed, None),
            _ => {}
        }
        let scored = own.filter(|own| own.status == ScoreStatus::Scored);
        let named = |(name, more): &(String, bool)| Some((*scored?.values.get(name)?, *more));
        let first = || Some((*scored?.values.values().next()?, true));
        let judged = || {
            let mut others = record.scores.iter().filter(|(name, _)| **name != record.task);
            others.find_map(|(_, entry)| Some((*entry.values.get(JUDGED)?, true)))
        };
        let found = self.metrics.iter().find_map(named).or_else(first).or_else(judged);
        match found {
            Some((value, _)) if !value.is_finite() => (Fate::Unscored, None),
            Some((value, more)) => {
                let fate = match (value, more) {
                    (value, true) if value >= 1.0 => Fate::Right,
                    (value, true) if value <= 0.0 => Fate::Wrong,
                    (value, false) if value <= 0.0 => Fate::Right,
                    (value, false) if value >= 1.0 => Fate::Wrong,
                    _ => Fate::Partly,
                };
                (fate, Some(value))
            }
            None => (Fate::Unscored, None),
        }
    }

    fn put(&mut self, record: &Record, fate: Fate, value: Option<f64>, sure: Option<f64>) -> io::Result<()> {
        self.keep_clips(record)?;
        let row = self.gathered.listed;
        self.gathered.listed += 1;
        let mut text = serde_json::to_vec(&shown(record))?;
        if text.len() > RECORD {
            let note = format!("this record has {} bytes; read it in samples.jsonl", text.len());
            text = serde_json::to_vec(&json!({
                "sample_id": record.sample_id, "doc_id": record.doc_id, "input": record.input,
                "error": { "code": "too-long", "message": note },
            }))?;
        }
        if self.in_block == 0 {
            self.firsts.push(row);
            self.block.push(b'[');
        } else {
            self.block.push(b',');
        }
        self.block.append(&mut text);
        let groups = record.groups.iter().map(|(key, member)| self.group(key, member));
        let groups: Vec<(usize, usize)> = groups.collect();
        let mut of_row = vec![None; self.groups.len()];
        for (key, member) in groups {
            of_row[key] = Some(member);
        }
        let rows = &mut self.rows;
        rows.id.push(name_of(record));
        rows.about.push(about(record));
        rows.verdict.push(fate as u8);
        rows.value.push(value);
        rows.latency.push((record.latency_ms * 1000.0).round() / 1000.0);
        rows.sure.push(sure.map(|sure| (sure * 1e6).round() / 1e6));
        rows.length
            .push(record.reply.as_ref().map_or(0, |reply| reply.text.chars().count()));
        rows.groups.push(of_row);
        rows.block.push(self.firsts.len() - 1);
        rows.at.push(self.in_block);
        self.in_block += 1;
        if self.block.len() >= BLOCK {
            self.close_block()?;
        }
        if self.rows.id.len() >= ROWS {
            self.close_rows()?;
        }
        Ok(())
    }

    /// The numbers of a grouping and of its member.
    fn group(&mut self, key: &str, member: &str) -> (usize, usize) {
        let at = self
            .groups
            .iter()
            .position(|(known, _)| known == key)
            .unwrap_or_else(|| {
                self.groups.push((key.to_owned(), Vec::new()));
                self.groups.len() - 1
            });
        let members = &mut self.groups[at].1;
        let place = members.iter().position(|known| known == member).unwrap_or_else(|| {
            members.push(member.to_owned());
            members.len() - 1
        });
        (at, place)
    }

    /// Puts the clips that a run kept into the page, as far as there is room.
    fn keep_clips(&mut self, record: &Record) -> io::Result<()> {
        for clip in &record.audio {
            let hash = &clip.sha256;
            let known = hash.is_empty() || !hash.bytes().all(|byte| byte.is_ascii_hexdigit());
            if known || self.clips_done.contains(hash) {
                continue;
            }
            let path = self.clips.join(format!("{hash}.wav"));
            let Ok(found) = std::fs::metadata(&path) else { continue };
            if self.sound + found.len() > SOUND {
                continue;
            }
            self.sound += found.len();
            self.clips_done.insert(hash.clone());
            self.blocks.bytes(&format!("c{hash}"), &std::fs::read(&path)?)?;
        }
        Ok(())
    }

    fn close_block(&mut self) -> io::Result<()> {
        if self.in_block == 0 {
            return Ok(());
        }
        self.block.push(b']');
        self.blocks
            .packed(&format!("d{}", self.firsts.len() - 1), &self.block)?;
        self.block.clear();
        self.in_block = 0;
        Ok(())
    }

    fn close_rows(&mut self) -> io::Result<()> {
        if !self.rows.id.is_empty() {
            self.blocks
                .json(&format!("i{}", self.parts), &std::mem::take(&mut self.rows))?;
            self.parts += 1;
        }
        Ok(())
    }

    /// Closes open blocks, and returns what was gathered and where the blocks are.
    pub fn finish(mut self) -> io::Result<(Gathered, W)> {
        self.close_block()?;
        self.close_rows()?;
        let groups: Vec<Value> = self
            .groups
            .iter()
            .map(|(name, members)| json!({ "name": name, "members": members }))
            .collect();
        let about = json!({
            "rows": self.gathered.listed, "parts": self.parts, "blocks": self.firsts.len(), "firsts": self.firsts,
            "groups": groups, "verdicts": self.verdicts,
        });
        self.blocks.json("about", &about)?;
        Ok((self.gathered, self.blocks.into_inner()))
    }
}

/// The sample's name, and which of its records this is.
fn name_of(record: &Record) -> String {
    let mut name = record.sample_id.clone();
    if let Some(variant) = &record.variant {
        name += &format!(" {variant}");
    }
    if record.chain > 0 {
        name += &format!(" chain {}", record.chain);
    }
    name
}

/// A line about a record: its answer, the target, and how the question begins.
fn about(record: &Record) -> String {
    const LETTERS: usize = 120;
    let target = match &record.target {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let answer = record.answer().unwrap_or_default();
    let prompt = record.prompt();
    let question = prompt
        .iter()
        .flat_map(|prompt| prompt.messages.iter().rev())
        .find_map(|message| {
            message.parts.iter().find_map(|part| match part {
                Part::Text { text } if !text.trim().is_empty() => Some(text.as_str()),
                _ => None,
            })
        });
    let short = |text: &str, most: usize| -> String {
        text.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .chars()
            .take(most)
            .collect()
    };
    let line = format!(
        "{} | {} | {}",
        short(&answer, 40),
        short(&target, 40),
        short(&cut(question.unwrap_or_default()), LETTERS)
    );
    line.chars().take(LETTERS).collect()
}

/// The beginning of a text, so that a megabyte isn't split into words to show a hundred letters.
fn cut(text: &str) -> String {
    text.chars().take(2000).collect()
}

/// The part of a record that the page holds.
fn shown(record: &Record) -> Value {
    let prompt = if record.given.is_null() {
        &record.arguments
    } else {
        &record.given
    };
    let reply = record.reply.as_ref().map(|reply| {
        json!({
            "text": reply.text, "thinking": reply.thinking, "options": reply.options, "finish": reply.finish,
            "tool_calls": reply.tool_calls, "alternatives": reply.alternatives, "model_version": reply.model_version,
        })
    });
    json!({
        "sample_id": record.sample_id, "doc_id": record.doc_id, "chain": record.chain, "variant": record.variant,
        "groups": record.groups, "cluster": record.cluster, "target": record.target, "choices": record.choices,
        "input": record.input, "audio": record.audio, "prompt": prompt, "reply": reply, "scores": record.scores,
        "latency_ms": record.latency_ms, "ttft_ms": record.ttft_ms, "prompt_tokens": record.prompt_tokens,
        "generated_tokens": record.generated_tokens, "flags": record.flags, "error": record.error, "doc": record.doc,
        "key": record.key, "rendered_sha256": record.rendered_sha256,
    })
}

/// The probability of the likeliest option among all, and how far its log-likelihood lies above the second's.
fn certainty(record: &Record) -> Option<(f64, Option<f64>)> {
    let options = &record.reply.as_ref()?.options;
    let mut known: Vec<f64> = options
        .iter()
        .map(|option| option.loglik)
        .filter(|loglik| loglik.is_finite())
        .collect();
    known.sort_by(|a, b| b.total_cmp(a));
    let best = *known.first()?;
    let sum: f64 = known.iter().map(|loglik| (loglik - best).exp()).sum();
    Some((1.0 / sum, known.get(1).map(|second| best - second)))
}

/// The part of the page that shows samples.
pub fn browser(gathered: &Gathered) -> String {
    let (listed, all) = (gathered.listed, gathered.all);
    let note = match listed < all {
        true => format!(
            "<p>The list has {listed} of {all} records, evenly spread over the data; the numbers above count all.</p>\n"
        ),
        false => String::new(),
    };
    format!(
        "<section id=\"browser\">\n<h2>Samples</h2>\n{note}<noscript><p>The list of samples needs a script.</p></noscript>\n\
         <div class=\"tools\" id=\"verdicts\"></div>\n<div class=\"tools\"><input type=\"search\" id=\"find\" \
         placeholder=\"find in ids, prompts, answers, reasons\" aria-label=\"find\"><span id=\"groups\"></span>\
         <label>by <select id=\"sort\"></select></label><button id=\"down\" title=\"turn the order round\">↑</button></div>\n\
         <p class=\"pale\"><span id=\"count\">reading…</span> <span id=\"searched\"></span> · keys: j k next and previous, \
         g G first and last, r w p u e a filters, / find</p>\n\
         <div class=\"browser\"><div id=\"list\" role=\"listbox\" aria-label=\"samples\" tabindex=\"0\"><div id=\"rows\"></div></div>\
         <div id=\"one\" tabindex=\"0\"></div></div>\n</section>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{OptionScore, Reply};

    #[test]
    fn certainty_is_the_softmax_of_the_options() {
        let option = |loglik: f64| OptionScore {
            loglik,
            ..OptionScore::default()
        };
        let mut record = Record::default();
        assert_eq!(certainty(&record), None);
        record.of_reply(Reply::scored(vec![option(-2.0), option(-1.0), option(f64::NAN)]));
        let (probability, margin) = certainty(&record).unwrap();
        assert!((probability - 1.0 / (1.0 + (-1.0f64).exp())).abs() < 1e-12);
        assert_eq!(margin, Some(1.0));
    }

    #[test]
    fn calibration_counts_by_tenths() {
        let mut found = Calibration::default();
        for (probability, right) in [(0.95, true), (1.0, false), (0.25, false)] {
            found.add(probability, right);
        }
        let points = found.points();
        assert_eq!(points.len(), 2);
        assert_eq!((points[1].right, points[1].count), (0.5, 2));
        assert!((found.error() - (0.25 / 3.0 + 0.475 * 2.0 / 3.0)).abs() < 1e-12);
    }
}
