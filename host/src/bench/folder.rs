//! A folder for what a measurement writes, gone when the measurement is over.

use crate::failure::{Failure, Result};
use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

const MOST_TRIES: u32 = 1000;

/// Taken away when it is dropped.
pub struct TempFolder(PathBuf);

impl TempFolder {
    /// A folder that nobody else may look into, since plugins are loaded from it.
    pub fn new(name: &str) -> Result<TempFolder> {
        let base = std::env::temp_dir();
        let mut number = 0;
        loop {
            let path = base.join(format!("{name}-{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => return Ok(TempFolder(path)),
                // Left behind by a process that was killed, or somebody else's.
                Err(why) if why.kind() == ErrorKind::AlreadyExists && number < MOST_TRIES => number += 1,
                Err(why) => return Err(Failure::unwritable(&path, why)),
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
