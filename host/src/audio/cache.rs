//! Decoded clips, shared.
//!
//! Several prompts often hold the same clip (one question per row, five questions about one recording), and a judge
//! hears what the model heard. A clip is decoded once, by whichever thread asks first; the others wait for it. The
//! least recently used clips are dropped when all decoded samples together pass the limit; a clip that is still in use
//! stays alive.
//!
//! Files are known by their path, embedded clips by the hash of their bytes. A file that changes while a
//! `Clips` lives is not noticed: one lives as long as one run, and a run reads one state of its data.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use sha2::{Digest, Sha256};

use super::{AudioError, Decoded, Source, Wanted, decode};

/// A cache of decoded clips, bounded by bytes and safe to share between threads.
#[derive(Debug)]
pub struct Clips {
    max_bytes: usize,
    kept: Mutex<Kept>,
}

type Outcome = Result<Arc<Decoded>, AudioError>;

#[derive(Debug, Default)]
struct Kept {
    clips: HashMap<Key, Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry {
    slot: Arc<OnceLock<Outcome>>,
    /// Zero until the clip is decoded; such an entry is never dropped.
    bytes: usize,
    last_used: u64,
}

/// Times are kept as bits, since floats have no total equality.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    source: KeySource,
    rate: Option<u32>,
    start: Option<u64>,
    end: Option<u64>,
    max_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum KeySource {
    File(PathBuf),
    Bytes([u8; 32]),
}

impl Clips {
    /// A cache that keeps at most `max_bytes` of decoded samples.
    pub fn new(max_bytes: usize) -> Self {
        Clips {
            max_bytes,
            kept: Mutex::default(),
        }
    }

    /// The clip, decoded now or earlier.
    ///
    /// A failure goes to every thread that waits for it, but is not kept: a later call tries again.
    pub fn get(&self, source: Source<'_>, wanted: &Wanted) -> Outcome {
        let key = Key::new(source, wanted);
        let slot = {
            let mut kept = self.lock();
            kept.clock += 1;
            let now = kept.clock;
            let entry = kept.clips.entry(key.clone()).or_insert_with(|| Entry {
                slot: Arc::default(),
                bytes: 0,
                last_used: now,
            });
            entry.last_used = now;
            Arc::clone(&entry.slot)
        };
        let mut decoded_here = false;
        let outcome = slot
            .get_or_init(|| {
                decoded_here = true;
                decode(source, wanted).map(Arc::new)
            })
            .clone();
        if decoded_here {
            self.settle(&key, &outcome);
        }
        outcome
    }

    /// How many samples the clip has: from its header, or decoded where the header does not say.
    pub fn count(&self, source: Source<'_>, wanted: &Wanted) -> Result<u64, AudioError> {
        match super::count(source, wanted)? {
            Some(samples) => Ok(samples),
            None => Ok(self.get(source, wanted)?.samples().len() as u64),
        }
    }

    /// Bytes of decoded samples that the cache holds now.
    pub fn bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Counts a clip that was just decoded, and drops others until all fit.
    fn settle(&self, key: &Key, outcome: &Outcome) {
        let mut kept = self.lock();
        let bytes = match outcome {
            Ok(clip) if size_of_val(clip.samples()) <= self.max_bytes => size_of_val(clip.samples()).max(1),
            _ => {
                kept.clips.remove(key);
                return;
            }
        };
        if let Some(entry) = kept.clips.get_mut(key) {
            entry.bytes = bytes;
            kept.bytes += bytes;
        }
        while kept.bytes > self.max_bytes {
            let oldest = kept
                .clips
                .iter()
                .filter(|(other, entry)| entry.bytes > 0 && *other != key)
                .min_by_key(|(_, entry)| entry.last_used)
                .map(|(other, _)| other.clone());
            let Some(gone) = oldest.and_then(|oldest| kept.clips.remove(&oldest)) else {
                break;
            };
            kept.bytes -= gone.bytes;
        }
    }

    /// Nothing under the lock can leave the counts half changed, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Key {
    fn new(source: Source<'_>, wanted: &Wanted) -> Self {
        Key {
            source: match source {
                Source::File(path) => KeySource::File(path.to_owned()),
                Source::Bytes { bytes, .. } => KeySource::Bytes(Sha256::digest(bytes).into()),
            },
            rate: wanted.rate,
            start: wanted.start.map(f64::to_bits),
            end: wanted.end.map(f64::to_bits),
            max_seconds: wanted.max_seconds.to_bits(),
        }
    }
}
