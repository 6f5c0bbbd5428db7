//! Replays what a reference implementation recorded of a checkpoint, and says how far this one is from it.
//!
//! A `golden` folder holds `golden.safetensors`, with tensors named `case.key`, and `cases.json`. Each case has the
//! prompt's `input_ids`, its `attention_mask` (padding on any side), its `logits`, the `greedy` tokens that follow
//! and the `greedy_logits` each of them was chosen by. A file `beams.json` beside them holds searches.

mod beams;

use crate::generate::{Generator, Pick, Sampler, greedy_knobs};
use crate::{Decoder, Error, KvCache, Past, Result, Segment, Step};
use candle_core::{DType, Device, Tensor};
use plugin_api::{Message, Prompt, Role};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// How far a logit may be from the recorded one.
const TOLERANCE: f64 = 1e-3;

/// What came of one comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub case: String,
    /// `prompt`, `logits`, `greedy`, `greedy_penalised` or `beams`.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs_diff: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_equal: Option<bool>,
    pub ok: bool,
}

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// One conversation, or what only cases that are not compared have, such as pictures among the words.
    messages: Option<Value>,
    prompt: Option<String>,
    prompt_without_thinking: Option<String>,
    /// Gap between the two best logits over the greedy steps; where it is below the tolerance either token is right.
    #[serde(default)]
    smallest_margin: f64,
    repetition_penalty: Option<f32>,
}

#[derive(Deserialize)]
struct Turn {
    role: Role,
    content: String,
}

/// What [`plugin_api::Model::trace`] answers to `{"golden": FOLDER}`.
pub fn trace<D: Decoder>(generator: &Generator<D>, request: &Value) -> plugin_api::Result<Value> {
    let Some(folder) = request["golden"].as_str() else {
        return Err(plugin_api::Error::unsupported(
            "the only trace known here is `{\"golden\": FOLDER}`",
        ));
    };
    let findings = replay(generator, Path::new(folder)).map_err(Error::told)?;
    Ok(serde_json::json!({ "ok": findings.iter().all(|finding| finding.ok), "cases": findings }))
}

/// Replays all cases of a `golden` folder.
pub fn replay<D: Decoder>(generator: &Generator<D>, folder: &Path) -> Result<Vec<Finding>> {
    let recorded: Recorded = crate::config::read_json(&folder.join("cases.json"))?;
    let path = folder.join("golden.safetensors");
    let bytes = std::fs::read(&path).map_err(|source| Error::Read {
        path: path.clone(),
        source,
    })?;
    let malformed = |e: candle_core::Error| Error::Malformed {
        path: path.clone(),
        reason: e.to_string(),
    };
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu).map_err(malformed)?;
    let mut findings = Vec::new();
    for case in &recorded.cases {
        let golden = Golden {
            tensors: &tensors,
            case: &case.name,
            path: &path,
        };
        // No decoder here sees, so there is nothing to compare.
        if golden.get("pixel_values").is_some() {
            continue;
        }
        compare_prompt(generator, case, &golden, &mut findings)?;
        compare_logits(generator.decoder(), case, &golden, &mut findings)?;
    }
    let searches = folder.join("beams.json");
    if searches.is_file() {
        findings.extend(beams::replay(generator, &searches)?);
    }
    Ok(findings)
}

struct Golden<'a> {
    tensors: &'a HashMap<String, Tensor>,
    case: &'a str,
    path: &'a PathBuf,
}

impl Golden<'_> {
    fn get(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(&format!("{}.{key}", self.case))
    }

    fn need(&self, key: &str) -> Result<&Tensor> {
        self.get(key)
            .ok_or_else(|| self.malformed(&format!("it has no `{key}`")))
    }

    fn malformed(&self, reason: &str) -> Error {
        let reason = format!("case `{}`: {reason}", self.case);
        Error::Malformed {
            path: self.path.clone(),
            reason,
        }
    }

    /// For each row, the places that the mask keeps.
    fn kept(&self) -> Result<Vec<Vec<usize>>> {
        let mask = rows(self.need("attention_mask")?)?;
        Ok(mask
            .iter()
            .map(|row| (0..row.len()).filter(|&place| row[place] != 0).collect())
            .collect())
    }

    /// Rows of token ids, at the places kept.
    fn prompts(&self) -> Result<Vec<Vec<u32>>> {
        let (ids, mask) = (self.need("input_ids")?, self.need("attention_mask")?);
        if ids.dims() != mask.dims() || ids.dim(0)? == 0 {
            return Err(self.malformed("`input_ids` and `attention_mask` differ in shape, or are empty"));
        }
        let ids = rows(ids)?;
        let row = |(ids, kept): (&Vec<u32>, Vec<usize>)| kept.iter().map(|&place| ids[place]).collect();
        Ok(ids.iter().zip(self.kept()?).map(row).collect())
    }
}

fn compare_prompt<D: Decoder>(
    generator: &Generator<D>,
    case: &Case,
    golden: &Golden,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let (Some(messages), Some(text)) = (&case.messages, &case.prompt) else {
        return Ok(());
    };
    let turns: Vec<Turn> =
        serde::Deserialize::deserialize(messages).map_err(|e| golden.malformed(&format!("`messages`: {e}")))?;
    let messages = turns.iter().map(|turn| Message::text(turn.role, turn.content.clone()));
    let mut prompt = Prompt::new(messages);
    let ids = &golden.prompts()?[0];
    let mut ok = generator
        .tokens(&prompt)
        .is_ok_and(|tokens| tokens.text == *text && tokens.ids == *ids);
    if let Some(text) = &case.prompt_without_thinking {
        prompt.thinking = Some(false);
        ok &= generator.tokens(&prompt).is_ok_and(|tokens| tokens.text == *text);
    }
    findings.push(Finding {
        case: case.name.clone(),
        what: "prompt",
        max_abs_diff: None,
        tokens_equal: Some(ok),
        ok,
    });
    Ok(())
}

fn compare_logits<D: Decoder>(decoder: &D, case: &Case, golden: &Golden, findings: &mut Vec<Finding>) -> Result<()> {
    let (prompts, kept) = (golden.prompts()?, golden.kept()?);
    let mut found = |what, diff: f64, tokens_equal: Option<bool>| {
        let equal = tokens_equal.unwrap_or(true) || case.smallest_margin <= TOLERANCE;
        let ok = diff <= TOLERANCE && equal;
        findings.push(Finding {
            case: case.name.clone(),
            what,
            max_abs_diff: Some(diff),
            tokens_equal,
            ok,
        });
    };

    let greedy = rows(golden.need("greedy")?)?;
    if greedy.len() != prompts.len() || prompts.iter().any(Vec::is_empty) {
        return Err(golden.malformed("a prompt is empty, or has no row in `greedy`"));
    }

    // All rows at once, as a batch.
    let mut caches: Vec<KvCache> = prompts.iter().map(|_| KvCache::default()).collect();
    let logits = forward(decoder, &prompts, &mut caches)?;
    let expected = golden.need("logits")?;
    let mut diff = 0f64;
    for ((row, logits), kept) in logits.iter().enumerate().zip(&kept) {
        let places: Vec<u32> = kept.iter().map(|&place| place as u32).collect();
        let expected = expected
            .get(row)?
            .index_select(&Tensor::new(places, &Device::Cpu)?, 0)?;
        diff = diff.max(difference(logits, &expected)?);
    }
    found("logits", diff, None);

    // Token by token. The recorded token goes in whatever was found likeliest, so one flip is counted once.
    let expected = golden.need("greedy_logits")?;
    let mut last: Vec<Tensor> = logits.iter().map(last_row).collect::<Result<_>>()?;
    let (mut diff, mut equal) = (0f64, true);
    for step in 0..greedy[0].len() {
        for (row, logits) in last.iter().enumerate() {
            diff = diff.max(difference(logits, &expected.get(row)?.get(step)?)?);
            equal &= logits.argmax(0)?.to_scalar::<u32>()? == greedy[row][step];
        }
        let next: Vec<Vec<u32>> = greedy.iter().map(|row| vec![row[step]]).collect();
        last = forward(decoder, &next, &mut caches)?
            .iter()
            .map(last_row)
            .collect::<Result<_>>()?;
    }
    found("greedy", diff, Some(equal));

    if let (Some(penalty), Some(expected)) = (case.repetition_penalty, golden.get("greedy_penalised")) {
        let mut equal = true;
        for (prompt, expected) in prompts.iter().zip(rows(expected)?) {
            equal &= penalised(decoder, prompt, penalty, expected.len())? == expected;
        }
        findings.push(Finding {
            case: case.name.clone(),
            what: "greedy_penalised",
            max_abs_diff: None,
            tokens_equal: Some(equal),
            ok: equal,
        });
    }
    Ok(())
}

/// Logits (tokens, vocabulary) of each row's new tokens, which join its cache.
fn forward<D: Decoder>(decoder: &D, rows: &[Vec<u32>], caches: &mut [KvCache]) -> Result<Vec<Tensor>> {
    let segment = |(place, row): (usize, &Vec<u32>)| Segment {
        tokens: row.len(),
        past: Past::Row(place),
    };
    let mut step = Step::new(
        rows.iter().enumerate().map(segment).collect(),
        caches.iter_mut().collect(),
    )?;
    let x = decoder.embed(&Tensor::new(rows.concat(), decoder.device())?)?;
    let logits = decoder
        .logits(&decoder.forward(&x, &mut step)?)?
        .to_dtype(DType::F32)?
        .to_device(&Device::Cpu)?;
    step.finish();
    let mut start = 0;
    let mut split = Vec::with_capacity(rows.len());
    for row in rows {
        split.push(logits.narrow(0, start, row.len())?);
        start += row.len();
    }
    Ok(split)
}

fn penalised<D: Decoder>(decoder: &D, prompt: &[u32], penalty: f32, steps: usize) -> Result<Vec<u32>> {
    let mut sampler = Sampler::new(greedy_knobs(penalty), 0, prompt);
    let mut caches = [KvCache::default()];
    let (mut next, mut tokens) = (prompt.to_vec(), Vec::new());
    for _ in 0..steps {
        let logits = forward(decoder, &[next], &mut caches)?;
        match sampler.pick(&mut last_row(&logits[0])?.to_vec1::<f32>()?) {
            Pick::Token(token) => tokens.push(token),
            Pick::Broken => break,
        }
        next = tokens[tokens.len() - 1..].to_vec();
    }
    Ok(tokens)
}

fn last_row(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.get(logits.dim(0)? - 1)?)
}

/// The largest absolute difference; infinite where one of the two is no number.
fn difference(got: &Tensor, expected: &Tensor) -> Result<f64> {
    let apart = (got - expected)?.abs()?.flatten_all()?.to_vec1::<f32>()?;
    let worst = |worst: f64, x: f32| {
        if x.is_nan() {
            f64::INFINITY
        } else {
            worst.max(f64::from(x))
        }
    };
    Ok(apart.into_iter().fold(0.0, worst))
}

fn rows(tensor: &Tensor) -> Result<Vec<Vec<u32>>> {
    Ok(tensor.to_dtype(DType::U32)?.to_vec2()?)
}
