//! What is in a file or folder, as one hash: the weights and data identity of a run.
//!
//! Files up to 8 MiB are hashed whole. Of larger ones the hash covers the size, the first and last MiB and sixteen
//! evenly spread stretches of 64 KiB: reading 16 GB of weights before each run would take longer than many runs, and
//! two checkpoints that agree in all of that differ by something else than training. Names count, times don't.

use crate::run::store::hash::hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const WHOLE: u64 = 8 << 20;
const END: u64 = 1 << 20;
const STRETCH: u64 = 64 << 10;
const STRETCHES: u64 = 16;

/// A folder with more files than this is not a checkpoint or data set, but probably a home folder.
const MOST_FILES: usize = 200_000;

/// The hash of a file's or folder's content.
pub fn fingerprint(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    if path.is_dir() {
        let mut files = Vec::new();
        list(path, path, &mut files)?;
        files.sort();
        for name in files {
            hasher.update(name.as_os_str().as_encoded_bytes());
            hasher.update([0]);
            hash_file(&path.join(&name), &mut hasher)?;
        }
    } else if path.exists() {
        hash_file(path, &mut hasher)?;
    }
    Ok(hex(&hasher.finalize()))
}

fn list(root: &Path, folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        // Follows links, as the hub's cache is made of them; a link to a folder could be a loop and is only named.
        let kind = match std::fs::metadata(&path) {
            Ok(kind) => kind,
            // A dangling link is a missing file; the sample that needs it reports the error.
            Err(why) if why.kind() == io::ErrorKind::NotFound && path.is_symlink() => continue,
            Err(why) => return Err(why),
        };
        if kind.is_dir() && !path.is_symlink() {
            list(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path.strip_prefix(root).unwrap_or(&path).to_owned());
        }
        if files.len() > MOST_FILES {
            return Err(io::Error::other(format!(
                "`{}` holds more than {MOST_FILES} files",
                root.display()
            )));
        }
    }
    Ok(())
}

fn hash_file(path: &Path, hasher: &mut Sha256) -> io::Result<()> {
    let mut file = File::open(path)?;
    let size = file.metadata()?.len();
    hasher.update(size.to_le_bytes());
    if size <= WHOLE {
        return io::copy(&mut file, &mut HashWriter(hasher)).map(drop);
    }
    let inner = size - 2 * END;
    let spread = (0..STRETCHES).map(|n| (END + n * (inner - STRETCH) / (STRETCHES - 1), STRETCH));
    for (start, length) in [(0, END), (size - END, END)].into_iter().chain(spread) {
        file.seek(SeekFrom::Start(start))?;
        io::copy(&mut (&mut file).take(length), &mut HashWriter(hasher))?;
    }
    Ok(())
}

struct HashWriter<'a>(&'a mut Sha256);

impl io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_and_names_count_and_places_do_not() {
        let make = |name: &str, text: &str| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("sub")).unwrap();
            std::fs::write(folder.path().join("sub").join(name), text).unwrap();
            fingerprint(folder.path()).unwrap()
        };
        assert_eq!(make("a", "x"), make("a", "x"));
        assert_ne!(make("a", "x"), make("a", "y"));
        assert_ne!(make("a", "x"), make("b", "x"));
    }

    #[test]
    fn a_link_to_nothing_is_as_good_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a"), "x").unwrap();
        let before = fingerprint(folder.path()).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("b")).unwrap();
        assert_eq!(fingerprint(folder.path()).unwrap(), before);
    }

    #[test]
    fn a_change_at_either_end_of_a_large_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        let mut bytes = vec![7u8; 10 << 20];
        let mut hash = |at: Option<usize>| {
            if let Some(at) = at {
                bytes[at] ^= 1;
            }
            std::fs::write(&path, &bytes).unwrap();
            fingerprint(&path).unwrap()
        };
        let before = hash(None);
        let first = hash(Some(0));
        let last = hash(Some((10 << 20) - 1));
        assert!(before != first && first != last);
    }
}
