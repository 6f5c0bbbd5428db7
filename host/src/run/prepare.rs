//! From an index to a prompt that a model can be given: sample, prompt, key, clips.
//!
//! Several threads do this ahead of the model, a bounded number of prompts ahead of it.

use super::record::{Heard, Input, Record, hash_all, hash_json};
use crate::audio::{Clips, Source, Wanted};
use plugin_api::client::TaskClient;
use plugin_api::{ClipSource, Code, Error, ModelCard, Part, Prompt, Result, Sample};
use serde_json::{Value, json};

/// A sample with its prompt, ready for the model, and the record that is being filled.
#[derive(Debug, Default)]
pub struct Prepared {
    pub record: Record,
    pub sample: Sample,
    pub prompt: Prompt,
}

/// What every sample of a run is prepared with.
pub struct Preparing<'a> {
    pub task: &'a TaskClient,
    pub model: &'a ModelCard,
    pub clips: &'a Clips,
    /// The hash of everything that is the same for all samples: settings, plugins, weights, task version.
    pub identity: &'a str,
    pub plugin_hash: Option<&'a str>,
    pub seed: u64,
}

impl Preparing<'_> {
    /// The sample, its prompt and its key. Clips are not decoded yet, since the sample may be done already.
    pub fn begin(&self, index: usize) -> (Prepared, Result<()>) {
        let mut prepared = Prepared::default();
        let record = &mut prepared.record;
        record.doc_id = index as u64;
        record.plugin_hash = self.plugin_hash.map(str::to_owned);
        // A sample that can't be read has no content to be known by; its place stands in.
        record.key = hash_json(&json!([self.identity, "unreadable", index]));
        record.sample_id = format!("#{index}");
        let outcome = self.task.sample(index).and_then(|sample| {
            record.of_sample(&sample);
            prepared.sample = sample;
            let sources = serde_json::to_value(&prepared.sample.clips).unwrap_or_default();
            record.key = hash_json(&json!([self.identity, record.sample_id, record.doc_hash, sources]));
            prepared.prompt = self.task.prompt(&prepared.sample)?;
            self.seed_prompt(&mut prepared.prompt, &record.key);
            record.arguments = serde_json::to_value(&prepared.prompt)?;
            // Its words, and where its clips come from.
            record.prompt_hash = hash_all(&[&record.arguments, &sources]);
            record.key = hash_json(&json!([
                self.identity,
                record.sample_id,
                record.doc_hash,
                record.prompt_hash
            ]));
            Ok(())
        });
        (prepared, outcome)
    }

    /// Each sample draws from a seed of its own, so that an answer depends neither on its batch nor on what came before.
    fn seed_prompt(&self, prompt: &mut Prompt, key: &str) {
        let plugin_api::Want::Text { sampling } = &mut prompt.want else {
            return;
        };
        if sampling.seed.is_none() {
            let own = u64::from_str_radix(&key[..16], 16).unwrap_or(0);
            // 53 bits, so that every JSON reader keeps all of them.
            sampling.seed = Some((self.seed ^ own) & ((1 << 53) - 1));
        }
    }

    /// Puts decoded clips into the prompt, or what stands in for them when the model can't hear.
    pub fn finish(&self, prepared: &mut Prepared) -> Result<()> {
        if self.model.hears() {
            self.attach_clips(prepared)
        } else {
            stand_in(prepared)
        }
    }

    fn attach_clips(&self, prepared: &mut Prepared) -> Result<()> {
        let Prepared { record, sample, prompt } = prepared;
        let mut order: Vec<usize> = Vec::new();
        for message in &mut prompt.messages {
            for part in &mut message.parts {
                let Part::Clip { clip, .. } = part else { continue };
                let place = order.iter().position(|known| known == clip).unwrap_or_else(|| {
                    order.push(*clip);
                    order.len() - 1
                });
                *clip = place;
            }
        }
        for index in order {
            let source = sample.clips.get(index).ok_or_else(|| {
                let have = sample.clips.len();
                Error::new(
                    Code::DATA,
                    format!("the prompt names clip {index}, but the sample has {have}"),
                )
            })?;
            let decoded = self.decode(sample, source, index)?;
            record.audio.push(Heard {
                seconds: decoded.seconds,
                rate: decoded.rate,
                sha256: decoded.sha256.clone(),
            });
            prompt.clips.push(decoded.clip.clone());
            record.input = Input::Audio;
        }
        sample.blobs.clear();
        Ok(())
    }

    fn decode(
        &self,
        sample: &Sample,
        source: &ClipSource,
        index: usize,
    ) -> Result<std::sync::Arc<crate::audio::Decoded>> {
        let wanted = Wanted {
            rate: self.model.sample_rate,
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
        self.clips.get(from, &wanted).map_err(|why| {
            let error = Error::from(why.clone()).code(Code::CLIP);
            match why.hint() {
                Some(hint) => error.help(hint),
                None => error,
            }
        })
    }
}

/// What a model that can't hear is told when nothing better is known.
const NOTICE: &str = "[An audio clip is attached here, but this model cannot hear it.]";

/// Words for clips: the data set's own where it has some, else a notice, and the record says which.
fn stand_in(prepared: &mut Prepared) -> Result<()> {
    let Prepared { record, sample, prompt } = prepared;
    for message in &mut prompt.messages {
        for part in &mut message.parts {
            let Part::Clip { clip, words } = part else { continue };
            let known = words.take().or_else(|| sample.clips.get(*clip)?.words.clone());
            record.input = record
                .input
                .max(if known.is_some() { Input::Words } else { Input::Blind });
            *part = Part::text(known.unwrap_or_else(|| NOTICE.to_owned()));
        }
    }
    sample.blobs.clear();
    Ok(())
}

/// The prompt of a record, for judges of a finished run.
pub fn recorded_prompt(arguments: &Value) -> Option<Prompt> {
    serde_json::from_value(arguments.clone()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plugin_api::Message;

    fn prepared(words: Option<&str>) -> Prepared {
        let clip = ClipSource {
            words: words.map(str::to_owned),
            ..ClipSource::file("/x.wav")
        };
        let parts = vec![Part::text("What is said? "), Part::clip(0)];
        Prepared {
            sample: Sample {
                clips: vec![clip],
                ..Sample::default()
            },
            prompt: Prompt::new([Message {
                parts,
                ..Message::default()
            }]),
            ..Prepared::default()
        }
    }

    #[track_caller]
    fn check(words: Option<&str>, input: Input, text: &str) {
        let mut prepared = prepared(words);
        stand_in(&mut prepared).unwrap();
        assert_eq!(prepared.record.input, input);
        assert!(prepared.prompt.last_user_text().contains(text));
    }

    #[test]
    fn what_stands_in_for_a_clip_is_said() {
        check(Some("turn on the light"), Input::Words, "turn on the light");
        check(None, Input::Blind, "cannot hear");
    }
}
