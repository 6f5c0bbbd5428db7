//! GGUF files: a model's metadata, and the places of its tensors.
//!
//! This is not candle's reader, because candle allocates whatever a length in the file asks for. It reads the
//! container only; `text` and `nn` interpret the metadata.

pub(crate) mod blocks;
mod error;
mod header;
mod tensor;
mod value;

pub use error::{Error, Result};
pub use tensor::{Kind, Place};
pub use value::Value;

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file whose header was read and whose tensors lie inside it. Of a split model, the first file with the tensors of
/// all.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    parts: Vec<(PathBuf, File)>,
    words: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Place>,
}

/// More parts than any model is split into.
const MOST_PARTS: u64 = 1000;

/// The GGUF file that `weights` names: the file itself, or the only one in a folder without other weights.
pub fn find(weights: &Path) -> Result<Option<PathBuf>> {
    let is_gguf = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"));
    if weights.is_file() {
        return Ok(is_gguf(weights).then(|| weights.to_owned()));
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(weights).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let other = [".safetensors", ".safetensors.index.json", ".bin", ".bin.index.json"];
        if other.iter().any(|end| name.ends_with(end)) {
            return Ok(None);
        }
        if is_gguf(&path) && part_of(&name).is_none_or(|(_, part, _)| part == 1) {
            found.push(path);
        }
    }
    found.sort();
    match found.len() {
        0 => Ok(None),
        1 => Ok(found.pop()),
        _ => Err(Error::Several {
            folder: weights.to_owned(),
            names: found
                .iter()
                .filter_map(|path| path.file_name())
                .map(|name| name.to_string_lossy().into_owned())
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

impl Gguf {
    pub fn open(path: &Path) -> Result<Gguf> {
        let (file, (words, tensors)) = open_one(path)?;
        let count = |key: &str| words.get(key).and_then(Value::count).unwrap_or(0);
        let (number, parts) = (count("split.no"), count("split.count"));
        let mut gguf = Gguf {
            path: path.to_owned(),
            parts: vec![(path.to_owned(), file)],
            words,
            tensors,
        };
        match parts {
            0 | 1 => {}
            _ if parts > MOST_PARTS => {
                let reason = format!("it says that it is one of {parts} parts, expected at most {MOST_PARTS}");
                return Err(malformed(path, reason));
            }
            _ if number == 0 => gguf.add_parts(parts)?,
            _ => {
                let reason = format!(
                    "it is part {} of {parts} of a model; give the first",
                    u128::from(number) + 1
                );
                return Err(malformed(path, reason));
            }
        }
        Ok(gguf)
    }

    /// Adds the tensors of the other parts of a split model, which lie beside the first: `name-00002-of-00003.gguf`.
    fn add_parts(&mut self, parts: u64) -> Result<()> {
        let name = self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some((stem, ..)) = part_of(name).filter(|(_, part, all)| (*part, *all) == (1, parts)) else {
            let reason =
                format!("it is the first of {parts} parts, but its name doesn't end in `-00001-of-{parts:05}.gguf`");
            return Err(malformed(&self.path, reason));
        };
        let stem = stem.to_owned();
        for number in 1..parts {
            let name = format!("{stem}-{:05}-of-{parts:05}.gguf", number + 1);
            let path = self.path.with_file_name(&name);
            if !path.is_file() {
                let reason = format!("it is the first of {parts} parts, and `{name}` is not beside it");
                return Err(malformed(&self.path, reason));
            }
            let (file, (words, tensors)) = open_one(&path)?;
            let own = |key: &str| words.get(key).and_then(Value::count);
            if (own("split.no"), own("split.count")) != (Some(number), Some(parts)) {
                let reason = format!("it is not part {} of {parts}, as its name says", number + 1);
                return Err(malformed(&path, reason));
            }
            let part = self.parts.len();
            for (name, place) in tensors {
                if self.tensors.contains_key(&name) {
                    return Err(malformed(&path, format!("tensor `{name}` is in another part, too")));
                }
                self.tensors.insert(name, Place { part, ..place });
            }
            self.parts.push((path, file));
        }
        Ok(())
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.words.get(key)
    }

    /// The value of a key of its architecture: `block_count` is `qwen3.block_count`.
    pub fn of_model(&self, key: &str) -> Option<&Value> {
        self.get(&format!("{}.{key}", self.architecture()?))
    }

    pub fn architecture(&self) -> Option<&str> {
        self.get("general.architecture")?.text()
    }

    pub fn tensors(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.tensors.iter().map(|(name, place)| (name.as_str(), place))
    }

    pub fn tensor(&self, name: &str) -> Option<&Place> {
        self.tensors.get(name)
    }

    /// Some of a tensor's stored bytes, counted from its first.
    pub fn bytes(&self, place: &Place, range: Range<u64>) -> Result<Vec<u8>> {
        let (path, file) = &self.parts[place.part];
        let failed = |source| Error::Read {
            path: path.clone(),
            source,
        };
        // The tensor's length was checked against the file's when it was opened.
        if range.start > range.end || range.end > place.length {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        file.read_exact_at(&mut bytes, place.start + range.start)
            .map_err(failed)?;
        Ok(bytes)
    }
}

fn open_one(path: &Path) -> Result<(File, header::Header)> {
    let read = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let length = file.metadata().map_err(read)?.len();
    let header = header::read(&file, length).map_err(|reason| malformed(path, reason))?;
    Ok((file, header))
}

fn malformed(path: &Path, reason: String) -> Error {
    Error::Malformed {
        path: path.to_owned(),
        reason,
    }
}

/// The parts of the file name `stem-00001-of-00003.gguf`: the stem, the number and the count.
fn part_of(name: &str) -> Option<(&str, u64, u64)> {
    let (stem, all) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (stem, part) = stem.rsplit_once('-')?;
    let number = |text: &str| text.parse().ok().filter(|_| text.len() == 5);
    Some((stem, number(part)?, number(all)?))
}
