//! The clips of a sample: as in the data, or with the changes of `--audio` and of the experiments on sound.
//!
//! A change works on a clip at its own rate, before it is resampled for a model, so that all models hear the same
//! change. Another question's clip is drawn from the whole data set, so that `--limit` changes no answer.

use crate::audio::interventions::{Intervention, Sound, for_model};
use crate::audio::{Clips, Decoded, Source, Wanted};
use crate::failure::{Exit, Failure, Result};
use faithfulness::random::Random;
use plugin_api::client::TaskClient;
use plugin_api::{ClipSource, Code, Error, Sample};
use serde_json::{Value, json};
use std::sync::Arc;

/// The part of a run's identity that describes the changes to its clips. An error if one of their files is not a clip.
pub fn identity(changes: &[Intervention]) -> Result<Value> {
    let each = changes.iter().map(|change| {
        if let Some(file) = change.file() {
            let what = || {
                Failure::new(
                    Exit::Missing,
                    format!("`--audio {change}` names a file that is not a clip"),
                )
            };
            crate::audio::decode(Source::File(file), &Wanted::default()).map_err(|why| what().cause(why))?;
            return change.identity().map(Value::from).map_err(|why| what().cause(why));
        }
        Ok(Value::from(change.to_string()))
    });
    each.collect()
}

/// A clip of a sample, at the requested rate or its own.
pub fn decode(clips: &Clips, sample: &Sample, index: usize, rate: Option<u32>) -> plugin_api::Result<Arc<Decoded>> {
    let source: &ClipSource = sample.clips.get(index).ok_or_else(|| {
        let have = sample.clips.len();
        let message = format!("the prompt names clip {index}, but the sample has {have}");
        Error::new(Code::DATA, message)
    })?;
    let wanted = Wanted {
        rate,
        start: source.start,
        end: source.end,
        ..Wanted::default()
    };
    let name = format!("clip {index} of sample {}", sample.id);
    let from = match (&source.path, source.blob.and_then(|blob| sample.blobs.get(blob))) {
        (Some(path), _) => Source::File(path),
        (None, Some(bytes)) => Source::Bytes { name: &name, bytes },
        (None, None) => return Err(Error::new(Code::CLIP, format!("{name} names neither a file nor bytes"))),
    };
    clips.get(from, &wanted).map_err(|why| {
        let error = Error::from(why.clone()).code(Code::CLIP);
        match why.hint() {
            Some(hint) => error.help(hint),
            None => error,
        }
    })
}

/// A sample's clip after these changes, and a note of what each did.
pub fn changed(
    clips: &Clips,
    task: &TaskClient,
    sample: &Sample,
    index: usize,
    rate: Option<u32>,
    changes: &[Intervention],
) -> plugin_api::Result<(Decoded, Vec<Value>)> {
    let own = decode(clips, sample, index, None)?;
    let mut sound = Sound::of(&own);
    // The published seeds contain the question's id; further clips have seeds of their own.
    let id = match index {
        0 => sample.id.clone(),
        index => format!("{}_{index}", sample.id),
    };
    let mut done = Vec::new();
    for change in changes {
        let (mut other, mut clip_of) = (None, None);
        if let Some(file) = change.file() {
            let decoded = clips.get(Source::File(file), &Wanted::default());
            other = Some(decoded.map_err(|why| Error::from(why).code(Code::CLIP))?);
        } else if let Some(seed) = change.swaps() {
            let (id, clip) = another(clips, task, sample, &own, seed)?;
            (other, clip_of) = (Some(clip), Some(id));
        }
        let mut about = change.apply(&mut sound, &id, other.as_deref().map(Sound::of).as_ref())?;
        if let Some(id) = clip_of {
            about["clip_of"] = json!(id);
        }
        done.push(about);
    }
    Ok((for_model(sound, &own, rate)?, done))
}

/// Another question's clip: the first one that sounds different, from a random place on.
fn another(
    clips: &Clips,
    task: &TaskClient,
    sample: &Sample,
    own: &Decoded,
    seed: u64,
) -> plugin_api::Result<(String, Arc<Decoded>)> {
    let count = task.count()?;
    let drawn = Random::seeded(&format!("{seed}_{}_swap", sample.id)).below(count as u64) as usize;
    for place in 0..count {
        let other = task.sample((drawn + place) % count)?;
        if other.id == sample.id || other.clips.is_empty() {
            continue;
        }
        // An unreadable clip is an error of its own question.
        if let Ok(clip) = decode(clips, &other, 0, None)
            && clip.sha256 != own.sha256
        {
            return Ok((other.id, clip));
        }
    }
    let message = format!("no question besides `{}` has a clip that sounds different", sample.id);
    Err(Error::new(Code::DATA, message))
}
