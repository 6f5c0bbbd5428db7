//! Gives a model a task's clips, or a replacement: the first of these that is available.
//!
//! 1. The clip itself, when the model hears: `audio`.
//! 2. The words of another model that heard it, if `--transcriber` names one: `ears`.
//! 3. The data set's own transcript of it: `words`.
//! 4. A notice that there was a clip: `blind`, a legitimate baseline that must never be mistaken for a real result.
//!
//! The record says which. A clip that is needed but can't be read is its sample's error; the next step is not tried,
//! since figures over a mixture of inputs would mean nothing.

use super::sample_clips::{changed, decode};
use super::store::record::{ClipInfo, Input, Record};
use super::work_item::WorkItem;
use crate::ask::transcriber::Transcriber;
use crate::audio::interventions::{Intervention, write_wav};
use crate::audio::{Clips, Decoded};
use plugin_api::client::TaskClient;
use plugin_api::{Clip, Code, Error, ModelCard, Part, Prompt, Result, Sample};
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::Arc;

/// What a model without audio is told if nothing better is available.
const NOTICE: &str = "[An audio clip is attached here, but this model cannot hear it.]";

/// The sources that the steps draw on.
pub struct ClipResolver<'a> {
    pub model: &'a ModelCard,
    pub transcriber: Option<&'a Transcriber>,
    pub clips: &'a Clips,
    /// The folder that receives every clip as the model heard it, if the run keeps them.
    pub keep: Option<PathBuf>,
    /// Where other questions' clips come from.
    pub task: &'a TaskClient,
    /// Changes to every clip before the model gets it, in this order.
    pub changes: &'a [Intervention],
}

/// What a prompt got for its clips.
#[derive(Debug, Default)]
pub struct Attached {
    pub input: Input,
    pub audio: Vec<ClipInfo>,
}

impl ClipResolver<'_> {
    /// Gives the prompt its clips or their replacements, and notes in the record which.
    pub fn resolve(&self, item: &mut WorkItem) -> Result<()> {
        let WorkItem { record, sample, prompt } = item;
        let attached = self.attach(prompt, sample, self.changes)?;
        (record.input, record.audio) = (attached.input, attached.audio);
        sample.blobs.clear();
        record.of_given(prompt);
        Ok(())
    }

    /// The same resolver for the data's clips, which are not kept.
    pub fn unchanged(&self) -> ClipResolver<'_> {
        ClipResolver {
            changes: &[],
            keep: None,
            ..*self
        }
    }

    /// Gives a prompt its changed clips or their replacements.
    pub fn attach(&self, prompt: &mut Prompt, sample: &Sample, changes: &[Intervention]) -> Result<Attached> {
        let mut got = Attached::default();
        // Which of the sample's clips the prompt has got, in its order.
        let mut attached: Vec<usize> = Vec::new();
        for part in prompt.messages.iter_mut().flat_map(|message| &mut message.parts) {
            let Part::Clip { clip, words } = part else { continue };
            let index = *clip;
            let known = || words.clone().or_else(|| sample.clips.get(index)?.words.clone());
            let (input, stand_in) = if self.model.hears() {
                let place = attached.iter().position(|known| *known == index);
                *clip = place.unwrap_or(attached.len());
                if place.is_none() {
                    let (decoded, info) = self.heard(sample, index, self.model.sample_rate, changes)?;
                    got.audio.push(info);
                    prompt.clips.push(decoded.clip.clone());
                    attached.push(index);
                }
                (Input::Audio, None)
            } else if let Some(transcriber) = self.transcriber {
                let (decoded, info) = self.heard(sample, index, transcriber.sample_rate()?, changes)?;
                let transcript = transcriber.hear(&decoded)?;
                let words = transcript.words.clone();
                got.audio.push(ClipInfo {
                    ears: Some(transcript),
                    ..info
                });
                (Input::Ears, Some(words))
            } else if let Some(words) = known() {
                (Input::Words, Some(words))
            } else {
                (Input::Blind, Some(NOTICE.to_owned()))
            };
            // With several clips, the worst input mode stands for the prompt.
            got.input = got.input.max(input);
            if let Some(words) = stand_in {
                *part = Part::text(words);
            }
        }
        Ok(got)
    }

    /// A clip as the model gets it, and its entry in the record.
    fn heard(
        &self,
        sample: &Sample,
        index: usize,
        rate: Option<u32>,
        changes: &[Intervention],
    ) -> Result<(Arc<Decoded>, ClipInfo)> {
        let (decoded, done) = match changes.is_empty() {
            true => (decode(self.clips, sample, index, rate)?, Vec::new()),
            false => {
                let (decoded, done) = changed(self.clips, self.task, sample, index, rate, changes)?;
                (Arc::new(decoded), done)
            }
        };
        self.keep(&decoded)?;
        let info = ClipInfo {
            seconds: decoded.seconds,
            rate: decoded.rate,
            sha256: decoded.sha256.clone(),
            warnings: decoded.warnings.clone(),
            changes: done,
            ears: None,
        };
        Ok((decoded, info))
    }

    /// Writes a clip under its hash, once.
    fn keep(&self, decoded: &Decoded) -> Result<()> {
        let Some(folder) = &self.keep else { return Ok(()) };
        let path = folder.join(format!("{}.wav", decoded.sha256));
        if path.exists() {
            return Ok(());
        }
        // Several threads may have the same clip: each writes its own file, and the last rename wins.
        let own = folder.join(format!(".{}.{:?}", decoded.sha256, std::thread::current().id()));
        let written = std::fs::create_dir_all(folder)
            .and_then(|()| write_wav(&own, decoded.rate, decoded.clip.samples()))
            .and_then(|()| std::fs::rename(&own, &path));
        written.map_err(|why| {
            Error::new(Code::CLIP, format!("cannot keep the clip as `{}`", path.display())).cause(why.to_string())
        })
    }
}

/// The clips that the model of a record heard, in the order of its prompt, for a judge that hears them as well.
pub fn of_record(task: &TaskClient, clips: &Clips, record: &Record) -> Result<Vec<Clip>> {
    if record.input != Input::Audio {
        return Ok(Vec::new());
    }
    let sample = task.sample(usize::try_from(record.doc_id)?)?;
    let asked = Prompt::deserialize(&record.arguments)?;
    let mut attached: Vec<usize> = Vec::new();
    for part in asked.messages.iter().flat_map(|message| &message.parts) {
        match part {
            Part::Clip { clip, .. } if !attached.contains(clip) => attached.push(*clip),
            _ => {}
        }
    }
    let of = |(index, info): (&usize, &ClipInfo)| {
        let words = info.changes.iter().filter_map(|done| done["intervention"].as_str());
        let changes = words.map(|words| Intervention::parse(words).map_err(|failure| failure.error));
        let changes: Vec<Intervention> = changes.collect::<Result<_>>()?;
        let decoded = match changes.is_empty() {
            true => decode(clips, &sample, *index, Some(info.rate))?,
            false => Arc::new(changed(clips, task, &sample, *index, Some(info.rate), &changes)?.0),
        };
        match decoded.sha256 == info.sha256 {
            true => Ok(decoded.clip.clone()),
            false => {
                let message = format!(
                    "clip {index} of sample {} is not the one that the model heard",
                    record.sample_id
                );
                Err(Error::new(Code::CLIP, message).help("judge with the data that the run used"))
            }
        }
    };
    attached.iter().zip(&record.audio).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::{Adapter, Callbacks, ClipSource, Envelope, Message};

    struct NoTask;

    impl Adapter for NoTask {
        fn call(&self, method: &str, _input: Envelope, _host: &dyn Callbacks) -> Result<Envelope> {
            Err(Error::msg(format!("there is nothing to {method}")))
        }
    }

    fn item(clips: &[Option<&str>]) -> WorkItem {
        let clip = |words: &Option<&str>| ClipSource {
            words: words.map(str::to_owned),
            ..ClipSource::file("/nowhere.wav")
        };
        let mut parts = vec![Part::text("What is said? ")];
        parts.extend((0..clips.len()).map(Part::clip));
        WorkItem {
            sample: Sample {
                clips: clips.iter().map(clip).collect(),
                ..Sample::default()
            },
            prompt: Prompt::new([Message {
                parts,
                ..Message::default()
            }]),
            ..WorkItem::default()
        }
    }

    fn resolve(model: &ModelCard, item: &mut WorkItem) -> Result<()> {
        let clips = Clips::new(0);
        ClipResolver {
            model,
            transcriber: None,
            clips: &clips,
            keep: None,
            task: &TaskClient(Arc::new(NoTask)),
            changes: &[],
        }
        .resolve(item)
    }

    #[track_caller]
    fn check(clips: &[Option<&str>], input: Input, text: &str) {
        let mut item = item(clips);
        resolve(&ModelCard::text("deaf"), &mut item).unwrap();
        assert_eq!(item.record.input, input);
        assert!(item.prompt.last_user_text().contains(text));
        let given = item.record.prompt().unwrap();
        assert!(
            given.last_user_text().contains(text),
            "the record keeps what the model got"
        );
    }

    #[test]
    fn what_stands_in_for_a_clip_is_said() {
        check(&[], Input::Text, "What is said?");
        check(&[Some("turn on the light")], Input::Words, "turn on the light");
        check(&[None], Input::Blind, "cannot hear");
        check(&[None, Some("turn on")], Input::Blind, "cannot hear it.]turn on");
    }

    #[test]
    fn a_clip_that_a_model_could_hear_is_never_replaced() {
        let mut item = item(&[Some("turn on the light")]);
        let error = resolve(&ModelCard::audio("keen", 16_000), &mut item).unwrap_err();
        assert_eq!(error.code, Code::CLIP);
    }
}
