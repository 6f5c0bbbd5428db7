//! Replays recordings of a reference implementation, and measures the differences.
//!
//! A `golden` folder holds `golden.safetensors`, with tensors named `case.key`, and `cases.json`. Each case has the
//! prompt's `input_ids`, its `attention_mask` (padding on any side), its `logits`, the `greedy` tokens that follow and
//! the `greedy_logits` each of them was chosen by; recordings of LoRAs may leave the greedy part out. An audio case
//! names its wav files under `audio`, and has the `input_features` of each and the `audio_embeddings` of all. An
//! optional `beams.json` holds searches.

mod beams;
mod talks;

use candle_core::{DType, Device, Tensor};
use generate::{Generator, Pick, Sampler, greedy_knobs};
use nn::{AudioChunk, AudioEmbeds, Decoder, Error, Input, KvCache, LoraPlan, LoraSet, Past, Result, Segment, Step};
use plugin_api::{Clip, Lesson, LoraUse, Message, Prompt, PromptTokens, Role, Turn};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
pub use talks::read_wav;

/// The largest accepted difference of a logit.
const TOLERANCE: f64 = 1e-3;
/// The largest accepted difference of a log-mel feature.
const FEATURE_TOLERANCE: f64 = 1e-4;

/// The result of one comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    pub case: String,
    /// `prompt`, `lesson`, `features`, `audio_embeddings`, `logits`, `greedy`, `greedy_penalised` or `beams`.
    pub what: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_abs_diff: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_equal: Option<bool>,
    pub ok: bool,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    /// One conversation. Cases with other content, such as pictures among the words, are not compared.
    messages: Option<Value>,
    prompt: Option<String>,
    /// If `messages` holds several conversations.
    prompts: Option<Vec<String>>,
    /// Files in the same folder, in the order in which the conversations use them.
    #[serde(default)]
    audio: Vec<String>,
    prompt_without_thinking: Option<String>,
    /// The difference between the two best logits over the greedy steps; if it is below the tolerance, either token is
    /// right.
    #[serde(default)]
    smallest_margin: f64,
    repetition_penalty: Option<f32>,
    /// Plain texts, one for each row.
    #[serde(default)]
    texts: Vec<String>,
}

/// Answers [`plugin_api::Model::replay`] for `{"golden": FOLDER}`, or `{"golden": FOLDER, "lora": NAME}` for
/// recordings with a LoRA.
pub fn trace<D: Decoder>(generator: &Generator<D>, request: &Value) -> plugin_api::Result<Value> {
    let Some(folder) = request["golden"].as_str() else {
        return Err(plugin_api::Error::unsupported(
            "the only trace known here is `{\"golden\": FOLDER}`",
        ));
    };
    let recording = Recording::open(Path::new(folder)).map_err(Error::into_plugin_error)?;
    Ok(report(&replay(generator, &recording, request["lora"].as_str())?))
}

/// The findings as the answer of a replay.
pub fn report(findings: &[Finding]) -> Value {
    serde_json::json!({ "ok": findings.iter().all(|finding| finding.ok), "cases": findings })
}

/// A `golden` folder. A model whose reference records other things converts them first.
pub struct Recording {
    pub folder: PathBuf,
    pub cases: Vec<Value>,
    /// By `case.key`.
    pub tensors: HashMap<String, Tensor>,
}

impl Recording {
    pub fn open(folder: &Path) -> Result<Recording> {
        #[derive(Deserialize)]
        struct Recorded {
            cases: Vec<Value>,
        }
        let recorded: Recorded = checkpoint::read_json(&folder.join("cases.json"))?;
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
        Ok(Recording {
            folder: folder.to_owned(),
            cases: recorded.cases,
            tensors,
        })
    }

    /// The clip in a wav file of the folder.
    pub fn clip(&self, name: &str) -> Result<Clip> {
        // A recording is not trusted: it may name files in its own folder only.
        match Path::new(name).file_name() == Some(name.as_ref()) {
            true => talks::read_wav(&self.folder.join(name)),
            false => Err(self.malformed(format!("`audio` names `{name}`, which is outside of the folder"))),
        }
    }

    pub fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            path: self.folder.join("cases.json"),
            reason,
        }
    }
}

/// Replays all cases of a recording, with the LoRA of this name.
pub fn replay<D: Decoder>(
    generator: &Generator<D>,
    recording: &Recording,
    lora: Option<&str>,
) -> plugin_api::Result<Vec<Finding>> {
    let used = match lora {
        Some(name) => LoraUse::Only(vec![name.to_owned()]),
        None => LoraUse::Off,
    };
    let loras = generator.loras().choose(&used)?;
    replay_with(generator, recording, &loras).map_err(Error::into_plugin_error)
}

fn replay_with<D: Decoder>(generator: &Generator<D>, recording: &Recording, loras: &LoraSet) -> Result<Vec<Finding>> {
    let _entered = generator.loras().enter(LoraPlan::all(loras));
    let (folder, path) = (&recording.folder, recording.folder.join("golden.safetensors"));
    let mut findings = Vec::new();
    for case in &recording.cases {
        let case: Case = Deserialize::deserialize(case).map_err(|e| recording.malformed(e.to_string()))?;
        let golden = Golden {
            tensors: &recording.tensors,
            case: &case.name,
            path: &path,
        };
        // No decoder here takes images, and recordings of training have no prompt.
        if golden.get("pixel_values").is_some() || golden.get("input_ids").is_none() {
            continue;
        }
        let inputs = compare_prompts(generator, &case, &golden, recording, &mut findings)?;
        if let Some(inputs) = inputs {
            compare_logits(generator.decoder(), &case, &golden, inputs, &mut findings)?;
        }
    }
    let searches = folder.join("beams.json");
    if searches.is_file() {
        findings.extend(beams::replay(generator, &searches, loras)?);
    }
    Ok(findings)
}

/// Records the model's answers in the format of [`replay`]: the logits of whole prompts.
pub fn record<D: Decoder>(
    generator: &Generator<D>,
    loras: &LoraSet,
    prompts: Vec<Vec<u32>>,
    folder: &Path,
) -> Result<()> {
    let _entered = generator.loras().enter(LoraPlan::all(loras));
    let (mut tensors, mut cases) = (HashMap::new(), Vec::new());
    for (number, prompt) in prompts.into_iter().filter(|prompt| !prompt.is_empty()).enumerate() {
        let name = format!("prompt{number}");
        let ids = Tensor::new(prompt.as_slice(), &Device::Cpu)?.unsqueeze(0)?;
        let logits = forward(generator.decoder(), &[Input::text(prompt)], &mut [KvCache::default()])?;
        tensors.insert(format!("{name}.attention_mask"), ids.ones_like()?);
        tensors.insert(format!("{name}.input_ids"), ids);
        tensors.insert(format!("{name}.logits"), logits[0].unsqueeze(0)?);
        cases.push(serde_json::json!({ "name": name }));
    }
    let write = |name: &str, bytes: &dyn Fn(&Path) -> std::io::Result<()>| {
        let path = folder.join(name);
        bytes(&path).map_err(|source| Error::Write { path, source })
    };
    let cases = serde_json::json!({ "cases": cases }).to_string();
    write("cases.json", &|path| std::fs::write(path, &cases))?;
    write("golden.safetensors", &|path| {
        candle_core::safetensors::save(&tensors, path).map_err(std::io::Error::other)
    })
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

    /// For each row, the positions that the mask keeps.
    fn kept(&self) -> Result<Vec<Vec<usize>>> {
        let mask = rows(self.need("attention_mask")?)?;
        Ok(mask
            .iter()
            .map(|row| (0..row.len()).filter(|&place| row[place] != 0).collect())
            .collect())
    }

    /// Rows of token ids, at the kept positions.
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

/// The prompts of each row, if they equal the reference's.
fn compare_prompts<D: Decoder>(
    generator: &Generator<D>,
    case: &Case,
    golden: &Golden,
    recording: &Recording,
    findings: &mut Vec<Finding>,
) -> Result<Option<Vec<Input>>> {
    let recorded = golden.prompts()?;
    if !case.texts.is_empty() {
        let same = |(text, ids): (&String, &Vec<u32>)| {
            let tokens = generator.tokens(&Prompt::plain(text.clone()));
            tokens.is_ok_and(|tokens| tokens.ids == *ids)
        };
        let ok = recorded.len() == case.texts.len() && case.texts.iter().zip(&recorded).all(same);
        findings.push(prompt_finding(case, ok));
    }
    let as_text = || Some(recorded.iter().cloned().map(Input::text).collect());
    let (talks, texts) = match (&case.messages, &case.prompt, &case.prompts) {
        (Some(talk), Some(text), _) => (vec![talk.clone()], vec![text.clone()]),
        (Some(Value::Array(talks)), None, Some(texts)) => (talks.clone(), texts.clone()),
        _ => return Ok(as_text()),
    };
    let clips = case
        .audio
        .iter()
        .map(|name| recording.clip(name))
        .collect::<Result<Vec<Clip>>>()?;
    let mut prompts = talks::prompts(talks, clips).map_err(|reason| golden.malformed(&reason))?;
    if prompts.len() != recorded.len() || texts.len() != recorded.len() {
        return Err(golden.malformed("it has not as many conversations as rows"));
    }
    let mut ok = true;
    let mut inputs = Vec::with_capacity(prompts.len());
    for ((prompt, text), ids) in prompts.iter_mut().zip(&texts).zip(&recorded) {
        let rendered = generator.chat().encode_as_it_is(prompt);
        ok &= rendered.as_ref().is_ok_and(|tokens| tokens.text == *text);
        let decoder = generator.decoder();
        let input = rendered.and_then(|tokens| decoder.input(prompt, tokens.ids)?.heard(decoder));
        ok &= input.as_ref().is_ok_and(|input| input.tokens == *ids);
        inputs.extend(input);
        if let Some(text) = &case.prompt_without_thinking {
            prompt.thinking = Some(false);
            let rendered = generator.chat().encode_as_it_is(prompt);
            ok &= rendered.is_ok_and(|tokens| tokens.text == *text);
        }
    }
    findings.push(prompt_finding(case, ok));
    if !case.audio.is_empty() {
        let lessons = prompts.iter().zip(&recorded);
        findings.push(Finding {
            what: "lesson",
            ..prompt_finding(
                case,
                lessons.into_iter().all(|(prompt, ids)| taught(generator, prompt, ids)),
            )
        });
        compare_sound(generator.decoder(), case, golden, &prompts, findings)?;
        // A prompt that differs in the places of clips cannot be compared further.
        return Ok(ok.then_some(inputs));
    }
    Ok(as_text())
}

/// Whether a lesson with an answer to this prompt is the recorded prompt, not learnt, followed by the answer. In it
/// each clip is one token; training expands it.
fn taught<D: Decoder>(generator: &Generator<D>, prompt: &Prompt, ids: &[u32]) -> bool {
    let (chat, ids_of) = (generator.chat(), |cut: plugin_api::Result<PromptTokens>| {
        cut.ok().map(|cut| cut.ids)
    });
    if ids_of(chat.encode(prompt)) != ids_of(chat.encode_as_it_is(prompt)) {
        return true; // settings add words that the reference did not have
    }
    let turn = |message: &Message| Turn {
        message: message.clone(),
        learn: message.role == Role::Assistant,
    };
    let answer = Message::text(Role::Assistant, "A word.");
    let lesson = Lesson {
        turns: prompt.messages.iter().chain([&answer]).map(turn).collect(),
        ..Lesson::default()
    };
    let mut expected = ids.to_vec();
    expected.dedup_by(|a, b| a == b && Some(*a) == generator.decoder().placeholder());
    let cut = generator.lesson_cutter();
    cut(&lesson).is_ok_and(|tokens| {
        let (read, said) = tokens.learn.split_at(expected.len().min(tokens.learn.len()));
        tokens.ids.starts_with(&expected) && said.first() == Some(&true) && read.last() == Some(&false)
    })
}

fn prompt_finding(case: &Case, ok: bool) -> Finding {
    Finding {
        case: case.name.clone(),
        what: "prompt",
        max_abs_diff: None,
        tokens_equal: Some(ok),
        ok,
    }
}

fn compare_sound<D: Decoder>(
    decoder: &D,
    case: &Case,
    golden: &Golden,
    prompts: &[Prompt],
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let clips: Vec<&Clip> = prompts.iter().flat_map(|prompt| &prompt.clips).collect();
    let heard = || -> plugin_api::Result<Vec<AudioEmbeds>> {
        let pieces = decoder.audio_chunks(&clips)?.each;
        let sound = |piece: &AudioChunk| clips.get(piece.clip)?.samples().get(piece.samples.clone());
        decoder.encode_audio(&pieces.iter().filter_map(sound).collect::<Vec<_>>())
    };
    let heard = heard().unwrap_or_default().into_iter();
    let (features, vectors): (Vec<_>, Vec<_>) = heard.map(|it| (it.features, it.vectors)).unzip();
    let mut found = |what, tolerance: f64, diff: f64| {
        findings.push(Finding {
            case: case.name.clone(),
            what,
            max_abs_diff: Some(diff),
            tokens_equal: None,
            ok: diff <= tolerance,
        });
    };
    if let Some(expected) = golden.get("input_features") {
        let (pieces, bins, frames) = expected.dims3()?;
        let mut diff = if pieces == features.len() { 0f64 } else { f64::INFINITY };
        for (piece, mel) in features.iter().enumerate().take(pieces) {
            let rows = mel.rows(frames);
            diff = diff.max(match rows.len() == frames * bins {
                true => {
                    let rows = Tensor::from_vec(rows.into_owned(), (frames, bins), &Device::Cpu)?;
                    difference(&rows, &expected.get(piece)?.t()?)?
                }
                false => f64::INFINITY,
            });
        }
        found("features", FEATURE_TOLERANCE, diff);
    }
    if let Some(expected) = golden.get("audio_embeddings") {
        let diff = match vectors.iter().map(|vectors| vectors.dims()[0]).sum::<usize>() == expected.dim(0)? {
            true => difference(&plain(&Tensor::cat(&vectors, 0)?)?, expected)?,
            false => f64::INFINITY,
        };
        found("audio_embeddings", TOLERANCE, diff);
    }
    Ok(())
}

/// The type and device of recordings: fp32 in main memory.
fn plain(tensor: &Tensor) -> candle_core::Result<Tensor> {
    tensor.to_dtype(DType::F32)?.to_device(&Device::Cpu)
}

fn compare_logits<D: Decoder>(
    decoder: &D,
    case: &Case,
    golden: &Golden,
    prompts: Vec<Input>,
    findings: &mut Vec<Finding>,
) -> Result<()> {
    let kept = golden.kept()?;
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

    let greedy = golden.get("greedy").map(rows).transpose()?;
    let rows_differ = greedy.as_ref().is_some_and(|greedy| greedy.len() != prompts.len());
    if rows_differ || prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
        return Err(golden.malformed("a prompt is empty, or has no row in `greedy`"));
    }

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

    let Some(greedy) = greedy else {
        return Ok(());
    };
    // Token by token. The recorded token goes in whatever was predicted, so that one difference counts once.
    let expected = golden.need("greedy_logits")?;
    let mut last: Vec<Tensor> = logits.iter().map(last_row).collect::<Result<_>>()?;
    let (mut diff, mut equal) = (0f64, true);
    for step in 0..greedy[0].len() {
        for (row, logits) in last.iter().enumerate() {
            diff = diff.max(difference(logits, &expected.get(row)?.get(step)?)?);
            equal &= logits.argmax(0)?.to_scalar::<u32>()? == greedy[row][step];
        }
        let next: Vec<Input> = greedy.iter().map(|row| Input::text(vec![row[step]])).collect();
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

/// Logits (tokens, vocabulary) of each row's new tokens, which are added to its cache.
fn forward<D: Decoder>(decoder: &D, rows: &[Input], caches: &mut [KvCache]) -> Result<Vec<Tensor>> {
    let segment = |(place, row): (usize, &Input)| Segment {
        tokens: row.tokens.len(),
        past: Past::Row(place),
    };
    let mut step = Step::new(
        rows.iter().enumerate().map(segment).collect(),
        caches.iter_mut().collect(),
    )?;
    let embedded = |row: &Input| match &row.embedded {
        Some(vectors) => Ok(vectors.clone()),
        None => decoder.embed(&Tensor::new(row.tokens.as_slice(), decoder.device())?),
    };
    let x = Tensor::cat(&rows.iter().map(embedded).collect::<candle_core::Result<Vec<_>>>()?, 0)?;
    let logits = plain(&decoder.logits(&decoder.forward(&x, &mut step)?)?)?;
    step.finish();
    let mut start = 0;
    let mut split = Vec::with_capacity(rows.len());
    for row in rows {
        split.push(logits.narrow(0, start, row.tokens.len())?);
        start += row.tokens.len();
    }
    Ok(split)
}

fn penalised<D: Decoder>(decoder: &D, prompt: &Input, penalty: f32, steps: usize) -> Result<Vec<u32>> {
    let mut sampler = Sampler::new(greedy_knobs(penalty), 0, &prompt.tokens);
    let mut caches = [KvCache::default()];
    let (mut next, mut tokens) = (prompt.clone(), Vec::new());
    for _ in 0..steps {
        let logits = forward(decoder, &[next], &mut caches)?;
        match sampler.pick(&mut last_row(&logits[0])?.to_vec1::<f32>()?) {
            Pick::Token(token) => tokens.push(token),
            Pick::Broken => break,
        }
        next = Input::text(tokens[tokens.len() - 1..].to_vec());
    }
    Ok(tokens)
}

fn last_row(logits: &Tensor) -> Result<Tensor> {
    Ok(logits.get(logits.dim(0)? - 1)?)
}

/// The largest absolute difference; infinite if one of the two is not a number.
pub fn difference(got: &Tensor, expected: &Tensor) -> Result<f64> {
    let apart = (&plain(got)? - expected)?.abs()?.flatten_all()?.to_vec1::<f32>()?;
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
