//! The lessons of a task.

use super::source::Source;
use crate::audio::{AudioError, Clips, Source as Sound, Wanted};
use crate::failure::{self, Failure};
use crate::run::store::hash::{hash_json, hex};
use plugin_api::client::TaskClient;
use plugin_api::{Clip, Code, Error, Lesson, Part, Sample};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::Path;

/// The most bytes of decoded audio that are kept.
const CLIPS: usize = 256 << 20;
/// How many names of left-out samples are listed.
const SHOWN: usize = 5;

/// How clips are used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Hearing {
    /// The model takes audio, at this rate.
    pub rate: Option<u32>,
    pub hears: bool,
    /// Each sample is also used once without its clip.
    pub add_text_only: bool,
    /// A missing clip ends the run.
    pub strict: bool,
    /// If no clip at all is found, samples are not trained as text either.
    pub no_fallback: bool,
}

/// Samples of a task, by position.
pub struct TaskLessons {
    task: TaskClient,
    /// Which samples, and for each whether its clips are left out.
    entries: Vec<(usize, bool)>,
    identity: Value,
    clips: Clips,
    hearing: Hearing,
    /// Notes about these lessons.
    pub notes: Vec<String>,
}

impl TaskLessons {
    /// Looks at every sample once, so that unusable ones are reported by name before training.
    pub fn new(task: TaskClient, identity: Value, indexes: &[usize], hearing: Hearing) -> failure::Result<TaskLessons> {
        let mut lessons = TaskLessons {
            task,
            entries: Vec::new(),
            identity,
            clips: Clips::new(CLIPS),
            hearing,
            notes: Vec::new(),
        };
        let (mut missing, mut broken, mut with_clips) = (Vec::new(), Vec::new(), 0_usize);
        for index in indexes {
            let sample = match lessons.task.sample(*index) {
                Ok(sample) => sample,
                Err(error) if error.code.is_inability() => return Err(error.into()),
                Err(error) => {
                    broken.push(format!("`#{index}`: {error}"));
                    continue;
                }
            };
            let lesson = match lessons.task.lesson(&sample) {
                Ok(lesson) => lesson,
                Err(error) if error.code.is_inability() => return Err(error.into()),
                Err(error) => {
                    broken.push(format!("`{}`: {error}", sample.id));
                    continue;
                }
            };
            let wanted = places(&lesson);
            if wanted.is_empty() || !hearing.hears {
                lessons.entries.push((*index, !wanted.is_empty()));
                continue;
            }
            let gone = wanted.iter().find_map(|clip| absent(&sample, *clip));
            match gone {
                None => {
                    with_clips += 1;
                    lessons.entries.push((*index, false));
                    if hearing.add_text_only {
                        lessons.entries.push((*index, true));
                    }
                }
                Some(clip) if hearing.strict => {
                    let message = format!("the clip of sample `{}` is missing: {clip}", sample.id);
                    let failure = Failure::missing(message);
                    return Err(failure.help("leave out `--strict-audio-missing` to learn from the other samples"));
                }
                Some(_) => missing.push((*index, sample.id)),
            }
        }
        let all = indexes.len();
        lessons.tell_missing(missing, with_clips, all);
        if !broken.is_empty() {
            let first = broken.iter().take(SHOWN).cloned().collect::<Vec<_>>().join("; ");
            lessons
                .notes
                .push(format!("{} of {all} samples left out: {first}", broken.len()));
        }
        if lessons.entries.is_empty() {
            let failure = Failure::missing("the task has no sample that can be learnt");
            return Err(lessons.notes.iter().fold(failure, |failure, note| failure.cause(note)));
        }
        Ok(lessons)
    }

    /// Samples without their clips are left out; if all clips are missing, all samples are trained as text, as the
    /// script does.
    fn tell_missing(&mut self, missing: Vec<(usize, String)>, with_clips: usize, all: usize) {
        if missing.is_empty() {
            return;
        }
        let names = missing.iter().take(SHOWN).map(|(_, id)| format!("`{id}`"));
        let names = names.collect::<Vec<_>>().join(", ");
        let more = if missing.len() > SHOWN { " and others" } else { "" };
        let count = missing.len();
        if with_clips == 0 && !self.hearing.no_fallback {
            self.notes.push(format!(
                "no clip is there at all; samples learnt as text: {count} of {all}"
            ));
            self.entries.extend(missing.into_iter().map(|(index, _)| (index, true)));
            self.entries.sort_unstable();
            return;
        }
        self.notes.push(format!(
            "{count} of {all} samples left out, since their clips are missing: {names}{more}"
        ));
    }

    fn sample(&self, index: usize) -> plugin_api::Result<(Sample, Lesson)> {
        let (place, as_text) = self.entries[index];
        let mut sample = self.task.sample(place)?;
        if as_text {
            sample.clips.clear();
        }
        let mut lesson = self.task.lesson(&sample)?;
        if as_text {
            drop_clips(&mut lesson);
        }
        Ok((sample, lesson))
    }

    /// What `of` gives of a clip of a sample.
    fn of_clip<T>(
        &self,
        sample: &Sample,
        index: usize,
        of: impl FnOnce(Sound, &Wanted) -> Result<T, AudioError>,
    ) -> plugin_api::Result<T> {
        let source = sample.clips.get(index).ok_or_else(|| {
            let message = format!(
                "the lesson names clip {index}, but the sample has {}",
                sample.clips.len()
            );
            Error::new(Code::DATA, message)
        })?;
        let wanted = Wanted {
            rate: self.hearing.rate,
            start: source.start,
            end: source.end,
            ..Wanted::default()
        };
        let name = format!("clip {index} of sample {}", sample.id);
        let from = match (&source.path, source.blob.and_then(|blob| sample.blobs.get(blob))) {
            (Some(path), _) => Sound::File(path),
            (None, Some(bytes)) => Sound::Bytes { name: &name, bytes },
            (None, None) => return Err(Error::new(Code::CLIP, format!("{name} names neither a file nor bytes"))),
        };
        of(from, &wanted).map_err(|why| {
            Error::from(why)
                .context(format!("sample `{}` cannot be learnt", sample.id))
                .code(Code::CLIP)
        })
    }

    fn decode(&self, sample: &Sample, index: usize) -> plugin_api::Result<Clip> {
        self.of_clip(sample, index, |clip, wanted| {
            Ok(self.clips.get(clip, wanted)?.clip.clone())
        })
    }
}

/// The clips of a lesson, in its order.
fn places(lesson: &Lesson) -> Vec<usize> {
    let parts = lesson.turns.iter().flat_map(|turn| &turn.message.parts);
    let clips = parts.filter_map(|part| match part {
        Part::Clip { clip, .. } => Some(*clip),
        _ => None,
    });
    clips.collect()
}

/// The name of a sample's missing clip.
fn absent(sample: &Sample, clip: usize) -> Option<String> {
    let Some(source) = sample.clips.get(clip) else {
        return Some("no such file was found".to_owned());
    };
    let path: &Path = source.path.as_deref().filter(|_| source.blob.is_none())?;
    (!path.is_file()).then(|| format!("`{}` is not there", path.display()))
}

/// A lesson without its audio.
fn drop_clips(lesson: &mut Lesson) {
    for turn in &mut lesson.turns {
        turn.message.parts.retain(|part| !matches!(part, Part::Clip { .. }));
    }
}

impl Source for TaskLessons {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn name(&self, index: usize) -> String {
        let Some((place, as_text)) = self.entries.get(index) else {
            return format!("row {index}");
        };
        let id = self
            .task
            .sample(*place)
            .map_or_else(|_| format!("#{place}"), |sample| sample.id);
        if *as_text && self.hearing.add_text_only {
            format!("{id} as text")
        } else {
            id
        }
    }

    fn lesson(&self, index: usize) -> plugin_api::Result<Lesson> {
        let (sample, mut lesson) = self.sample(index)?;
        let mut number = 0;
        let mut clips = Vec::new();
        for turn in &mut lesson.turns {
            for part in &mut turn.message.parts {
                if let Part::Clip { clip, .. } = part {
                    clips.push(self.decode(&sample, *clip)?);
                    *clip = number;
                    number += 1;
                }
            }
        }
        lesson.clips = clips;
        if lesson.id.is_empty() {
            lesson.id = sample.id;
        }
        Ok(lesson)
    }

    fn glance(&self, index: usize) -> plugin_api::Result<(Lesson, usize)> {
        let (sample, mut lesson) = self.sample(index)?;
        if lesson.id.is_empty() {
            lesson.id = sample.id;
        }
        let clips = places(&lesson).len();
        Ok((lesson, clips))
    }

    fn measured(&self, index: usize) -> plugin_api::Result<Lesson> {
        let (sample, mut lesson) = self.sample(index)?;
        let places = places(&lesson);
        let count = |clip: &usize| self.of_clip(&sample, *clip, |clip, wanted| self.clips.count(clip, wanted));
        lesson.clip_samples = places.iter().map(count).collect::<plugin_api::Result<_>>()?;
        if lesson.id.is_empty() {
            lesson.id = sample.id;
        }
        Ok(lesson)
    }

    fn hash(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(hash_json(&json!([self.identity, self.entries])));
        hex(&hasher.finalize())
    }
}
