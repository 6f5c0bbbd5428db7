//! Tokenised rows of a file: `input_ids`, `labels`, `attention_mask`, and paths of `audio` relative to the file.

use super::source::Source;
use crate::audio::{AudioError, Clips, Source as Sound, Wanted};
use crate::failure::{self, Exit, Failure};
use crate::run::store::hash::hex;
use plugin_api::{Code, Error, Lesson, LessonTokens};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file, and the offset of each line.
pub struct RowFile {
    path: PathBuf,
    file: File,
    lines: Vec<(u64, usize)>,
    hash: String,
    clips: Clips,
    rate: Option<u32>,
}

/// The most bytes of decoded audio that are kept.
const CLIPS: usize = 256 << 20;

#[derive(Deserialize)]
struct Row {
    input_ids: Vec<i64>,
    labels: Vec<i64>,
    attention_mask: Option<Vec<i64>>,
    #[serde(default)]
    audio: Value,
    #[serde(default)]
    id: Value,
}

impl RowFile {
    /// Opens a file and reads every row once, so that errors are found before training.
    pub fn open(path: &Path, rate: Option<u32>, limit: usize) -> failure::Result<RowFile> {
        let unreadable = |why: std::io::Error| Failure::missing(format!("cannot read `{}`", path.display())).cause(why);
        let bytes = std::fs::read(path).map_err(unreadable)?;
        let mut lines = Vec::new();
        let mut at = 0;
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if !line.trim_ascii().is_empty() && lines.len() < limit {
                lines.push((at, line.len()));
            }
            at += line.len() as u64;
        }
        let rows = RowFile {
            path: std::path::absolute(path).unwrap_or_else(|_| path.to_owned()),
            file: File::open(path).map_err(unreadable)?,
            lines,
            hash: hex(&Sha256::digest(&bytes)),
            clips: Clips::new(CLIPS),
            rate,
        };
        drop(bytes);
        if rows.lines.is_empty() {
            return Err(Failure::missing(format!("`{}` has no rows", path.display())));
        }
        let broken = |error| Failure {
            exit: Exit::Missing,
            error,
        };
        (0..rows.lines.len()).try_for_each(|index| rows.checked(index).map(drop).map_err(broken))?;
        Ok(rows)
    }

    fn wrong(&self, index: usize, what: impl std::fmt::Display) -> Error {
        let message = format!("row {index} of `{}` {what}", self.path.display());
        Error::new(Code::DATA, message)
            .help("a row is an object of `input_ids`, `labels` (-100 where nothing is learnt) and `attention_mask`")
    }

    /// Checks that the parts of a row fit together.
    fn checked(&self, index: usize) -> plugin_api::Result<(LessonTokens, Vec<PathBuf>)> {
        let (at, length) = self.lines[index];
        let mut line = vec![0; length];
        self.file.read_exact_at(&mut line, at)?;
        let row: Row =
            serde_json::from_slice(&line).map_err(|why| self.wrong(index, "cannot be read").cause(why.to_string()))?;
        let count = row.input_ids.len();
        if row.labels.len() != count {
            return Err(self.wrong(
                index,
                format!("has {count} `input_ids` and {} `labels`", row.labels.len()),
            ));
        }
        if let Some(mask) = row.attention_mask.as_ref().filter(|mask| mask.len() != count) {
            return Err(self.wrong(
                index,
                format!("has {count} `input_ids` and {} in `attention_mask`", mask.len()),
            ));
        }
        let mut tokens = LessonTokens::default();
        for place in 0..count {
            // Padding is masked by position: a padding token that also ends a text is trained where it does so.
            if row.attention_mask.as_ref().is_some_and(|mask| mask[place] == 0) {
                continue;
            }
            let (id, label) = (row.input_ids[place], row.labels[place]);
            let token = u32::try_from(id).map_err(|_| self.wrong(index, format!("has the token {id}")))?;
            if label != -100 && label != id {
                let what = format!("has the label {label} at place {place}, where the token is {id}");
                return Err(self
                    .wrong(index, what)
                    .help("a label is -100 or the token of its own place"));
            }
            tokens.ids.push(token);
            tokens.learn.push(label != -100);
        }
        if tokens.ids.is_empty() {
            return Err(self.wrong(index, "has no token"));
        }
        let base = self.path.parent().unwrap_or(Path::new("."));
        let named = match &row.audio {
            Value::Null => Vec::new(),
            Value::String(name) => vec![name.as_str()],
            Value::Array(names) if names.iter().all(Value::is_string) => {
                names.iter().filter_map(Value::as_str).collect()
            }
            _ => return Err(self.wrong(index, "has an `audio` that is not a list of files")),
        };
        let clips: Vec<PathBuf> = named.iter().map(|name| base.join(name)).collect();
        match clips.iter().find(|path| !path.is_file()) {
            Some(path) => Err(self
                .wrong(
                    index,
                    format!("names the clip `{}`, which is not there", path.display()),
                )
                .help("clips are looked for beside the file of rows")
                .code(Code::CLIP)),
            None => Ok((tokens, clips)),
        }
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            rate: self.rate,
            ..Wanted::default()
        }
    }

    fn unusable(&self, index: usize, why: AudioError) -> Error {
        Error::from(why)
            .context(format!("row {index} of `{}` cannot be learnt", self.path.display()))
            .code(Code::CLIP)
    }

    fn id(&self, index: usize) -> Option<String> {
        let (at, length) = *self.lines.get(index)?;
        let mut line = vec![0; length];
        self.file.read_exact_at(&mut line, at).ok()?;
        let row: Row = serde_json::from_slice(&line).ok()?;
        match row.id {
            Value::String(id) => Some(id),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        }
    }
}

impl Source for RowFile {
    fn len(&self) -> usize {
        self.lines.len()
    }

    fn name(&self, index: usize) -> String {
        self.id(index).unwrap_or_else(|| format!("row {index}"))
    }

    fn lesson(&self, index: usize) -> plugin_api::Result<Lesson> {
        let (tokens, paths) = self.checked(index)?;
        let clips = paths.iter().map(|path| {
            let decoded = self.clips.get(Sound::File(path), &self.wanted());
            decoded.map(|decoded| decoded.clip.clone())
        });
        let clips: Result<_, _> = clips.collect();
        Ok(Lesson {
            id: self.name(index),
            tokens: Some(tokens),
            clips: clips.map_err(|why| self.unusable(index, why))?,
            ..Lesson::default()
        })
    }

    fn measured(&self, index: usize) -> plugin_api::Result<Lesson> {
        let (tokens, paths) = self.checked(index)?;
        let counts = paths
            .iter()
            .map(|path| self.clips.count(Sound::File(path), &self.wanted()));
        let counts: Result<_, _> = counts.collect();
        Ok(Lesson {
            id: self.name(index),
            tokens: Some(tokens),
            clip_samples: counts.map_err(|why| self.unusable(index, why))?,
            ..Lesson::default()
        })
    }

    fn glance(&self, index: usize) -> plugin_api::Result<(Lesson, usize)> {
        let (tokens, paths) = self.checked(index)?;
        let lesson = Lesson {
            id: self.name(index),
            tokens: Some(tokens),
            ..Lesson::default()
        };
        Ok((lesson, paths.len()))
    }

    fn hash(&self) -> String {
        format!("{} of {}", self.lines.len(), self.hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(text: &str) -> failure::Result<RowFile> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        RowFile::open(&path, None, usize::MAX)
    }

    #[track_caller]
    fn refused(text: &str, words: &str) {
        let error = open(text).err().expect("it is refused").to_string();
        assert!(error.contains(words), "{error}");
    }

    #[test]
    fn rows_are_read_without_their_padding() {
        let text = "{\"input_ids\":[5,6,7,0],\"labels\":[-100,6,7,-100],\"attention_mask\":[1,1,1,0]}\n\n\
                    {\"input_ids\":[9],\"labels\":[9],\"id\":\"last\"}";
        let rows = open(text).unwrap();
        assert_eq!(
            (rows.len(), rows.name(0), rows.name(1)),
            (2, "row 0".to_owned(), "last".to_owned())
        );
        let tokens = rows.lesson(0).unwrap().tokens.unwrap();
        assert_eq!((tokens.ids, tokens.learn), (vec![5, 6, 7], vec![false, true, true]));
    }

    #[test]
    fn a_broken_row_is_named() {
        refused("", "has no rows");
        refused("{\"input_ids\":[1],\"labels\":[1]}\nnonsense", "row 1 of");
        refused(
            "{\"input_ids\":[1,2],\"labels\":[1]}",
            "has 2 `input_ids` and 1 `labels`",
        );
        refused(
            "{\"input_ids\":[1,2],\"labels\":[1,2],\"attention_mask\":[1]}",
            "and 1 in `attention_mask`",
        );
        refused("{\"input_ids\":[1,2],\"labels\":[1,3]}", "has the label 3 at place 1");
        refused("{\"input_ids\":[-1],\"labels\":[-100]}", "has the token -1");
        refused(
            "{\"input_ids\":[1],\"labels\":[1],\"audio\":[5]}",
            "has an `audio` that is not a list of files",
        );
        refused(
            "{\"input_ids\":[1],\"labels\":[1],\"audio\":[\"gone.wav\"]}",
            "which is not there",
        );
    }
}
