//! Replays a reference's short training runs, and measures the difference of each number.
//!
//! A folder `training` beside the checkpoint holds `rows.jsonl`, `held_out.jsonl`, `cases.json`, and a folder for each
//! case with `golden.safetensors`, the initial adapter and the final weights.

mod four_bits;
mod tensors;

use crate::{Engine, EngineSettings, LoraSettings, Method, OptimSettings, Row, Sound, Trainer};
use nn::Blueprint;
use plugin_api::{Clip, Code, Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tensors::{Tensors, length};

/// The largest accepted difference of each number.
const TOLERANCES: [(&str, f64); 10] = [
    ("loss", 2e-6),
    ("grad_norm", 1e-4),
    ("learning_rate", 1e-7),
    ("gradient", 1e-4),
    ("logits_before", 1e-3),
    ("logits_after", 1e-3),
    ("eval_loss_before", 2e-6),
    ("eval_loss_after", 2e-5),
    ("movement", 5e-4),
    ("weights", 5e-4),
];

/// The recording's settings for all cases.
#[derive(Deserialize)]
struct Meta {
    batch_size: usize,
    accumulation: usize,
    steps: usize,
    warmup_steps: usize,
    weight_decay: f64,
    max_grad_norm: f64,
    betas: [f64; 2],
    eps: f64,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    learning_rate: f64,
    lora: Option<Value>,
    #[serde(default)]
    quantised: bool,
    #[serde(default)]
    frozen: Vec<String>,
    #[serde(default)]
    trained: Vec<String>,
    #[serde(default)]
    decayed: Vec<String>,
}

#[derive(Deserialize)]
struct Recorded {
    meta: Meta,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Line {
    input_ids: Vec<u32>,
    labels: Vec<i64>,
    #[serde(default)]
    audio: Vec<String>,
}

pub struct Replayed<'a> {
    /// None for a model that cannot be trained.
    pub blueprint: Option<Blueprint>,
    pub placeholder: Option<u32>,
    /// Reads a clip beside the rows.
    pub read_wav: &'a dyn Fn(&Path) -> Result<Clip>,
}

/// One finding for each case: `{"case", "differences", "tolerances", "within", "ok"}`.
pub fn replay(model: &Replayed, folder: &Path) -> Result<Vec<Value>> {
    let mut findings = Vec::new();
    if folder.join("cases.json").is_file() {
        let blueprint = model.blueprint.as_ref();
        let blueprint = blueprint.ok_or_else(|| Error::unsupported("this model can't be trained yet"))?;
        let recording = Recording::open(folder, model.read_wav)?;
        for case in &recording.recorded.cases {
            findings.push(recording.replay(case, blueprint, model.placeholder)?);
        }
    }
    let four_bits = folder.join("nf4.safetensors");
    if four_bits.is_file() {
        findings.extend(four_bits::replay(&four_bits)?);
    }
    Ok(findings)
}

/// What lies in a folder.
struct Recording {
    folder: PathBuf,
    recorded: Recorded,
    rows: Vec<Row>,
    held_out: Vec<Row>,
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::new(Code::DATA, format!("cannot read `{}`", path.display())).cause(why.to_string())
}

impl Recording {
    fn open(folder: &Path, read_wav: &dyn Fn(&Path) -> Result<Clip>) -> Result<Recording> {
        let path = folder.join("cases.json");
        let text = std::fs::read_to_string(&path).map_err(|why| unreadable(&path, why))?;
        let recorded = serde_json::from_str(&text).map_err(|why| unreadable(&path, why))?;
        let rows = |name: &str| -> Result<Vec<Row>> {
            let path = folder.join(name);
            let text = std::fs::read_to_string(&path).map_err(|why| unreadable(&path, why))?;
            text.lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| {
                    let line: Line = serde_json::from_str(line).map_err(|why| unreadable(&path, why))?;
                    row(line, folder, read_wav)
                })
                .collect()
        };
        Ok(Recording {
            folder: folder.to_owned(),
            recorded,
            rows: rows("rows.jsonl")?,
            held_out: rows("held_out.jsonl")?,
        })
    }

    fn settings(&self, case: &Case) -> Result<EngineSettings> {
        let meta = &self.recorded.meta;
        let adapter = case.lora.as_ref().map(|_| self.folder.join(&case.name).join("start"));
        Ok(EngineSettings {
            method: match (&case.lora, case.quantised) {
                (None, _) => Method::Full,
                (Some(_), false) => Method::Lora,
                (Some(_), true) => Method::Qlora,
            },
            lora: LoraSettings::default(),
            adapter,
            optim: OptimSettings {
                adam_beta1: meta.betas[0],
                adam_beta2: meta.betas[1],
                adam_epsilon: meta.eps,
                weight_decay: meta.weight_decay,
                max_grad_norm: meta.max_grad_norm,
                ..OptimSettings::default()
            },
            freeze: case.lora.is_none().then(|| case.frozen.clone()),
            ..EngineSettings::default()
        })
    }

    fn replay(&self, case: &Case, blueprint: &Blueprint, placeholder: Option<u32>) -> Result<Value> {
        let meta = &self.recorded.meta;
        let own = self.folder.join(&case.name);
        let golden = Tensors::open(&own.join("golden.safetensors"))?;
        let mut trainer = Trainer::new(blueprint, placeholder, &self.settings(case)?)?;
        let mut found = Found::default();
        let mut names: Vec<&str> = trainer.named_values().map(|(name, ..)| name).collect();
        names.sort_unstable();
        found.equal("trained", case.trained.is_empty() || names == case.trained);
        let facts = trainer.facts();
        let decayed = facts.parameters.iter().filter(|one| one.decayed);
        let mut decayed: Vec<&str> = decayed.map(|one| &one.name[..]).collect();
        decayed.sort_unstable();
        found.equal("decayed", case.decayed.is_empty() || decayed == case.decayed);
        let start: Vec<f32> = trainer
            .named_values()
            .flat_map(|(.., values)| values.to_vec())
            .collect();
        let (rows, held_out) = (heard(&self.rows, &mut trainer)?, heard(&self.held_out, &mut trainer)?);
        evaluate(&mut trainer, &held_out, &golden, "before", &mut found)?;

        let batches: Vec<&[Row]> = rows.chunks(meta.batch_size).collect();
        let (mut losses, mut norms, mut rates, mut items) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (number, batches) in batches.chunks(meta.accumulation).enumerate() {
            let count: u64 = batches.iter().flat_map(|batch| batch.iter()).map(Row::learnt).sum();
            let mut loss = 0.0;
            for batch in batches {
                loss += trainer.learn(batch, count)?.loss / count as f64;
            }
            if number == 0 {
                found.number("gradient", gradient(&trainer, &golden)?);
            }
            let rate = case.learning_rate * factor(meta, number);
            let report = trainer.step(rate)?;
            losses.push(loss);
            norms.push(report.grad_norm);
            rates.push(rate);
            items.push(count as f64);
        }
        found.number("loss", relative(&losses, &golden.values("loss")?));
        found.number("grad_norm", relative(&norms, &golden.values("grad_norm")?));
        let narrow: Vec<f64> = rates.iter().map(|rate| f64::from(*rate as f32)).collect();
        found.number("learning_rate", relative(&narrow, &golden.values("learning_rate")?));
        found.equal("items", items == golden.values("items")?);
        evaluate(&mut trainer, &held_out, &golden, "after", &mut found)?;

        let file = if case.lora.is_some() {
            "adapter_model.safetensors"
        } else {
            "model.safetensors"
        };
        let end = Tensors::open(&own.join("final").join(file))?;
        let (mut apart, mut way, mut largest, mut at) = (0.0, 0.0, 0f64, 0);
        for (name, _, values) in trainer.named_values() {
            let expected = end.values(name)?;
            for ((now, then), before) in values.iter().zip(&expected).zip(&start[at..]) {
                let off = f64::from(*now) - then;
                apart += off * off;
                way += (then - f64::from(*before)).powi(2);
                largest = largest.max(if off.is_nan() { f64::INFINITY } else { off.abs() });
            }
            at += values.len();
        }
        found.number("movement", (apart / way).sqrt());
        found.number("weights", largest);
        Ok(found.told(&case.name))
    }
}

/// Rows whose clips are encoded, as in a run; those that a learnt tower encodes are left as they are.
fn heard(rows: &[Row], trainer: &mut Trainer) -> Result<Vec<Row>> {
    let mut hear = |sound: &Sound| -> Result<Sound> {
        let heard = match sound {
            Sound::Clip(clip) => trainer.hear(clip)?,
            Sound::Heard(_) => None,
        };
        Ok(heard.map_or_else(|| sound.clone(), |vectors| Sound::Heard(vectors.into())))
    };
    let rows = rows.iter().map(|row| {
        Ok(Row {
            sounds: row.sounds.iter().map(&mut hear).collect::<Result<_>>()?,
            ..row.clone()
        })
    });
    rows.collect()
}

fn evaluate(trainer: &mut Trainer, rows: &[Row], golden: &Tensors, when: &str, found: &mut Found) -> Result<()> {
    if let Some(row) = rows.first() {
        let logits = trainer.logits(row)?;
        let expected = golden.values(&format!("logits_{when}"))?;
        let off = logits.iter().zip(&expected).map(|(x, y)| (f64::from(*x) - y).abs());
        let same = logits.len() == expected.len();
        found.number(
            &format!("logits_{when}"),
            if same { largest(off) } else { f64::INFINITY },
        );
    }
    let sums = trainer.evaluate(rows)?;
    let (loss, items) = sums
        .iter()
        .fold((0.0, 0), |(loss, items), one| (loss + one.loss, items + one.items));
    let means: Vec<f64> = sums
        .iter()
        .filter(|one| one.items > 0)
        .map(|one| one.loss / one.items as f64)
        .collect();
    let ours = [loss / items as f64, means.iter().sum::<f64>() / means.len() as f64];
    let name = format!("eval_loss_{when}");
    found.number(&name, relative(&ours, &golden.values(&name)?));
    Ok(())
}

fn row(line: Line, folder: &Path, read_wav: &dyn Fn(&Path) -> Result<Clip>) -> Result<Row> {
    let sound = |name: &String| {
        // A recording is not trusted: it may name files in its own folder only.
        match Path::new(name).file_name() == Some(name.as_ref()) {
            true => read_wav(&folder.join(name)).map(Sound::Clip),
            false => Err(Error::new(
                Code::DATA,
                format!("a row names the clip `{name}`, which is outside of the folder"),
            )),
        }
    };
    Ok(Row {
        labels: line.labels.iter().map(|&label| u32::try_from(label).ok()).collect(),
        sounds: line.audio.iter().map(sound).collect::<Result<_>>()?,
        ids: line.input_ids,
    })
}

/// The factor of the rate: a warm-up, then a cosine.
fn factor(meta: &Meta, step: usize) -> f64 {
    let (step, warmup, steps) = (step as f64, meta.warmup_steps as f64, meta.steps as f64);
    if step < warmup {
        return step / warmup.max(1.0);
    }
    let done = (step - warmup) / (steps - warmup).max(1.0);
    (0.5 * (1.0 + (std::f64::consts::PI * done).cos())).max(0.0)
}

/// The relative difference of the first gradient, in norm.
fn gradient(trainer: &Trainer, golden: &Tensors) -> Result<f64> {
    let (mut apart, mut all) = (0.0, 0.0);
    for (name, _, values) in trainer.named_gradients() {
        let expected = golden.values(&format!("gradient.{name}"))?;
        let off: Vec<f64> = values.iter().zip(&expected).map(|(x, y)| f64::from(*x) - y).collect();
        apart += length(&off).powi(2);
        all += length(&expected).powi(2);
    }
    Ok((apart / all).sqrt())
}

fn relative(ours: &[f64], recorded: &[f64]) -> f64 {
    if ours.len() != recorded.len() {
        return f64::INFINITY;
    }
    let off = ours
        .iter()
        .zip(recorded)
        .map(|(x, y)| (x - y).abs() / y.abs().max(1e-12));
    largest(off)
}

fn largest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(
        0.0,
        |largest, x| if x.is_nan() { f64::INFINITY } else { largest.max(x) },
    )
}

/// The differences of a case.
#[derive(Default)]
struct Found {
    differences: Map<String, Value>,
    tolerances: Map<String, Value>,
    within: Map<String, Value>,
}

impl Found {
    fn number(&mut self, name: &str, difference: f64) {
        let known = TOLERANCES.iter().find(|(known, _)| *known == name);
        let tolerance = known.map_or(0.0, |(_, tolerance)| *tolerance);
        self.differences.insert(name.to_owned(), json!(difference));
        self.tolerances.insert(name.to_owned(), json!(tolerance));
        self.within.insert(name.to_owned(), json!(difference <= tolerance));
    }

    /// Records whether two things are equal.
    fn equal(&mut self, name: &str, same: bool) {
        self.within.insert(name.to_owned(), json!(same));
    }

    fn told(self, case: &str) -> Value {
        let ok = self.within.values().all(|within| within == &json!(true));
        json!({
            "case": case, "differences": self.differences, "tolerances": self.tolerances, "within": self.within, "ok": ok,
        })
    }
}
