//! Replays what the reference recorded of all four parts together, stage by stage.
//!
//! Its recordings name the stages in their own words; put into those of the kit, the kit compares prompts, features,
//! vectors, logits and answers. What is left for here are the stages between, and the search with beams.

use crate::architecture::{PLACEHOLDER, TwoEars};
use crate::lora;
use ::parity::{Finding, Recording, difference, report};
use candle_core::{D, DType, Device, Tensor};
use model::Generator;
use nn::dense::AudioLanguageModel;
use nn::{Error, Result};
use plugin_api::{Call, Message, NoCallbacks, Part, Prompt, Sampling};
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

/// The largest distance of features from the recorded ones, and of encoders' outputs.
const FEATURES: f64 = 1e-4;
const STEPS: f64 = 1e-3;

#[derive(Deserialize)]
struct Case {
    name: String,
    audio: Vec<String>,
    ask: String,
    before_ids: Vec<u32>,
    after_ids: Vec<u32>,
    bos: u32,
}

pub fn replay_recorded(
    generator: &mut Generator<AudioLanguageModel<TwoEars>>,
    request: &Value,
) -> plugin_api::Result<Value> {
    let Some(folder) = request["golden"].as_str() else {
        return ::parity::trace(generator, request);
    };
    let mut recording = Recording::open(Path::new(folder)).map_err(Error::into_plugin_error)?;
    // What `merge` records: texts, without a clip and without the model's own LoRA.
    if recording.cases.iter().all(|case| case.get("audio").is_none()) {
        return Ok(report(&::parity::replay(generator, &recording, None)?));
    }
    let mut findings = Vec::new();
    for index in 0..recording.cases.len() {
        let case = Case::deserialize(&recording.cases[index])
            .map_err(|e| recording.malformed(e.to_string()).into_plugin_error())?;
        findings
            .extend(stages(&generator.decoder().audio_encoder, &recording, &case).map_err(Error::into_plugin_error)?);
        findings.extend(searched(generator, &recording, &case)?);
        translate(&mut recording, index, &case).map_err(Error::into_plugin_error)?;
    }
    findings.extend(::parity::replay(generator, &recording, Some(lora::NAME))?);
    Ok(report(&findings))
}

/// The stages between those of the kit: filter banks, and each encoder's output for the clip.
fn stages(audio_encoder: &TwoEars, recording: &Recording, case: &Case) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    let clip = recording.clip(case.audio.first().map_or("", String::as_str))?;
    let stages = audio_encoder.stages(clip.samples())?;
    let bins = 128;
    let fbank = Tensor::from_slice(&stages.fbank, (stages.fbank.len() / bins, bins), &Device::Cpu)?;
    let all = [
        ("fbank", &fbank, FEATURES),
        ("whisper", &stages.speech, STEPS),
        ("beats", &stages.sound, STEPS),
    ];
    for (what, got, tolerance) in all {
        let Some(expected) = recording.tensors.get(&format!("{}.{what}", case.name)) else {
            continue;
        };
        let expected = expected.squeeze(0)?;
        let diff = match got.dims() == expected.dims() {
            true => difference(got, &expected)?,
            false => f64::INFINITY,
        };
        findings.push(Finding {
            case: case.name.clone(),
            what,
            max_abs_diff: Some(diff),
            tokens_equal: None,
            ok: diff <= tolerance,
        });
    }
    Ok(findings)
}

/// The recorded search, as a prompt would request it.
fn searched(
    generator: &mut Generator<AudioLanguageModel<TwoEars>>,
    recording: &Recording,
    case: &Case,
) -> plugin_api::Result<Option<Finding>> {
    let Some(expected) = recording.tensors.get(&format!("{}.beam4", case.name)) else {
        return Ok(None);
    };
    let tokens = |tensor: &Tensor| tensor.flatten_all()?.to_dtype(DType::U32)?.to_vec1::<u32>();
    let expected = tokens(expected)?;
    let mut prompt = Prompt::new([Message {
        parts: vec![Part::clip(0), Part::text(case.ask.clone())],
        ..Message::default()
    }])
    .sample(Sampling {
        beams: Some(4),
        max_tokens: Some(expected.len() as u32),
        ..Sampling::default()
    });
    prompt.clips = vec![
        recording
            .clip(case.audio.first().map_or("", String::as_str))
            .map_err(Error::into_plugin_error)?,
    ];
    let reply = generator.reply(&prompt, &mut Call::new(&NoCallbacks))?;
    let end = expected.iter().position(|&token| token == 2); // what follows the end is padding
    // Read token by token, like a reply: bytes that are not text have several spellings.
    let mut reader = generator.chat().reader(&prompt, "", &Sampling::default());
    for &token in &expected[..end.unwrap_or(expected.len())] {
        reader.push(token).map_err(text::Error::into_plugin_error)?;
    }
    let (_, answer) = reader.finish().map_err(text::Error::into_plugin_error)?;
    let equal = reply.text == answer.text;
    Ok(Some(Finding {
        case: case.name.clone(),
        what: "beams",
        max_abs_diff: None,
        tokens_equal: Some(equal),
        ok: equal,
    }))
}

/// The case with the kit's names.
fn translate(recording: &mut Recording, index: usize, case: &Case) -> Result<()> {
    recording.cases[index]["messages"] = json!([
        { "role": "user", "content": [{ "type": "audio" }, { "type": "text", "text": case.ask }] }
    ]);
    let renamed = [
        ("spectrogram", "input_features"),
        ("audio_embeddings", "audio_embeddings"),
    ];
    let mut heard = 0;
    for (theirs, ours) in renamed {
        if let Some(tensor) = recording.tensors.remove(&format!("{}.{theirs}", case.name)) {
            let tensor = match theirs {
                "audio_embeddings" => {
                    heard = tensor.dim(D::Minus2)?;
                    tensor.squeeze(0)?
                }
                _ => tensor,
            };
            recording.tensors.insert(format!("{}.{ours}", case.name), tensor);
        }
    }
    let first = [vec![case.bos], case.before_ids.clone()].concat();
    let ids = [first, vec![PLACEHOLDER; heard], case.after_ids.clone()].concat();
    let ids = Tensor::new(ids, &Device::Cpu)?.unsqueeze(0)?;
    let mask = ids.ones_like()?;
    recording.tensors.insert(format!("{}.attention_mask", case.name), mask);
    recording.tensors.insert(format!("{}.input_ids", case.name), ids);
    Ok(())
}
