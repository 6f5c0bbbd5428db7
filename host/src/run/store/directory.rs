//! A run on disk: one directory, one writer, and lines that are whole or absent.

use super::record::Record;
use super::score::{Graders, ScoreStatus, Scorer};
use crate::failure::{Doing, Exit, Failure, Result};
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// One run's directory, locked by this process or opened read-only.
#[derive(Debug)]
pub struct RunDirectory {
    pub path: PathBuf,
    // Kept for its lock, which the kernel releases however the process ends. None for a read-only directory.
    lock: Option<File>,
}

/// Where a record lies in `samples.jsonl`, and what resuming needs to know about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub offset: u64,
    /// There is no reply.
    pub failed: bool,
    /// There is a reply, and this scorer has not scored it.
    pub unscored: bool,
    /// The scorer failed on the reply.
    pub score_failed: bool,
}

impl RunDirectory {
    /// Opens the directory, which it makes if needed. With `fresh`, an existing one is moved aside first.
    pub fn open(path: &Path, fresh: bool) -> Result<RunDirectory> {
        if fresh && path.join("samples.jsonl").exists() {
            let aside = (1..)
                .map(|n| path.with_extension(format!("old-{n}")))
                .find(|aside| !aside.exists());
            if let Some(aside) = aside {
                let failed = || format!("cannot move the former run `{}` aside", path.display());
                std::fs::rename(path, aside).or_fail(Exit::Unwritable, failed)?;
            }
        }
        let failed = || format!("cannot make the run directory `{}`", path.display());
        std::fs::create_dir_all(path).or_fail(Exit::Unwritable, failed)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(".lock"));
        let lock = lock.or_fail(Exit::Unwritable, failed)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Failure::usage(format!("another `host` is using `{}`", path.display()))
                .help("wait for it, or choose another folder with `--out`")
        })?;
        Ok(RunDirectory {
            path: path.to_owned(),
            lock: Some(lock),
        })
    }

    /// Opens a directory that another process may be writing, and changes nothing in it, not even a torn last line.
    pub fn look(path: &Path) -> RunDirectory {
        RunDirectory {
            path: path.to_owned(),
            lock: None,
        }
    }

    /// Passes on the number and the place of every line of one of its files, if the file exists. A torn last line is
    /// skipped; the process that holds the lock cuts it off.
    pub fn for_each_line(&self, file: &Path, tell: impl FnMut(u64, u64, &[u8]) -> Result<()>) -> Result<()> {
        match self.lock {
            Some(_) => for_each_line(file, tell),
            None => whole_lines(file, tell).map(drop),
        }
    }

    pub fn samples(&self) -> PathBuf {
        self.path.join("samples.jsonl")
    }

    /// Writes a file so that readers see either the old one or the whole new one.
    pub fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        write_whole(&self.path.join(name), content)
    }

    /// Records by key, as a scorer sees them: the last record of a key counts. A torn last line, from a process that
    /// was killed while writing, is cut off.
    pub fn known(&self, scorer: &Scorer) -> Result<HashMap<String, Place>> {
        let mut known = HashMap::new();
        self.for_each_record(|brief: Brief, offset| {
            let own = brief.scores.get(scorer.name);
            let by_it = own.is_some_and(|own| scorer.gave(&own.scorer, &own.graders));
            known.insert(
                brief.key,
                Place {
                    offset,
                    failed: brief.error.is_some(),
                    unscored: brief.error.is_none() && !by_it,
                    score_failed: by_it && own.is_some_and(|own| own.status == ScoreStatus::Failed),
                },
            );
        })?;
        Ok(known)
    }

    /// Passes on every record of `samples.jsonl`, as far as a reader wants to know it, with its place. In a locked
    /// directory a torn last line is cut off, and a broken line is refused; else it may still be written, and is skipped.
    pub fn for_each_record<T: DeserializeOwned>(&self, mut tell: impl FnMut(T, u64)) -> Result<()> {
        let path = self.samples();
        self.for_each_line(&path, |number, offset, line| match serde_json::from_slice(line) {
            Ok(record) => {
                tell(record, offset);
                Ok(())
            }
            Err(why) if self.lock.is_some() => Err(broken(&path, number, why)),
            Err(_) => Ok(()),
        })
    }

    /// Opens the records for appending.
    pub fn appender(&self) -> Result<Appender> {
        Appender::open(&self.samples())
    }
}

#[derive(serde::Deserialize)]
struct Brief {
    key: String,
    #[serde(default)]
    scores: BTreeMap<String, BriefScore>,
    #[serde(default)]
    error: Option<serde::de::IgnoredAny>,
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct BriefScore {
    scorer: String,
    graders: Graders,
    status: ScoreStatus,
}

fn broken(path: &Path, number: u64, why: serde_json::Error) -> Failure {
    Failure::missing(format!("line {number} of `{}` is not a record", path.display()))
        .cause(why)
        .help("repair the line, or start over with `--fresh`, which keeps this run under another name")
}

/// Writes each line with one system call: a line is whole or absent, even after `kill -9`.
#[derive(Debug)]
pub struct Appender {
    file: File,
    path: PathBuf,
    /// The first failure. A full disk may have taken part of a line, which is cut off later as long as it is the last.
    failure: Option<Failure>,
}

impl Appender {
    pub fn open(path: &Path) -> Result<Appender> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Appender {
            file: file.map_err(|why| unwritable(path, why))?,
            path: path.to_owned(),
            failure: None,
        })
    }

    pub fn append(&mut self, line: &impl Serialize) -> Result<()> {
        self.append_placed(line).map(drop)
    }

    /// The same, and returns the place where the line begins.
    pub fn append_placed(&mut self, line: &impl Serialize) -> Result<u64> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut bytes = serde_json::to_vec(line).map_err(|why| unwritable(&self.path, why))?;
        bytes.push(b'\n');
        let written = self.file.write_all(&bytes).and_then(|()| self.file.stream_position());
        written.map(|end| end - bytes.len() as u64).map_err(|why| {
            let failure = unwritable(&self.path, why);
            self.failure.insert(failure).clone()
        })
    }

    /// Flushes what was written to the disk, in case the machine itself goes down.
    pub fn sync(&self) {
        let _ = self.file.sync_data();
    }
}

/// Passes on the number and the place of every line of a file, if it exists. A torn last line, from a process that was
/// killed while writing, is cut off.
pub fn for_each_line(path: &Path, tell: impl FnMut(u64, u64, &[u8]) -> Result<()>) -> Result<()> {
    let Some(whole) = whole_lines(path, tell)? else {
        return Ok(());
    };
    let file = OpenOptions::new().write(true).open(path);
    let cut = file.and_then(|file| file.set_len(whole));
    cut.map_err(|why| unwritable(path, why))
}

/// Passes on every whole line, and returns the place where a torn last line begins.
fn whole_lines(path: &Path, mut tell: impl FnMut(u64, u64, &[u8]) -> Result<()>) -> Result<Option<u64>> {
    if !path.exists() {
        return Ok(None);
    }
    let failed = || format!("cannot read `{}`", path.display());
    let file = File::open(path).or_fail(Exit::Missing, failed)?;
    let mut reader = BufReader::with_capacity(1 << 20, &file);
    let (mut offset, mut number, mut line) = (0u64, 0u64, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line).or_fail(Exit::Missing, failed)? as u64;
        if length == 0 {
            return Ok(None);
        }
        if line.last() != Some(&b'\n') {
            return Ok(Some(offset));
        }
        number += 1;
        tell(number, offset, &line)?;
        offset += length;
    }
}

/// Whether another process holds the lock of a run's directory.
pub fn at_work(path: &Path) -> bool {
    let Ok(lock) = File::open(path.join(".lock")) else {
        return false;
    };
    flock(&lock, FlockOperation::NonBlockingLockShared).is_err()
}

/// Reads lines where they lie, one at a time.
pub struct LineReader {
    reader: BufReader<File>,
    path: PathBuf,
    at: u64,
}

/// How far ahead lines are read that are wanted one after the other, and those that lie scattered.
pub const AHEAD: usize = 1 << 18;
pub const SCATTERED: usize = 1 << 14;

impl LineReader {
    pub fn open(path: &Path, ahead: usize) -> Result<LineReader> {
        let file = File::open(path).or_fail(Exit::Missing, || format!("cannot read `{}`", path.display()))?;
        Ok(LineReader {
            reader: BufReader::with_capacity(ahead, file),
            path: path.to_owned(),
            at: 0,
        })
    }

    /// The record at this place of `samples.jsonl`.
    pub fn record_at(&mut self, offset: u64) -> Result<Record> {
        let line = self.line_at(offset)?;
        Record::parse(&line).or_fail(Exit::Missing, || format!("cannot read `{}`", self.path.display()))
    }

    /// The line at this place, parsed.
    pub fn read_at<T: DeserializeOwned>(&mut self, offset: u64) -> Result<T> {
        let line = self.line_at(offset)?;
        serde_json::from_slice(&line).or_fail(Exit::Missing, || format!("cannot read `{}`", self.path.display()))
    }

    /// The line at this place, as text.
    pub fn line_at(&mut self, offset: u64) -> Result<Vec<u8>> {
        let failed = || format!("cannot read `{}`", self.path.display());
        let distance = i64::try_from(offset).unwrap_or(0) - i64::try_from(self.at).unwrap_or(0);
        self.reader.seek_relative(distance).or_fail(Exit::Missing, failed)?;
        let mut line = Vec::new();
        let length = self
            .reader
            .read_until(b'\n', &mut line)
            .or_fail(Exit::Missing, failed)?;
        self.at = offset + length as u64;
        Ok(line)
    }
}

/// Writes a file so that readers see either the old one or the whole new one.
pub fn write_whole(path: &Path, content: &[u8]) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let written = std::fs::write(&partial, content).and_then(|()| std::fs::rename(&partial, path));
    written.map_err(|why| unwritable(path, why))
}

/// A failure to write into a run, which ends it for now.
pub fn unwritable(path: &Path, why: impl std::fmt::Display) -> Failure {
    Failure::unwritable(path, why)
        .help("finished samples are kept: free some space, and the same command goes on from here")
}

/// The text of a small file, or none when it isn't there.
pub fn read_if_there(path: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(path).ok()?.take(64 << 20).read_to_string(&mut text).ok()?;
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(key: &str) -> impl Serialize {
        serde_json::json!({ "key": key, "format": 2 })
    }

    fn known(run: &RunDirectory) -> Result<HashMap<String, Place>> {
        run.known(&Scorer {
            name: "t",
            hash: "",
            graders: &Graders::new(),
        })
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_rest_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path(), false).unwrap();
        let mut appender = run.appender().unwrap();
        for key in ["a", "b"] {
            appender.append(&line(key)).unwrap();
        }
        let whole = std::fs::read(run.samples()).unwrap();
        for cut in 1..whole.len() / 2 {
            std::fs::write(run.samples(), &whole[..whole.len() - cut]).unwrap();
            let found = known(&run).unwrap();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["a"], "cut by {cut}");
            assert_eq!(
                std::fs::read(run.samples()).unwrap().len(),
                whole.len() / 2,
                "cut by {cut}"
            );
        }
    }

    #[test]
    fn looking_at_a_run_leaves_a_torn_line_to_whoever_writes_it() {
        let folder = tempfile::tempdir().unwrap();
        let held = RunDirectory::open(folder.path(), false).unwrap();
        std::fs::write(held.samples(), "{\"key\":\"a\"}\n{\"key\":").unwrap();
        let mut lines = 0;
        let look = RunDirectory::look(folder.path());
        look.for_each_line(&look.samples(), |_, _, _| {
            lines += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!((lines, std::fs::read(held.samples()).unwrap().len()), (1, 19));
    }

    #[test]
    fn a_broken_line_in_the_middle_is_named_and_nothing_is_touched() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path(), false).unwrap();
        run.appender().unwrap().append(&line("a")).unwrap();
        let mut text = std::fs::read_to_string(run.samples()).unwrap();
        text.push_str("{oops}\n");
        std::fs::write(run.samples(), &text).unwrap();
        let failure = known(&run).unwrap_err();
        assert!(failure.error.message.starts_with("line 2 of"), "{failure:?}");
        assert_eq!(std::fs::read_to_string(run.samples()).unwrap(), text);
    }

    #[test]
    fn two_processes_never_write_one_run() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunDirectory::open(folder.path(), false).unwrap();
        let second = RunDirectory::open(folder.path(), false).unwrap_err();
        assert!(second.error.message.contains("another `host`"), "{second:?}");
        drop(first);
        assert!(RunDirectory::open(folder.path(), false).is_ok());
    }

    #[test]
    fn fresh_moves_the_former_run_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run");
        RunDirectory::open(&path, false)
            .unwrap()
            .appender()
            .unwrap()
            .append(&line("a"))
            .unwrap();
        let fresh = RunDirectory::open(&path, true).unwrap();
        assert!(known(&fresh).unwrap().is_empty());
        assert!(folder.path().join("run.old-1/samples.jsonl").exists());
    }

    #[test]
    fn records_are_read_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let run = RunDirectory::open(folder.path(), false).unwrap();
        let mut appender = run.appender().unwrap();
        for key in ["a", "b", "c"] {
            appender.append(&line(key)).unwrap();
        }
        let places = known(&run).unwrap();
        let mut reader = LineReader::open(&run.samples(), AHEAD).unwrap();
        for key in ["c", "a", "b"] {
            let record = reader.record_at(places[key].offset).unwrap();
            assert_eq!(record.key, key);
        }
    }
}
