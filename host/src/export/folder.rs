//! Atomic files: each is written under a temporary name, and renamed when all are complete.

use crate::failure::{Failure, Result};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A folder that receives files under plain names.
pub struct Folder {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    files: BTreeMap<String, BufWriter<File>>,
    failure: Option<Failure>,
}

impl Folder {
    pub fn new(path: &Path) -> Result<Folder> {
        std::fs::create_dir_all(path).map_err(|why| Failure::unwritable(path, why))?;
        Ok(Folder {
            path: path.to_owned(),
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partial(&self, name: &str) -> PathBuf {
        self.path.join(format!("{name}.partial"))
    }

    /// Adds text to a file. After a failure, nothing more is accepted.
    pub fn add(&self, name: &str, text: &str) -> Result<()> {
        let mut state = self.state();
        if let Some(failure) = &state.failure {
            return Err(failure.clone());
        }
        let added = self.add_to(&mut state, name, text);
        if let Err(failure) = &added {
            state.failure = Some(failure.clone());
        }
        added
    }

    fn add_to(&self, state: &mut State, name: &str, text: &str) -> Result<()> {
        let mut parts = Path::new(name).components();
        // A plugin names its files; only the host decides where they are.
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) || name.contains('/') {
            return Err(Failure::refused(format!("`{name}` is not a file name")));
        }
        let path = self.partial(name);
        if !state.files.contains_key(name) {
            let file = File::create(&path).map_err(|why| Failure::unwritable(&path, why))?;
            state.files.insert(name.to_owned(), BufWriter::new(file));
        }
        let file = state.files.get_mut(name).map(|file| file.write_all(text.as_bytes()));
        file.unwrap_or(Ok(())).map_err(|why| Failure::unwritable(&path, why))
    }

    /// Why nothing more is taken, when that is so.
    pub fn failure(&self) -> Option<Failure> {
        self.state().failure.clone()
    }

    /// Renames the files and returns their paths.
    pub fn finish(self) -> Result<Vec<PathBuf>> {
        let State { files, failure } = std::mem::take(&mut *self.state());
        if let Some(failure) = failure {
            return Err(failure);
        }
        let mut done = Vec::new();
        for (name, mut file) in files {
            let path = self.path.join(&name);
            let finished = file.flush().and_then(|()| std::fs::rename(self.partial(&name), &path));
            finished.map_err(|why| Failure::unwritable(&path, why))?;
            done.push(path);
        }
        Ok(done)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let names: Vec<String> = self.state().files.keys().cloned().collect();
        for name in names {
            let _ = std::fs::remove_file(self.partial(&name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_appear_when_all_are_whole() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("a/b");
        let names = || std::fs::read_dir(&path).unwrap().count();
        let folder = Folder::new(&path).unwrap();
        folder.add("x.txt", "1").unwrap();
        folder.add("y.txt", "é").unwrap();
        folder.add("x.txt", "2").unwrap();
        assert!(!path.join("x.txt").exists());
        assert_eq!(folder.finish().unwrap(), [path.join("x.txt"), path.join("y.txt")]);
        assert_eq!(std::fs::read_to_string(path.join("x.txt")).unwrap(), "12");
        let folder = Folder::new(&path).unwrap();
        folder.add("z.txt", "1").unwrap();
        drop(folder);
        assert_eq!(names(), 2, "what was given up leaves nothing behind");
    }

    #[test]
    fn a_name_is_no_path() {
        let root = tempfile::tempdir().unwrap();
        for name in ["../x", "/etc/x", "a/b", "", ".", "..", "a/"] {
            let folder = Folder::new(root.path()).unwrap();
            assert!(folder.add(name, "").is_err(), "{name}");
            assert!(folder.add("fine", "").is_err(), "nothing is taken after a failure");
            assert!(folder.finish().is_err());
        }
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }
}
