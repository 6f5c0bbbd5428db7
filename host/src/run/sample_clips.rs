//! The clips of a sample: as the data has them, or changed before they are heard, as `--audio` and the experiments on the
//! sound want it.
//!
//! A change works on a clip at its own rate, before it is resampled for a model, so that all models hear the same one.
//! Another question's clip is drawn from the whole data set, so that `--limit` changes no answer.

use crate::audio::interventions::{Intervention, Sound, for_model};
use crate::audio::{Clips, Decoded, Source, Wanted};
use crate::failure::{Exit, Failure, Result};
use faithfulness::random::Random;
use plugin_api::client::TaskClient;
use plugin_api::{ClipSource, Code, Error, Sample};
use serde_json::{Value, json};
use std::sync::Arc;

/// What a run's answers depend on of the changes that its clips go through. An error when a file of theirs is no clip.
pub fn identity(changes: &[Intervention]) -> Result<Value> {
    let each = changes.iter().map(|change| {
        if let Some(file) = change.file() {
            let what = || Failure::new(Exit::Missing, format!("`--audio {change}` brings in no clip"));
            crate::audio::decode(Source::File(file), &Wanted::default()).map_err(|why| what().cause(why))?;
            return change.identity().map(Value::from).map_err(|why| what().cause(why));
        }
        Ok(Value::from(change.to_string()))
    });
    each.collect()
}

/// A clip of a sample, at the rate that is wanted or its own.
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

/// A sample's clip after these changes, and what each of them did.
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
    // The published seeds name the question; of further clips each has places of its own.
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

/// Another question's clip: the first from a drawn place on that sounds different.
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
        // One that can't be read is its own question's error.
        if let Ok(clip) = decode(clips, &other, 0, None)
            && clip.sha256 != own.sha256
        {
            return Ok((other.id, clip));
        }
    }
    let message = format!(
        "no other question than `{}` has a clip that sounds different",
        sample.id
    );
    Err(Error::new(Code::DATA, message))
}
