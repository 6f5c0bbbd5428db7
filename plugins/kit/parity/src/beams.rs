//! Replays recorded beam searches. `golden/beams.py` records them for any checkpoint.

use super::{Finding, TOLERANCE};
use generate::{Breadth, EarlyStop, Generator, Lane, Search, State, pass};
use nn::{Decoder, Error, Input, LoraSet, Result};
use plugin_api::{Prompt, Sampling};
use serde::Deserialize;
use std::path::Path;

#[derive(Deserialize)]
struct Recorded {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    beams: usize,
    length_penalty: f32,
    #[serde(default)]
    early_stopping: EarlyStop,
    repetition_penalty: f32,
    max_new_tokens: usize,
    #[serde(default)]
    min_new_tokens: usize,
    stop_tokens: Vec<u32>,
    prompts: Vec<Vec<u32>>,
    /// For each prompt, its answers, best first.
    answers: Vec<Vec<Answer>>,
}

#[derive(Deserialize)]
struct Answer {
    tokens: Vec<u32>,
    score: f64,
}

pub(super) fn replay<D: Decoder>(generator: &Generator<D>, path: &Path, loras: &LoraSet) -> Result<Vec<Finding>> {
    let recorded: Recorded = checkpoint::read_json(path)?;
    let mut findings = Vec::new();
    for case in &recorded.cases {
        let malformed = |why: &str| Error::Malformed {
            path: path.to_owned(),
            reason: format!("case `{}`: {why}", case.name),
        };
        if case.beams == 0 || case.beams > 256 || case.prompts.len() != case.answers.len() {
            return Err(malformed("it has no beams, too many, or not an answer for each prompt"));
        }
        let (mut diff, mut equal) = (0f64, true);
        for (prompt, expected) in case.prompts.iter().zip(&case.answers) {
            if prompt.is_empty() {
                return Err(malformed("a prompt is empty"));
            }
            let context = generator.decoder().context();
            if prompt.len() >= context {
                return Err(Error::TooLong {
                    what: format!("the prompt of search `{}`", case.name),
                    got: prompt.len(),
                    room: context.saturating_sub(1),
                });
            }
            let input = Input {
                loras: loras.clone(),
                ..Input::text(prompt.clone())
            };
            let found = search(generator, case, input, expected.len())?;
            equal &= found.len() == expected.len();
            for (found, expected) in found.iter().zip(expected) {
                equal &= found.0 == expected.tokens;
                diff = diff.max((f64::from(found.1) - expected.score).abs());
            }
        }
        findings.push(Finding {
            case: case.name.clone(),
            what: "beams",
            max_abs_diff: Some(diff),
            tokens_equal: Some(equal),
            ok: equal && diff <= TOLERANCE,
        });
    }
    Ok(findings)
}

/// The tokens and score of each answer.
fn search<D: Decoder>(
    generator: &Generator<D>,
    case: &Case,
    prompt: Input,
    answers: usize,
) -> Result<Vec<(Vec<u32>, f32)>> {
    let breadth = Breadth {
        beams: case.beams,
        length_penalty: case.length_penalty,
        early_stop: case.early_stopping,
        repetition_penalty: case.repetition_penalty,
        room: case
            .max_new_tokens
            .min(generator.decoder().context() - prompt.tokens.len()),
        least: case.min_new_tokens,
    };
    let reader = generator.chat().reader(&Prompt::plain(""), "", &Sampling::default());
    let mut search = Search::new(0, Lane::new(prompt), reader, breadth);
    loop {
        let lanes = search
            .beams
            .iter_mut()
            .map(|beam| (beam.lane.waiting(), &mut beam.lane));
        let mut lanes: Vec<_> = lanes.map(|(waiting, lane)| (lane, waiting)).collect();
        let found = pass(generator.decoder(), generator.loras(), &mut lanes, &mut [])?;
        let state = search.advance(found.lanes.into_iter().flatten().collect(), &case.stop_tokens);
        match state.map_err(|e| candle_core::Error::Msg(e.to_string()))? {
            State::Growing => {}
            State::Done | State::Broken => break,
        }
    }
    Ok(search
        .finish(answers)
        .into_iter()
        .map(|ended| (ended.tokens, ended.score))
        .collect())
}
