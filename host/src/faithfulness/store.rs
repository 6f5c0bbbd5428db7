//! Records of a sweep: append-only files with one line for each key, which can be resumed after any kill.

use crate::failure::{Doing, Exit, Failure, Result};
use serde_json::Value;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One file of records, by their keys.
pub struct Store {
    path: PathBuf,
    file: File,
    known: HashMap<String, Value>,
}

impl Store {
    /// Opens a file and removes a torn last line.
    pub fn open(path: &Path) -> Result<Store> {
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(why) if why.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(why) => {
                return Err(Failure::missing(format!("cannot read `{}`", path.display())).cause(why));
            }
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut known = HashMap::new();
        for (number, line) in bytes[..whole]
            .split(|byte| *byte == b'\n')
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
        {
            let record: Value = serde_json::from_slice(line).or_fail(Exit::Missing, || {
                format!("line {} of `{}` is not a record", number + 1, path.display())
            })?;
            let key = record["key"].as_str().unwrap_or_default().to_owned();
            known.insert(key, record);
        }
        let unwritable = |why| Failure::unwritable(path, why);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(unwritable)?;
        if whole < bytes.len() {
            file.set_len(whole as u64).map_err(unwritable)?;
        }
        Ok(Store {
            path: path.to_owned(),
            file,
            known,
        })
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.known.get(key)
    }

    pub fn add(&mut self, record: Value) -> Result<()> {
        let line = format!("{record}\n");
        self.file
            .write_all(line.as_bytes())
            .map_err(|why| Failure::unwritable(&self.path, why))?;
        self.known
            .insert(record["key"].as_str().unwrap_or_default().to_owned(), record);
        Ok(())
    }

    pub fn records(&self) -> impl Iterator<Item = &Value> {
        self.known.values()
    }

    /// Drops records that hold an error, so that they are asked again.
    pub fn forget_errors(&mut self) {
        self.known.retain(|_, record| record["error"].is_null());
    }

    /// Writes the file again with its lines in this order: a sweep that was killed ends with the same file as an
    /// undisturbed one.
    pub fn put_in_order(&mut self, order: impl Fn(&Value) -> (u64, u64, usize, String, u64)) -> Result<()> {
        let mut records: Vec<&Value> = self.known.values().collect();
        records.sort_by_cached_key(|record| order(record));
        let text: String = records.iter().map(|record| format!("{record}\n")).collect();
        write_whole(&self.path, &text)?;
        let unwritable = |why| Failure::unwritable(&self.path, why);
        self.file = OpenOptions::new().append(true).open(&self.path).map_err(unwritable)?;
        Ok(())
    }
}

/// Writes a file atomically.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let beside = path.with_extension("writing");
    let written = std::fs::write(&beside, text).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|why| Failure::unwritable(path, why))
}
