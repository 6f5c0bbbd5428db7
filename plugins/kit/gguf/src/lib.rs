//! GGUF files: what they say of a model, and where its tensors lie.
//!
//! A reader of our own, since the file is a stranger's and the one at hand allocates whatever a length in it asks for.
//! It knows the container alone: what the words mean to a tokenizer or a model is for `text` and `nn` to say.

mod error;
mod header;
mod tensor;
mod value;

pub use error::{Error, Result};
pub use tensor::{Kind, Place};
pub use value::Value;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A file whose header has been read and whose tensors lie inside it.
#[derive(Debug)]
pub struct Gguf {
    path: PathBuf,
    file: File,
    words: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Place>,
}

/// The file that `weights` names: itself one, or a folder with just one and no other kind of weights beside it.
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
        if is_gguf(&path) {
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
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = File::open(path).map_err(read)?;
        let length = file.metadata().map_err(read)?.len();
        let (words, tensors) = header::read(&file, length).map_err(|reason| Error::Malformed {
            path: path.to_owned(),
            reason,
        })?;
        Ok(Gguf {
            path: path.to_owned(),
            file,
            words,
            tensors,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says under this key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.words.get(key)
    }

    /// What it says under a key of its architecture: `block_count` is `qwen3.block_count`.
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

    /// A tensor's bytes as they lie in the file.
    pub fn bytes(&self, place: &Place) -> Result<Vec<u8>> {
        // The length was checked against the file's when it was opened.
        let mut bytes = vec![0; place.length as usize];
        self.file
            .read_exact_at(&mut bytes, place.start)
            .map_err(|source| Error::Read {
                path: self.path.clone(),
                source,
            })?;
        Ok(bytes)
    }
}
