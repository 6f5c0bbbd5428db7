//! The samples: rows of which file, which of their recordings, and where these are.

use crate::lessons::Style;
use crate::prompt::Input;
use crate::recordings::Recordings;
use crate::utterance::{self, stem};
use data::{Part, Row, Rows};
use plugin_api::{ClipSource, Code, Error, Result, Settings};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What one sample is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Each {
    /// A recording, as the official figures have it.
    Recording,
    /// An utterance, by its first recording.
    Utterance,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Microphone {
    All,
    Headset,
    Far,
}

impl Microphone {
    fn of(file: &str) -> Microphone {
        match stem(file).ends_with("-headset") {
            true => Microphone::Headset,
            false => Microphone::Far,
        }
    }

    fn takes(self, file: &str) -> bool {
        self == Microphone::All || self == Microphone::of(file)
    }
}

const SPLITS: [(&str, &[&str]); 4] = [
    ("test", &["test"]),
    ("devel", &["devel", "validation", "dev"]),
    ("train", &["train"]),
    ("train_synthetic", &["train_synthetic"]),
];

/// The samples of a run.
pub(crate) struct Samples {
    rows: Rows,
    /// A row and, where samples are recordings, which of its recordings.
    places: Vec<(usize, Option<usize>)>,
    each: Each,
    microphone: Microphone,
    pub split: Option<String>,
    wants_clips: bool,
    audio: Recordings,
    /// Hypotheses of speech recognition for a recording or an utterance, from a separate file.
    heard: HashMap<String, Value>,
}

/// One sample as it was found.
pub(crate) struct Found {
    pub id: String,
    /// The row with only this recording, and its hypotheses.
    pub row: Row,
    /// The utterance, when several samples are of it.
    pub cluster: Option<String>,
    pub microphone: Option<&'static str>,
    /// The recording, if it is used and exists.
    pub clip: Option<ClipSource>,
}

impl Samples {
    pub fn load(settings: &Settings, input: Input, style: Style) -> Result<Samples> {
        let data = settings.path("data")?;
        let asked: Option<String> = settings.get("split")?;
        let (files, split) = files(&data, asked.as_deref())?;
        let each = match settings.get::<String>("each")?.as_deref() {
            Some("utterance") => Each::Utterance,
            None if input == Input::Transcript || style == Style::Script => Each::Utterance,
            _ => Each::Recording,
        };
        let microphone = match settings.get::<String>("microphone")?.as_deref() {
            Some("headset") => Microphone::Headset,
            Some("far") => Microphone::Far,
            _ => Microphone::All,
        };
        let mut samples = Samples {
            rows: Rows::open_all(files)?,
            places: Vec::new(),
            each,
            microphone,
            split,
            wants_clips: input.has_clips(),
            audio: Recordings::load(settings, &data)?,
            heard: heard(settings)?,
        };
        samples.find_places();
        if samples.places.is_empty() {
            return Err(Error::new(Code::DATA, format!("`{}` holds no samples", data.display())));
        }
        if settings.or("strict_audio_missing", false)? && samples.wants_clips {
            samples.all_there()?;
        }
        Ok(samples)
    }

    fn find_places(&mut self) {
        let holds_audio = |row: Row| utterance::own_audio(&row).is_some();
        if self.microphone == Microphone::All && self.rows.get(0).is_ok_and(holds_audio) {
            // Each row is a recording; reading all of them would mean gigabytes of audio.
            self.places.extend((0..self.rows.len()).map(|index| (index, None)));
            return;
        }
        for index in 0..self.rows.len() {
            // A broken row is a sample as well; its error says what is wrong.
            let row = self.rows.get(index);
            let files = row.as_ref().ok().and_then(|row| utterance::files(row).ok());
            match files {
                Some(files) if self.each == Each::Recording && !files.is_empty() => {
                    let takes = |(_, file): &(usize, &str)| self.microphone.takes(file);
                    let recordings = files.into_iter().enumerate().filter(takes);
                    self.places
                        .extend(recordings.map(|(recording, _)| (index, Some(recording))));
                }
                _ => self.places.push((index, None)),
            }
        }
    }

    /// An error with the number of missing recordings.
    fn all_there(&self) -> Result<()> {
        let mut missing = (0..self.places.len())
            .filter_map(|index| self.get(index).ok())
            .filter(|found| found.clip.is_none());
        let Some(first) = missing.next() else { return Ok(()) };
        let message = format!(
            "the recordings of {} of {} samples are missing, the first is that of `{}`",
            1 + missing.count(),
            self.places.len(),
            first.id
        );
        let error = Error::new(Code::MISSING, message);
        Err(error.help("name their folder with `-T audio=PATH`, or remove `strict_audio_missing`"))
    }

    pub fn len(&self) -> usize {
        self.places.len()
    }

    pub fn get(&self, index: usize) -> Result<Found> {
        let Some(&(place, recording)) = self.places.get(index) else {
            let message = format!(
                "there is no sample {}, there are {}",
                index.saturating_add(1),
                self.len()
            );
            return Err(Error::new(Code::DATA, message));
        };
        let mut row = self.rows.get(place)?;
        let files: Vec<String> = utterance::files(&row)?.into_iter().map(str::to_owned).collect();
        let chosen = recording.or_else(|| self.first_recording(&files));
        let file = chosen.and_then(|index| files.get(index));
        if file.is_none() && self.each == Each::Recording && utterance::own_audio(&row).is_none() {
            return Err(row.wrong("recordings", "names no recording"));
        }
        let utterance_id = utterance::id(&row);
        let id = match (self.each, file) {
            (Each::Recording, Some(file)) => file.rsplit('/').next().unwrap_or(file).to_owned(),
            (Each::Recording, None) => format!("{}-row-{}", utterance_id.as_ref().map_err(Clone::clone)?, place + 1),
            (Each::Utterance, _) => match (row.at("id"), utterance::own_file(&row)) {
                // Several derived rows of a recording may share its utterance.
                (None, Some(file)) => file.rsplit('/').next().unwrap_or(file).to_owned(),
                _ => utterance::row_id(&row)?,
            },
        };
        if let (Some(chosen), Some(list)) = (chosen, row.value.get_mut("recordings").and_then(Value::as_array_mut)) {
            list.swap(0, chosen);
            list.truncate(1);
        }
        let known = file.and_then(|file| self.heard.get(stem(file)));
        let known = known.or_else(|| self.heard.get(&id_key(utterance_id.as_deref().ok()?)));
        if let Some(heard) = known {
            let of_recording = row.value.pointer("/recordings/0").is_some_and(Value::is_object);
            let place = if of_recording {
                row.value.pointer_mut("/recordings/0")
            } else {
                Some(&mut row.value)
            };
            if let Some(place) = place {
                place["hypotheses"] = heard.clone();
            }
        }
        let heard_or_meant = self.wants_clips || self.each == Each::Recording;
        Ok(Found {
            cluster: utterance_id
                .ok()
                .filter(|own| self.each == Each::Recording || *own != id),
            id,
            microphone: file.filter(|_| heard_or_meant).map(|file| match Microphone::of(file) {
                Microphone::Headset => "headset",
                _ => "far",
            }),
            clip: self
                .wants_clips
                .then(|| self.clip(&row, file.map(String::as_str)))
                .flatten(),
            row,
        })
    }

    /// The first recording by the wanted microphone, preferably one that exists.
    fn first_recording(&self, files: &[String]) -> Option<usize> {
        let wanted = || files.iter().enumerate().filter(|(_, file)| self.microphone.takes(file));
        let there = wanted().find(|(_, file)| self.wants_clips && self.audio.find(file).is_some());
        there.or_else(|| wanted().next()).map(|(index, _)| index)
    }

    fn clip(&self, row: &Row, file: Option<&str>) -> Option<ClipSource> {
        if let Some(blob) = utterance::own_audio(row) {
            return Some(ClipSource {
                blob: Some(blob),
                ..ClipSource::default()
            });
        }
        self.audio.find(file?).map(ClipSource::file)
    }
}

/// The files of the data, and the split that they are.
fn files(data: &Path, asked: Option<&str>) -> Result<(Vec<PathBuf>, Option<String>)> {
    let known = |word: &str| SPLITS.iter().find(|(_, names)| names.contains(&word));
    if data.is_file() {
        let words = SPLITS.map(|(word, names)| names.iter().map(move |name| (*name, word)));
        let words: Vec<_> = words.into_iter().flatten().collect();
        let given = asked.and_then(known).map(|(word, _)| *word);
        let split = task::agreed("split", given, data, &words)?;
        return Ok((vec![data.to_owned()], split.map(str::to_owned)));
    }
    let (word, names) = known(asked.unwrap_or("test")).unwrap_or(&SPLITS[0]);
    let part = Part {
        subset: None,
        split: names,
    };
    let help = "give a file or a folder of SLURP's text with `-T data=PATH`";
    Ok((task::found_or(data::find(data, part), help)?, Some((*word).to_owned())))
}

/// Hypotheses of speech recognition for recordings, or for utterances, from a separate file.
fn heard(settings: &Settings) -> Result<HashMap<String, Value>> {
    let Some(path) = settings.get::<PathBuf>("hypotheses")? else {
        return Ok(HashMap::new());
    };
    let mut heard = HashMap::new();
    for row in Rows::open(&path)?.iter() {
        let row = row?;
        let found = utterance::hypotheses(&row);
        if found.is_empty() {
            let error = row.wrong("hypotheses", "is missing or empty, expected a list of texts");
            return Err(error.help("each row needs `file` or `slurp_id`, and `hypotheses`, likeliest first"));
        }
        let key = match utterance::own_file(&row) {
            Some(file) => stem(file).to_owned(),
            None => id_key(&utterance::id(&row)?),
        };
        heard.insert(key, json!(found));
    }
    Ok(heard)
}

/// File names never contain a slash.
fn id_key(id: &str) -> String {
    format!("id/{id}")
}
