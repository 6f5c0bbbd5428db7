//! Caches the vectors of a frozen audio tower, for all epochs and for later runs.

use crate::Engine;
use plugin_api::{Clip, Result};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The size of the cache in memory; the rest is read from disk again.
const IN_MEMORY: usize = 512 << 20;

/// Vectors by clip, in memory and in a folder of limited size.
pub struct TowerCache {
    folder: Option<PathBuf>,
    most: u64,
    on_disk: u64,
    kept: HashMap<String, Arc<[f32]>>,
    bytes: usize,
}

impl TowerCache {
    /// `tower` is what the vectors depend on besides the clip; without it nothing is cached on disk.
    pub fn new(folder: Option<&Path>, tower: Option<&str>, most: u64) -> TowerCache {
        let folder = folder
            .zip(tower)
            .map(|(folder, tower)| folder.join(hex(hash(tower.as_bytes()))));
        let folder = folder.filter(|folder| std::fs::create_dir_all(folder).is_ok());
        let entries = folder.as_deref().and_then(|folder| std::fs::read_dir(folder).ok());
        let sizes = entries.into_iter().flatten().flatten();
        TowerCache {
            on_disk: sizes.filter_map(|entry| Some(entry.metadata().ok()?.len())).sum(),
            folder,
            most,
            kept: HashMap::new(),
            bytes: 0,
        }
    }

    /// The vectors of a clip; none if the tower changes during training.
    pub fn hear(&mut self, engine: &mut dyn Engine, clip: &Clip) -> Result<Option<Arc<[f32]>>> {
        let key = key(clip);
        if let Some(heard) = self.kept.get(&key) {
            return Ok(Some(heard.clone()));
        }
        let stored = self.folder.as_ref().map(|folder| folder.join(&key));
        if let Some(heard) = stored.as_deref().and_then(read) {
            return Ok(Some(self.keep(key, heard)));
        }
        let Some(heard) = engine.hear(clip)? else {
            return Ok(None);
        };
        let size = heard.len() as u64 * 4 + 8;
        if let Some(path) = stored
            && self.on_disk + size <= self.most
            && write(&path, &heard).is_ok()
        {
            self.on_disk += size;
        }
        Ok(Some(self.keep(key, heard)))
    }

    fn keep(&mut self, key: String, heard: Vec<f32>) -> Arc<[f32]> {
        let heard: Arc<[f32]> = heard.into();
        if self.bytes + heard.len() * 4 <= IN_MEMORY {
            self.bytes += heard.len() * 4;
            self.kept.insert(key, heard.clone());
        }
        heard
    }
}

/// A clip's file name: a hash of its samples.
fn key(clip: &Clip) -> String {
    let mut bytes = Vec::with_capacity(clip.samples().len() * 4 + 8);
    bytes.extend(clip.rate.to_le_bytes());
    bytes.extend(clip.channels.to_le_bytes());
    bytes.extend(clip.samples().iter().flat_map(|sample| sample.to_le_bytes()));
    hex(hash(&bytes))
}

/// SHA-256, truncated to 128 bits.
fn hash(bytes: &[u8]) -> [u8; 16] {
    use sha2::Digest;
    let whole = sha2::Sha256::digest(bytes);
    std::array::from_fn(|index| whole[index])
}

fn hex(bytes: [u8; 16]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The vectors in a file; none if it is incomplete.
fn read(path: &Path) -> Option<Vec<f32>> {
    let bytes = std::fs::read(path).ok()?;
    let (count, numbers) = bytes.split_first_chunk::<8>()?;
    let whole = numbers.len() as u64 == u64::from_le_bytes(*count).checked_mul(4)?;
    let (words, _) = numbers.as_chunks::<4>();
    whole.then(|| words.iter().map(|word| f32::from_le_bytes(*word)).collect())
}

/// Written under another name first, so that readers never see half a file.
fn write(path: &Path, heard: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(heard.len() * 4 + 8);
    bytes.extend((heard.len() as u64).to_le_bytes());
    bytes.extend(heard.iter().flat_map(|value| value.to_le_bytes()));
    let other = path.with_extension(format!("{}.partial", std::process::id()));
    std::fs::write(&other, bytes)
        .and_then(|()| std::fs::rename(&other, path))
        .inspect_err(|_| drop(std::fs::remove_file(&other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_short_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clip");
        write(&path, &[1.0, 2.5]).unwrap();
        assert_eq!(read(&path), Some(vec![1.0, 2.5]));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
        assert_eq!(read(&path), None);
    }
}
