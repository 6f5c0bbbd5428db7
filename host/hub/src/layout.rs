//! Where things are in the cache.
//!
//! ```text
//! models--org--name/blobs/HASH            each file's content, once
//! models--org--name/refs/main             the commit that a branch named when it was last asked
//! models--org--name/snapshots/COMMIT/...  the files under their names, as links to blobs
//! models--org--name/trees/COMMIT.json     which files the commit has, so that a part is not taken for the whole
//! .locks/models--org--name/HASH.lock      held while a blob is fetched
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::fault::HubFault;
use super::id::HubId;
use super::listing::{Listing, Patterns, RemoteFile};
use super::names::{is_commit, is_safe};
use super::snapshot::Snapshot;

/// One repository's folder in the cache.
#[derive(Debug, Clone)]
pub(super) struct Repo {
    folder: PathBuf,
    locks: PathBuf,
}

impl Repo {
    pub fn new(cache: &Path, id: &HubId) -> Self {
        let name = format!("{}--{}", id.kind().plural(), id.name().replace('/', "--"));
        Repo {
            locks: cache.join(".locks").join(&name),
            folder: cache.join(name),
        }
    }

    pub fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    pub fn partial(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{hash}.incomplete"))
    }

    pub fn lock(&self, hash: &str) -> PathBuf {
        self.locks.join(format!("{hash}.lock"))
    }

    pub fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    fn tree(&self, commit: &str) -> PathBuf {
        self.folder.join("trees").join(format!("{commit}.json"))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }
}

/// A disk error with the path it is about.
pub(super) fn on_disk(path: &Path) -> impl FnOnce(io::Error) -> HubFault {
    let path = path.to_owned();
    move |error| HubFault::Disk {
        path,
        why: error.to_string(),
    }
}

pub(super) fn make_parent(path: &Path) -> Result<(), HubFault> {
    match path.parent() {
        Some(parent) => fs::create_dir_all(parent).map_err(on_disk(parent)),
        None => Ok(()),
    }
}

/// Readers see either the old content or the new one, never a part.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), HubFault> {
    make_parent(path)?;
    let draft = draft_beside(path);
    fs::write(&draft, content)
        .and_then(|()| fs::rename(&draft, path))
        .map_err(on_disk(path))
}

/// A name beside `path` that no other process or thread uses.
fn draft_beside(path: &Path) -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}-{digits}", std::process::id()))
}

/// The file in which Python, from `huggingface_hub` 2 on, notes the files of a commit.
#[derive(Serialize, Deserialize)]
struct Tree {
    format_version: u32,
    files: BTreeMap<String, TreeFile>,
}

#[derive(Serialize, Deserialize)]
struct TreeFile {
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blob_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lfs_size: Option<u64>,
}

/// Python's version of the format, in which every file has a size and a blob.
const TREE_VERSION: u32 = 1;
/// A version that Python ignores, for a server that lists only names.
const TREE_VERSION_NAMES_ALONE: u32 = 0;

pub(super) fn write_listing(repo: &Repo, listing: &Listing) -> Result<(), HubFault> {
    // A commit never changes, and Python's own list may say more.
    if read_listing(repo, &listing.commit).is_some() {
        return Ok(());
    }
    let complete = listing
        .files
        .iter()
        .all(|file| file.size.is_some() && file.blob_id.is_some());
    let files = listing.files.iter().map(|file| {
        let lfs_size = file.sha256.as_ref().and(file.size);
        let (blob_id, lfs_sha256) = (file.blob_id.clone(), file.sha256.clone());
        (
            file.name.clone(),
            TreeFile {
                size: file.size,
                blob_id,
                lfs_sha256,
                lfs_size,
            },
        )
    });
    let tree = Tree {
        format_version: if complete {
            TREE_VERSION
        } else {
            TREE_VERSION_NAMES_ALONE
        },
        files: files.collect(),
    };
    let path = repo.tree(&listing.commit);
    let text = serde_json::to_vec_pretty(&tree).map_err(|error| on_disk(&path)(error.into()))?;
    write_whole(&path, &text)
}

fn read_listing(repo: &Repo, commit: &str) -> Option<Listing> {
    let tree: Tree = serde_json::from_slice(&fs::read(repo.tree(commit)).ok()?).ok()?;
    if tree.format_version > TREE_VERSION {
        return None;
    }
    let files = tree
        .files
        .into_iter()
        .filter(|(name, _)| is_safe(name))
        .map(|(name, file)| RemoteFile {
            name,
            size: file.lfs_size.or(file.size),
            blob_id: file.blob_id,
            sha256: file.lfs_sha256,
        });
    Some(Listing {
        commit: commit.to_owned(),
        files: files.collect(),
    })
}

pub(super) fn write_ref(repo: &Repo, revision: &str, commit: &str) -> Result<(), HubFault> {
    if revision == commit {
        Ok(())
    } else {
        write_whole(&repo.reference(revision), commit.as_bytes())
    }
}

/// Puts a blob into a snapshot under its name.
pub(super) fn link(repo: &Repo, commit: &str, name: &str, hash: &str) -> Result<(), HubFault> {
    let path = repo.snapshot(commit).join(name);
    let up = "../".repeat(name.matches('/').count() + 2);
    let target = PathBuf::from(format!("{up}blobs/{hash}"));
    if fs::read_link(&path).is_ok_and(|found| found == target) {
        return Ok(());
    }
    make_parent(&path)?;
    let draft = draft_beside(&path);
    std::os::unix::fs::symlink(&target, &draft)
        .and_then(|()| fs::rename(&draft, &path))
        .map_err(on_disk(&path))
}

/// The snapshot of the revision that `id` names, if every file that the patterns choose is there.
///
/// If this program or a newer Python pulled the commit, its tree lists the files. If an older Python did, there is no
/// list, and the files in the cache count as complete unless shards that an index names are missing or, if the network
/// can be asked instead (`lenient` is false), there is an unfinished download.
///
/// An error is something that no pull would fix: the patterns choose nothing of the commit, or too much.
pub(super) fn cached(
    repo: &Repo,
    id: &HubId,
    patterns: &Patterns,
    lenient: bool,
) -> Result<Option<Snapshot>, HubFault> {
    let Some(commit) = commit_of(repo, id.revision()) else {
        return Ok(None);
    };
    let folder = repo.snapshot(&commit);
    let (files, whole): (Vec<String>, bool) = match read_listing(repo, &commit) {
        Some(listing) => {
            let chosen = listing.choose(patterns)?;
            let whole = chosen.iter().all(|file| {
                fs::metadata(folder.join(&file.name))
                    .is_ok_and(|found| found.is_file() && file.size.is_none_or(|size| size == found.len()))
            });
            (chosen.into_iter().map(|file| file.name).collect(), whole)
        }
        None => {
            let there = files_below(&folder);
            let names: Vec<&str> = there.iter().map(String::as_str).collect();
            let files = match patterns.of(&names) {
                Ok(files) => files,
                // One GGUF file of the listed ones must be chosen.
                Err(fault @ HubFault::SeveralGguf { .. }) if lenient => return Err(fault),
                Err(_) => return Ok(None),
            };
            let whole = (lenient || !has_partial_blobs(repo)) && shards_are_there(&folder, &there);
            (files.into_iter().map(str::to_owned).collect(), whole)
        }
    };
    let name = id.name().to_owned();
    Ok(whole.then_some(Snapshot {
        name,
        folder,
        commit,
        files,
    }))
}

fn commit_of(repo: &Repo, revision: &str) -> Option<String> {
    if is_commit(revision) {
        return Some(revision.to_owned());
    }
    let commit = fs::read_to_string(repo.reference(revision)).ok()?.trim().to_owned();
    is_commit(&commit).then_some(commit)
}

fn has_partial_blobs(repo: &Repo) -> bool {
    fs::read_dir(repo.folder.join("blobs")).is_ok_and(|blobs| {
        blobs
            .flatten()
            .any(|blob| blob.file_name().to_string_lossy().ends_with(".incomplete"))
    })
}

/// The names of the files below a folder, without links to missing files.
fn files_below(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut open = vec![String::new()];
    while let Some(prefix) = open.pop() {
        let Ok(entries) = fs::read_dir(folder.join(&prefix)) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let name = format!("{prefix}{name}");
            // A link to a folder is not followed: the layout has none, and links can form a circle.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(format!("{name}/")),
                Ok(_) if entry.path().is_file() => {
                    names.insert(name);
                }
                _ => {}
            }
        }
    }
    names
}

/// Whether every shard that a `*.safetensors.index.json` names is next to it.
fn shards_are_there(folder: &Path, there: &BTreeSet<String>) -> bool {
    there
        .iter()
        .filter(|name| name.ends_with(".safetensors.index.json"))
        .all(|index| {
            let prefix = index
                .rsplit_once('/')
                .map_or(String::new(), |(prefix, _)| format!("{prefix}/"));
            let read = fs::read(folder.join(index))
                .ok()
                .and_then(|text| serde_json::from_slice::<Value>(&text).ok());
            match read
                .as_ref()
                .and_then(|index| index.get("weight_map"))
                .and_then(Value::as_object)
            {
                Some(map) => map
                    .values()
                    .filter_map(Value::as_str)
                    .all(|shard| there.contains(&format!("{prefix}{shard}"))),
                None => true,
            }
        })
}
