//! The result of a pull, and its progress.

use std::path::PathBuf;

/// Files of one commit, on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub folder: PathBuf,
    /// `org/name`.
    pub name: String,
    /// The commit that the revision names; records pin the weights and data by it.
    pub commit: String,
    /// The files that the patterns choose, relative to `folder`, sorted.
    pub files: Vec<String>,
}

impl Snapshot {
    /// The GGUF file that was chosen, the first where it is split.
    pub fn gguf(&self) -> Option<&str> {
        let first = self.files.first()?;
        self.files
            .iter()
            .all(|file| file.ends_with(".gguf"))
            .then_some(first.as_str())
    }

    /// What was asked for as a path: a GGUF file, which brings all with it, else the folder.
    pub fn place(&self) -> PathBuf {
        match self.gguf() {
            Some(file) => self.folder.join(file),
            None => self.folder.clone(),
        }
    }
}

/// The progress of a pull. Files that were there already count as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress<'a> {
    pub file: &'a str,
    pub done_bytes: u64,
    /// Grows only if the hub does not tell a file's size before it is fetched.
    pub total_bytes: u64,
    pub done_files: usize,
    pub total_files: usize,
}
