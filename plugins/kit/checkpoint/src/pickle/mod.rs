//! PyTorch's own files (`.bin`, `.pt`, `.pth`): a zip archive that holds a pickle and, beside it, the bytes of tensors.
//!
//! A pickle is a program that may call any function of Python. The decision a newcomer would question: it has its own
//! reader, because candle's panics on some malformed files and copies what a file repeats. This reader never calls a
//! function that a pickle names, and allocates no more than the file's length justifies.

mod objects;
#[cfg(test)]
mod tests;

use crate::{Error, Result};
use objects::{Id, Object, Objects};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use zip::{CompressionMethod, ZipArchive};

/// Published pickles are well below one megabyte: names and shapes, without the tensors' bytes.
const LONGEST_PICKLE: u64 = 16 << 20;

/// A file saved by PyTorch.
pub struct Pickle {
    path: PathBuf,
    file: Arc<File>,
    objects: Objects,
    /// Offset and length in bytes of each storage.
    storages: HashMap<String, (u64, u64)>,
}

pub(crate) struct Tensors {
    file: Arc<File>,
    tensors: HashMap<String, Stored>,
}

/// Where a tensor's values are.
#[derive(Debug, Clone, PartialEq)]
struct Stored {
    dtype: Dtype,
    shape: Vec<usize>,
    strides: Vec<usize>,
    /// Values in the storage before its first one.
    offset: usize,
    /// The offset of its storage in the file.
    start: u64,
}

impl Pickle {
    /// Reads a file's pickle, but not the tensors' bytes.
    pub fn open(path: &Path) -> Result<Pickle> {
        let unreadable = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let malformed = |reason: String| Error::Malformed {
            path: path.to_owned(),
            reason,
        };
        let file = File::open(path).map_err(unreadable)?;
        let mut archive =
            ZipArchive::new(std::io::BufReader::new(file.try_clone().map_err(unreadable)?)).map_err(|e| {
                malformed(format!(
                    "it is not a zip archive, as PyTorch has saved since version 1.6: {e}"
                ))
            })?;
        let (mut pickle, mut storages) = (None, HashMap::new());
        for index in 0..archive.len() {
            let entry = archive.by_index_raw(index).map_err(|e| malformed(e.to_string()))?;
            let name = entry.name().map_err(|e| malformed(e.to_string()))?.into_owned();
            let Some((_, inner)) = name.split_once('/') else {
                continue;
            };
            let storage = inner.strip_prefix("data/");
            if storage.is_none() && inner != "data.pkl" && inner != "byteorder" {
                continue;
            }
            if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
                return Err(malformed(format!(
                    "`{name}` in it is compressed, which PyTorch never does"
                )));
            }
            let Some(start) = entry.data_start() else {
                return Err(malformed(format!("it has no offset for `{name}`")));
            };
            match storage {
                Some(storage) => {
                    storages.insert(storage.to_owned(), (start, entry.size()));
                }
                None if inner == "data.pkl" && entry.size() > LONGEST_PICKLE => {
                    return Err(malformed(format!(
                        "its pickle has {} bytes, expected {LONGEST_PICKLE} at most",
                        entry.size()
                    )));
                }
                None => {
                    let mut bytes = Vec::new();
                    let most = entry.size().min(LONGEST_PICKLE);
                    entry.take(most).read_to_end(&mut bytes).map_err(unreadable)?;
                    match inner {
                        "data.pkl" => pickle = Some(bytes),
                        _ if bytes.starts_with(b"little") => {}
                        _ => return Err(malformed("its numbers are not little-endian".to_owned())),
                    }
                }
            }
        }
        let pickle = pickle.ok_or_else(|| malformed("it holds no `data.pkl`".to_owned()))?;
        Ok(Pickle {
            path: path.to_owned(),
            file: Arc::new(file),
            objects: Objects::read(&pickle).map_err(malformed)?,
            storages,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The flags, numbers and texts of an entry of the outermost dictionary; its other values are left out.
    pub fn settings(&self, key: &str) -> Result<serde_json::Map<String, serde_json::Value>> {
        let entries = self
            .objects
            .entry(self.objects.root(), key)
            .and_then(|entry| self.objects.dict(entry))
            .ok_or_else(|| self.malformed(format!("it has no dictionary `{key}`")))?;
        let plain = |&(name, value): &(Id, Id)| {
            let value = match self.objects.get(value) {
                Object::Flag(flag) => (*flag).into(),
                Object::Integer(number) => (*number).into(),
                Object::Number(number) => (*number).into(),
                Object::Text(text) => text.as_str().into(),
                _ => return None,
            };
            Some((self.objects.text(name)?.to_owned(), value))
        };
        Ok(entries.iter().filter_map(plain).collect())
    }

    /// The tensors of the outermost dictionary, or of its entry `key`.
    pub(crate) fn tensors(&self, key: Option<&str>) -> Result<Tensors> {
        let root = self.objects.root();
        let dict = match key {
            Some(key) => self.objects.entry(root, key),
            None => Some(root),
        };
        let Some(entries) = dict.and_then(|dict| self.objects.dict(dict)) else {
            let place = key.map_or("itself".to_owned(), |key| format!("`{key}` in it"));
            return Err(self.malformed(format!("{place} is not a dictionary of tensors")));
        };
        let mut tensors = HashMap::new();
        for &(name, value) in entries {
            if let Some(name) = self.objects.text(name)
                && let Some(stored) = self.stored(value).map_err(|reason| {
                    let reason = format!("tensor `{name}`: {reason}");
                    self.malformed(reason)
                })?
            {
                tensors.insert(name.to_owned(), stored);
            }
        }
        Ok(Tensors {
            file: self.file.clone(),
            tensors,
        })
    }

    /// The tensor that an object describes, if its type is known.
    fn stored(&self, mut object: Id) -> std::result::Result<Option<Stored>, String> {
        let objects = &self.objects;
        let arguments = loop {
            match objects.call(object) {
                Some(("torch._utils._rebuild_tensor_v2", arguments)) => break arguments,
                // A parameter wraps its tensor; one level is enough for any file.
                Some(("torch._utils._rebuild_parameter", [inner, ..])) if *inner < object => object = *inner,
                _ => return Ok(None),
            }
        };
        let spoilt = || "it is described by something else than a storage, an offset, a shape and strides".to_owned();
        let [storage, offset, shape, strides, ..] = arguments else {
            return Err(spoilt());
        };
        let counts = |id: Id| -> Option<Vec<usize>> {
            let items = objects.list(id)?;
            items.iter().map(|&item| objects.count(item)).collect()
        };
        let name = match objects.get(*storage) {
            Object::Stored(name) => objects.list(*name),
            _ => None,
        };
        let (Some(&[_, kind, key, ..]), Some(offset), Some(shape), Some(strides)) =
            (name, objects.count(*offset), counts(*shape), counts(*strides))
        else {
            return Err(spoilt());
        };
        let (Some(kind), Some(key)) = (objects.name(kind), objects.text(key)) else {
            return Err(spoilt());
        };
        let dtype = match kind {
            "torch.FloatStorage" => Dtype::F32,
            "torch.HalfStorage" => Dtype::F16,
            "torch.BFloat16Storage" => Dtype::BF16,
            "torch.DoubleStorage" => Dtype::F64,
            "torch.LongStorage" => Dtype::I64,
            "torch.IntStorage" => Dtype::I32,
            "torch.BoolStorage" => Dtype::BOOL,
            _ => return Ok(None),
        };
        let Some(&(start, bytes)) = self.storages.get(key) else {
            return Err(format!("its storage `{key}` is not in the file"));
        };
        let stored = Stored {
            dtype,
            shape,
            strides,
            offset,
            start,
        };
        let held = bytes / (dtype.bitsize() as u64 / 8);
        match stored.end() {
            Some(end) if end as u64 <= held => Ok(Some(stored)),
            _ => Err(format!(
                "its storage `{key}` has {held} values, too few for its shape {:?}",
                stored.shape
            )),
        }
    }

    fn malformed(&self, reason: String) -> Error {
        Error::Malformed {
            path: self.path.clone(),
            reason,
        }
    }
}

impl Tensors {
    /// Renames the tensors. Those for which `name` returns none are removed, and their names returned.
    pub fn rename(&mut self, name: impl Fn(&str) -> Option<String>) -> Vec<String> {
        let mut tensors: Vec<_> = std::mem::take(&mut self.tensors).into_iter().collect();
        tensors.sort_by(|(one, _), (other, _)| one.cmp(other)); // so that the same one wins if two get the same name
        let mut removed = Vec::new();
        for (old, stored) in tensors {
            match name(&old) {
                Some(new) => drop(self.tensors.insert(new, stored)),
                None => removed.push(old),
            }
        }
        removed
    }

    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.tensors.keys()
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    pub fn shape(&self, name: &str) -> Option<(Dtype, &[usize])> {
        let stored = self.tensors.get(name)?;
        Some((stored.dtype, &stored.shape))
    }

    /// Gives `take` a tensor's values, in order.
    pub fn read<T>(&self, name: &str, take: impl FnOnce(&TensorView) -> T) -> std::result::Result<T, String> {
        let stored = self.tensors.get(name).ok_or("it is not there")?;
        let size = stored.dtype.bitsize() / 8;
        let end = stored.end().ok_or("its shape is too large")?;
        // If several tensors share a storage, only the part that this one spans is read.
        let mut bytes = vec![0; (end - stored.offset.min(end)) * size];
        let start = stored.start + (stored.offset * size) as u64;
        self.file.read_exact_at(&mut bytes, start).map_err(|e| e.to_string())?;
        if !stored.is_in_order() {
            bytes = stored.in_order(&bytes, size);
        }
        let view = TensorView::new(stored.dtype, stored.shape.clone(), &bytes).map_err(|e| e.to_string())?;
        Ok(take(&view))
    }
}

impl Stored {
    /// The end of its span in the storage; none if that overflows.
    fn end(&self) -> Option<usize> {
        if self.shape.len() != self.strides.len() || self.shape.len() > 8 {
            return None;
        }
        let values = self.shape.iter().try_fold(1usize, |all, &size| all.checked_mul(size))?;
        if values == 0 {
            return Some(self.offset);
        }
        let sizes = self.shape.iter().zip(&self.strides);
        let mut last = sizes.map(|(size, stride)| (size - 1).checked_mul(*stride));
        let reach = last.try_fold(1usize, |all, step| all.checked_add(step?))?;
        // A stride of zero repeats values of a storage, so a small file could claim a huge tensor. No weights repeat
        // values that often.
        let repeats = values > reach.checked_mul(1024)?;
        self.offset.checked_add(reach).filter(|_| !repeats)
    }

    fn is_in_order(&self) -> bool {
        let mut expected = 1;
        for (&size, &stride) in self.shape.iter().zip(&self.strides).rev() {
            if size != 1 && stride != expected {
                return false;
            }
            expected *= size;
        }
        true
    }

    /// The values of a strided tensor, such as a transposed one, one after the other.
    fn in_order(&self, bytes: &[u8], size: usize) -> Vec<u8> {
        let count: usize = self.shape.iter().product();
        let mut ordered = Vec::with_capacity(count * size);
        let mut place = vec![0; self.shape.len()];
        for _ in 0..count {
            let steps = place.iter().zip(&self.strides).map(|(at, stride)| at * stride);
            let at = steps.sum::<usize>() * size;
            ordered.extend_from_slice(&bytes[at..at + size]);
            for (at, &most) in place.iter_mut().zip(&self.shape).rev() {
                *at += 1;
                if *at < most {
                    break;
                }
                *at = 0;
            }
        }
        ordered
    }
}
