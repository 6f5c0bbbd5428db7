//! Files into blobs: locked, resumed, checked, renamed.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::client::{Answer, Client, Trouble, broken_off};
use super::fault::HubFault;
use super::id::HubId;
use super::layout::{self, Repo, make_parent, on_disk};
use super::listing::RemoteFile;
use super::names::is_hash;
use super::snapshot::Progress;

/// Bytes read between two checks of `stop`.
const BLOCK: usize = 256 << 10;

/// Fetches every missing file, and links all files into the commit's snapshot.
pub(super) fn fetch_all(
    client: &Client,
    id: &HubId,
    repo: &Repo,
    commit: &str,
    files: &[RemoteFile],
    progress: &mut dyn FnMut(Progress<'_>),
    stop: &AtomicBool,
) -> Result<(), HubFault> {
    let mut done = 0_u64;
    let total = files.iter().filter_map(|file| file.size).fold(0, u64::saturating_add);
    for (index, file) in files.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(HubFault::Stopped);
        }
        let url = client.file_url(id, commit, &file.name);
        let (hash, size) = described(client, file, &url, stop)?;
        let mut report = |here: u64| {
            let done_bytes = done.saturating_add(here);
            progress(Progress {
                file: &file.name,
                done_bytes,
                total_bytes: total.max(done_bytes),
                done_files: index,
                total_files: files.len(),
            });
        };
        report(0);
        let download = Download {
            client,
            repo,
            name: &file.name,
            hash: &hash,
            size,
            url: &url,
            stop,
        };
        let length = download.fetch(&mut report)?;
        layout::link(repo, commit, &file.name, &hash)?;
        done = done.saturating_add(length);
    }
    progress(Progress {
        file: files.last().map_or("", |file| &file.name),
        done_bytes: done,
        total_bytes: done,
        done_files: files.len(),
        total_files: files.len(),
    });
    Ok(())
}

/// A file's blob name and size: from the listing, else from the server's answer for the file itself.
fn described(
    client: &Client,
    file: &RemoteFile,
    url: &str,
    stop: &AtomicBool,
) -> Result<(String, Option<u64>), HubFault> {
    if let Some(hash) = file.hash() {
        return Ok((hash.to_owned(), file.size));
    }
    let answer = client.retrying(stop, |_| {
        let answer = client.head(url)?;
        if answer.status < 400 {
            Ok(answer)
        } else {
            Err(answer.into_trouble(client))
        }
    })?;
    let linked = answer.linked.as_ref();
    let header = |name: &str| {
        linked
            .and_then(|headers| headers.get(name))
            .and_then(|value| value.to_str().ok())
    };
    let tag = header("x-linked-etag")
        .or_else(|| answer.header("etag"))
        .unwrap_or_default();
    let tag = tag.trim_start_matches("W/").trim_matches('"');
    let is_plain = (1..=128).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !is_plain {
        let why = format!("expected an etag for `{}`, got {tag:?}", file.name);
        return Err(HubFault::Malformed { host: answer.host, why });
    }
    let length = header("x-linked-size").or_else(|| answer.header("content-length"));
    Ok((tag.to_owned(), file.size.or_else(|| length?.parse().ok())))
}

struct Download<'a> {
    client: &'a Client,
    repo: &'a Repo,
    name: &'a str,
    hash: &'a str,
    size: Option<u64>,
    url: &'a str,
    stop: &'a AtomicBool,
}

impl Download<'_> {
    /// Makes sure that the blob is there and returns its length; reports progress in bytes.
    fn fetch(&self, report: &mut dyn FnMut(u64)) -> Result<u64, HubFault> {
        if let Some(length) = self.is_there() {
            return Ok(length);
        }
        let _lock = self.lock()?;
        // Another process may have fetched it while this one waited for the lock.
        if let Some(length) = self.is_there() {
            return Ok(length);
        }
        let partial = self.repo.partial(self.hash);
        make_parent(&partial)?;
        let resumed = fs::metadata(&partial).is_ok_and(|found| found.len() > 0);
        let length = match self.fetch_partial(&partial, report) {
            // A power cut can leave a partial file of the right length with wrong content. That is not the
            // server's fault, so a resumed file is fetched again from the beginning, once.
            Err(HubFault::Corrupt { .. }) if resumed => self.fetch_partial(&partial, report)?,
            other => other?,
        };
        let blob = self.repo.blob(self.hash);
        fs::rename(&partial, &blob).map_err(on_disk(&blob))?;
        if let Some(folder) = blob.parent() {
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(on_disk(folder))?;
        }
        Ok(length)
    }

    fn is_there(&self) -> Option<u64> {
        let length = fs::metadata(self.repo.blob(self.hash)).ok()?.len();
        self.size.is_none_or(|size| size == length).then_some(length)
    }

    /// Python takes the same lock on the same file, so the two do not write at the same time.
    fn lock(&self) -> Result<File, HubFault> {
        let path = self.repo.lock(self.hash);
        make_parent(&path)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(on_disk(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) if self.stop.load(Ordering::Relaxed) => return Err(HubFault::Stopped),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
                Err(TryLockError::Error(error)) => return Err(on_disk(&path)(error)),
            }
        }
    }

    /// Completes the partial file and checks it. If it is wrong it is deleted.
    fn fetch_partial(&self, partial: &Path, report: &mut dyn FnMut(u64)) -> Result<u64, HubFault> {
        let outcome = self
            .complete(partial, report)
            .and_then(|length| self.check(partial, length));
        if matches!(outcome, Err(HubFault::Corrupt { .. })) {
            fs::remove_file(partial).map_err(on_disk(partial))?;
        }
        outcome
    }

    /// Fetches until the partial file is complete, and returns its length.
    fn complete(&self, partial: &Path, report: &mut dyn FnMut(u64)) -> Result<u64, HubFault> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(partial)
            .map_err(on_disk(partial))?;
        let mut furthest = 0;
        self.client.retrying(self.stop, |got_further| {
            let before = furthest;
            let outcome = self.fetch_rest(&mut file, partial, &mut furthest, report);
            *got_further = furthest > before;
            outcome
        })?;
        file.sync_all().map_err(on_disk(partial))?;
        Ok(file.metadata().map_err(on_disk(partial))?.len())
    }

    /// One request for the missing part of the file. `furthest` is the most bytes there have been: a server that always
    /// starts from the beginning and breaks off makes no progress.
    fn fetch_rest(
        &self,
        file: &mut File,
        partial: &Path,
        furthest: &mut u64,
        report: &mut dyn FnMut(u64),
    ) -> Result<(), Trouble> {
        let disk = |error| Trouble::from(on_disk(partial)(error));
        let mut have = file.metadata().map_err(disk)?.len();
        if self.size.is_some_and(|size| have > size) {
            file.set_len(0).map_err(disk)?;
            have = 0;
        }
        if self.size == Some(have) && have > 0 {
            report(have);
            return Ok(());
        }
        let answer = self.client.get(self.url, have)?;
        match answer.status {
            206 if starts_at(&answer, have) => {}
            // The server ignores the range and sends the whole file.
            200 => {
                file.set_len(0).map_err(disk)?;
                have = 0;
            }
            // The size is unknown, and the whole file was there already, or more than that.
            206 | 416 if have > 0 => {
                file.set_len(0).map_err(disk)?;
                let fault = HubFault::Malformed {
                    host: answer.host.clone(),
                    why: format!("asked for `{}` from byte {have} on, got another part", self.name),
                };
                return Err(Trouble {
                    fault,
                    passing: true,
                    retry_after: None,
                });
            }
            _ => return Err(answer.into_trouble(self.client)),
        }
        let host = answer.host.clone();
        let mut reader = answer.reader();
        let mut block = vec![0; BLOCK];
        loop {
            if self.stop.load(Ordering::Relaxed) {
                return Err(HubFault::Stopped.into());
            }
            let length = match reader.read(&mut block) {
                Ok(0) => break,
                Ok(length) => length,
                Err(error) => return Err(broken_off(&host, &error)),
            };
            have += length as u64;
            if let Some(size) = self.size
                && have > size
            {
                return Err(self.corrupt("length", size.to_string(), format!("above {size}")).into());
            }
            file.write_all(&block[..length]).map_err(disk)?;
            *furthest = have.max(*furthest);
            report(have);
        }
        match self.size {
            // Some servers end an answer early without an error on the connection.
            Some(size) if have < size => Err(broken_off(
                &host,
                &std::io::Error::other(format!("{have} of {size} bytes of `{}`", self.name)),
            )),
            _ => Ok(()),
        }
    }

    fn check(&self, partial: &Path, length: u64) -> Result<u64, HubFault> {
        if !is_hash(self.hash) {
            return Ok(length);
        }
        let mut file = File::open(partial).map_err(on_disk(partial))?;
        let (what, got) = if self.hash.len() == 64 {
            ("sha256", self.digest(Sha256::new(), &mut file))
        } else {
            // Git hashes a blob as its length and its content.
            let hasher = Sha1::new().chain_update(format!("blob {length}\0"));
            ("git sha1", self.digest(hasher, &mut file))
        };
        let got = got.map_err(on_disk(partial))?.ok_or(HubFault::Stopped)?;
        if got == self.hash {
            Ok(length)
        } else {
            Err(self.corrupt(what, self.hash.to_owned(), got))
        }
    }

    /// `None` if stopped in between: a large file takes a while.
    fn digest<D: Digest>(&self, mut hasher: D, file: &mut File) -> std::io::Result<Option<String>> {
        let mut block = vec![0; BLOCK];
        while !self.stop.load(Ordering::Relaxed) {
            match file.read(&mut block)? {
                0 => {
                    return Ok(Some(
                        hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
                    ));
                }
                length => hasher.update(&block[..length]),
            }
        }
        Ok(None)
    }

    fn corrupt(&self, what: &'static str, expected: String, got: String) -> HubFault {
        HubFault::Corrupt {
            file: self.name.to_owned(),
            what,
            expected,
            got,
        }
    }
}

fn starts_at(answer: &Answer, start: u64) -> bool {
    let range = answer
        .header("content-range")
        .and_then(|range| range.strip_prefix("bytes "));
    range
        .and_then(|range| range.split_once('-'))
        .is_some_and(|(first, _)| first.parse() == Ok(start))
}
