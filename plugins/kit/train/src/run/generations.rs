//! What the model answers to a held-out lesson as it stands, for people to look at.

use super::rows::Named;
use super::student::Student;
use crate::Engine;
use plugin_api::Result;
use serde::{Deserialize, Serialize};

/// One answer beside the one that is wanted.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generation {
    pub lesson: String,
    /// What the model read: everything before the first learnt token, with special tokens, and one mark for each clip.
    pub prompt: String,
    /// What is learnt from there on, without the token that ends it.
    pub target: String,
    pub generated: String,
    /// Whether both say the same.
    pub equal: bool,
    pub generated_tokens: usize,
    /// `stop` where the model ended its answer, else `length`.
    pub finish: String,
}

/// Lets the model answer a row greedily, up to its own end or this many tokens. None if it was asked to stop.
pub fn generation(
    student: &dyn Student,
    engine: &mut dyn Engine,
    named: Named,
    most: usize,
    stop: &dyn Fn() -> bool,
) -> Result<Option<Generation>> {
    let Named { id, row } = named;
    // The first token is never predicted, so it is always read.
    let behind = row.labels.iter().skip(1).position(Option::is_some);
    let start = behind.map_or(row.ids.len(), |place| place + 1);
    let (prompt, rest) = row.ids.split_at(start);
    let learnt = rest
        .iter()
        .zip(&row.labels[start..])
        .take_while(|(_, label)| label.is_some());
    let target: Vec<u32> = learnt.map(|(id, _)| *id).take_while(|id| !student.ends(*id)).collect();
    let (mut pick, mut tokens) = (student.picker(prompt), Vec::new());
    let (mut ended, mut interrupted) = (false, stop());
    if most > 0 && !interrupted {
        engine.answer(&row, start, &mut |logits| {
            let Some(token) = pick(logits) else {
                ended = true;
                return Ok(None);
            };
            tokens.push(token);
            interrupted = stop();
            Ok(Some(token).filter(|_| tokens.len() < most && !interrupted))
        })?;
    }
    if interrupted {
        return Ok(None);
    }
    let generated = student.text(&tokens, false)?;
    let target = student.text(&target, false)?;
    Ok(Some(Generation {
        lesson: id,
        prompt: student.text(&one_mark_a_clip(prompt, engine.facts().placeholder), true)?,
        equal: generated == target,
        target,
        generated,
        generated_tokens: tokens.len(),
        finish: if ended { "stop" } else { "length" }.to_owned(),
    }))
}

/// The tokens, of which those that stand for a clip are one.
fn one_mark_a_clip(ids: &[u32], placeholder: Option<u32>) -> Vec<u32> {
    let mut shown = ids.to_vec();
    shown.dedup_by(|next, last| next == last && Some(*next) == placeholder);
    shown
}
