//! A safetensors file, mapped into memory.
#![allow(unsafe_code)] // the only way to map a file, and to give its pages back; see the comments below

use crate::{Error, Result};
use memmap2::{Mmap, UncheckedAdvice};
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensorError, SafeTensors};
use std::path::Path;

/// A mapped file. The system reads a page when its bytes are first used; [`Mapped::done_with`] gives pages back, so
/// that packed weights are not in memory twice.
pub struct Mapped {
    map: Mmap,
    metadata: Metadata,
    /// Where the tensors begin; offsets in the header count from here.
    start: usize,
}

impl Mapped {
    /// Maps a file and checks its header, whose offsets must lie inside the file.
    pub fn open(path: &Path) -> Result<Mapped> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let file = std::fs::File::open(path).map_err(read)?;
        // SAFETY: a mapped file must not be changed while it is mapped. Nothing here writes to checkpoints, and a
        // program that overwrites a checkpoint in place breaks every reader of it.
        let map = unsafe { Mmap::map(&file) }.map_err(read)?;
        let (header, metadata) = SafeTensors::read_metadata(&map).map_err(|why| Error::Malformed {
            path: path.to_owned(),
            reason: reason(&why, &map),
        })?;
        Ok(Mapped {
            start: header + 8, // after the header's own length
            map,
            metadata,
        })
    }

    pub fn names(&self) -> Vec<String> {
        self.metadata.tensors().into_keys().collect()
    }

    pub fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    /// A tensor as it is stored.
    pub fn get(&self, name: &str) -> std::result::Result<TensorView<'_>, String> {
        let info = self.metadata.info(name).ok_or("it lost a tensor")?;
        let (start, end) = info.data_offsets;
        let bytes = self.map.get(self.start + start..self.start + end);
        let bytes = bytes.ok_or_else(|| format!("`{name}` lies beyond the end of the file"))?;
        TensorView::new(info.dtype, info.shape.clone(), bytes).map_err(|why| why.to_string())
    }

    /// All tensors, in the order in which they lie in the file.
    pub fn tensors(&self) -> Vec<(String, TensorView<'_>)> {
        let names = self.metadata.offset_keys().into_iter();
        names
            .filter_map(|name| self.get(&name).ok().map(|view| (name, view)))
            .collect()
    }

    /// Gives back the memory of these bytes of the file, which are no longer needed. They can still be read again.
    pub fn done_with(&self, bytes: &[u8]) {
        let Some(start) = (bytes.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize) else {
            return;
        };
        if start + bytes.len() <= self.map.len() {
            // SAFETY: the mapping is never written to, so dropped pages are read again from the file. A failure on a
            // kernel without this advice only costs memory.
            let _ = unsafe {
                self.map
                    .unchecked_advise_range(UncheckedAdvice::DontNeed, start, bytes.len())
            };
        }
    }
}

/// The cause in words, with numbers where lengths are wrong.
fn reason(why: &SafeTensorError, bytes: &[u8]) -> String {
    let length = bytes.len();
    let header = bytes.first_chunk::<8>().map(|first| u64::from_le_bytes(*first));
    match (why, header) {
        (SafeTensorError::HeaderTooSmall, _) | (_, None) => {
            format!("it is not a safetensors file: it has {length} bytes")
        }
        (SafeTensorError::HeaderTooLarge | SafeTensorError::InvalidHeaderLength, Some(header)) => {
            format!("its header would be {header} bytes long, and the whole file is {length}")
        }
        (SafeTensorError::MetadataIncompleteBuffer, Some(header)) => {
            let data = entries(bytes).into_iter().map(|(_, entry)| entry.data_offsets.1).max();
            let expected = data.unwrap_or(0).saturating_add(header).saturating_add(8);
            format!("by its header it is {expected} bytes long, but it has {length}")
        }
        (SafeTensorError::TensorInvalidInfo | SafeTensorError::ValidationOverflow, _) => {
            let wrong = entries(bytes).into_iter().find(|(_, entry)| !entry.fits());
            match wrong {
                Some((
                    name,
                    Entry {
                        dtype,
                        shape,
                        data_offsets: (start, end),
                    },
                )) => format!(
                    "tensor `{name}` is of type {dtype:?} and shape {shape:?}, which does not fit its {} bytes",
                    end.saturating_sub(start)
                ),
                None => why.to_string(),
            }
        }
        (other, _) => other.to_string(),
    }
}

/// A header's entry for a tensor, before it is checked.
#[derive(serde::Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

impl Entry {
    fn fits(&self) -> bool {
        let values = self.shape.iter().try_fold(1u64, |all, size| all.checked_mul(*size));
        let bits = values.and_then(|values| values.checked_mul(self.dtype.bitsize() as u64));
        bits.is_some_and(|bits| self.data_offsets.1.checked_sub(self.data_offsets.0) == Some(bits / 8))
    }
}

/// The entries of a header that could be parsed, in order.
fn entries(bytes: &[u8]) -> Vec<(String, Entry)> {
    let header = bytes.first_chunk::<8>().map(|first| u64::from_le_bytes(*first));
    let end = header.and_then(|header| usize::try_from(header).ok()?.checked_add(8));
    let text = end.and_then(|end| bytes.get(8..end)).unwrap_or_default();
    let all: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(text).unwrap_or_default();
    let entries = all.into_iter();
    entries
        .filter_map(|(name, entry)| Some((name, serde_json::from_value(entry).ok()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::serialize_to_file;

    #[test]
    fn what_was_given_back_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let bytes: Vec<u8> = (0..100_000u32).flat_map(u32::to_le_bytes).collect();
        let view = TensorView::new(Dtype::U32, vec![100, 1000], &bytes).unwrap();
        serialize_to_file([("a", view)], None, &path).unwrap();

        let file = Mapped::open(&path).unwrap();
        let view = file.get("a").unwrap();
        assert_eq!((file.names(), view.shape()), (vec!["a".to_owned()], &[100, 1000][..]));
        for rows in [0..400, 12_345..300_001, 0..bytes.len()] {
            assert!(view.data() == bytes);
            file.done_with(&view.data()[rows]);
        }
        assert!(view.data() == bytes);
        // Bytes outside of the file are left alone.
        file.done_with(&bytes);
        assert!(file.get("b").is_err());
    }
}
