//! The files of a commit, and which of them to fetch.

use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::client::{Client, percent_encoded};
use super::fault::HubFault;
use super::gguf;
use super::id::HubId;
use super::names::{is_commit, is_hash, is_safe};

/// The files of one commit, as the hub lists them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

/// Some servers list only names; the answer for the file then has the rest.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RemoteFile {
    /// Relative, with `/` between folders; checked to stay inside the snapshot.
    pub name: String,
    pub size: Option<u64>,
    /// Git's hash of the content; for a large file, of its pointer.
    pub blob_id: Option<String>,
    /// The hash of a file that the hub stores as a large one.
    pub sha256: Option<String>,
}

impl RemoteFile {
    /// The blob's name in the cache, which its content is checked against.
    pub fn hash(&self) -> Option<&str> {
        self.sha256.as_deref().or(self.blob_id.as_deref())
    }
}

/// The parts of the hub's answer that are read.
#[derive(Deserialize)]
struct RevisionAnswer {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<LargeFile>,
}

#[derive(Deserialize)]
struct LargeFile {
    sha256: Option<String>,
    size: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RefsAnswer {
    branches: Vec<RefName>,
    tags: Vec<RefName>,
}

#[derive(Deserialize)]
struct RefName {
    name: String,
}

impl Listing {
    pub fn fetch(client: &Client, id: &HubId, stop: &AtomicBool) -> Result<Self, HubFault> {
        let rest = format!("/revision/{}?blobs=true", percent_encoded(id.revision()));
        let url = client.api_url(id.kind(), id.name(), &rest);
        let answer: RevisionAnswer = client
            .retrying(stop, |_| client.json(&url))
            .map_err(|fault| explain_missing(client, id, fault))?;
        if !is_commit(&answer.sha) {
            let why = format!("expected a commit, got {:?}", answer.sha);
            return Err(HubFault::Malformed {
                host: client.host().to_owned(),
                why,
            });
        }
        let mut files = Vec::with_capacity(answer.siblings.len());
        for sibling in answer.siblings {
            if !is_safe(&sibling.rfilename) {
                return Err(HubFault::UnsafeName {
                    host: client.host().to_owned(),
                    name: sibling.rfilename,
                });
            }
            let (sha256, large_size) = sibling.lfs.map_or((None, None), |large| (large.sha256, large.size));
            files.push(RemoteFile {
                name: sibling.rfilename,
                size: large_size.or(sibling.size),
                blob_id: sibling.blob_id.filter(|hash| is_hash(hash)),
                sha256: sha256.filter(|hash| is_hash(hash)),
            });
        }
        files.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Listing {
            commit: answer.sha,
            files,
        })
    }

    /// The files that the patterns choose.
    pub fn choose(&self, patterns: &Patterns) -> Result<Vec<RemoteFile>, HubFault> {
        let names: Vec<&str> = self.files.iter().map(|file| file.name.as_str()).collect();
        let chosen = patterns.of(&names)?;
        let is_chosen = |file: &&RemoteFile| chosen.contains(&file.name.as_str());
        Ok(self.files.iter().filter(is_chosen).cloned().collect())
    }
}

/// Finds out what exactly a "not found" or "refused" is about, with one request, made only after a failure.
fn explain_missing(client: &Client, id: &HubId, fault: HubFault) -> HubFault {
    let hidden = match &fault {
        HubFault::Status { status: 404, .. } => false,
        // Without a token the hub gives the same answer for missing and for private repositories.
        HubFault::Refused {
            status: 401,
            token_sent: false,
            ..
        } => true,
        _ => return fault,
    };
    let exists = |kind| {
        client
            .json::<serde_json::Value>(&client.api_url(kind, id.name(), ""))
            .is_ok()
    };
    if !hidden && exists(id.kind()) {
        let refs: RefsAnswer = client
            .json(&client.api_url(id.kind(), id.name(), "/refs"))
            .unwrap_or_default();
        let names = refs.branches.iter().chain(&refs.tags).map(|found| found.name.as_str());
        let revision = id.revision().to_owned();
        return HubFault::NoRevision {
            nearest: nearest(&revision, names),
            revision,
        };
    }
    let is_other_kind = exists(id.kind().other());
    if hidden && !is_other_kind {
        return fault;
    }
    HubFault::NoRepository {
        host: client.host().to_owned(),
        kind: id.kind(),
        is_other_kind,
    }
}

fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    names
        .map(|name| (strsim::jaro_winkler(wanted, name), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|one, other| one.0.total_cmp(&other.0))
        .map(|(_, name)| name.to_owned())
}

/// Which files to fetch.
pub(super) struct Patterns {
    wanted: Vec<String>,
    unwanted: Vec<String>,
    /// One GGUF file and nothing else, whatever the patterns.
    gguf: Option<String>,
}

impl Patterns {
    pub fn new(patterns: &[&str]) -> Self {
        let (unwanted, mut wanted): (Vec<&str>, Vec<&str>) =
            patterns.iter().copied().partition(|pattern| pattern.starts_with('!'));
        if wanted.is_empty() {
            wanted.push("*");
        }
        Patterns {
            wanted: wanted.into_iter().map(str::to_owned).collect(),
            unwanted: unwanted.into_iter().map(|pattern| pattern[1..].to_owned()).collect(),
            gguf: None,
        }
    }

    pub fn with_gguf(self, file: Option<&str>) -> Self {
        Patterns {
            gguf: file.map(str::to_owned),
            ..self
        }
    }

    /// The names to fetch among these. A missing name without `*` is an error; a pattern with `*` may match nothing as
    /// long as another matches something. If `*.gguf` is among the patterns, one format of weights is chosen.
    pub fn of<'a>(&self, names: &[&'a str]) -> Result<Vec<&'a str>, HubFault> {
        let no_file = |pattern: &str| HubFault::NoFile {
            pattern: pattern.to_owned(),
            nearest: nearest(pattern, names.iter().copied()),
        };
        if let Some(choice) = &self.gguf {
            return gguf::named(names, choice);
        }
        if let Some(missing) = self.exact_names().find(|name| !names.contains(name)) {
            return Err(no_file(missing));
        }
        let mut chosen: Vec<&str> = names.iter().copied().filter(|name| self.choose(name)).collect();
        if self.wanted.iter().any(|pattern| pattern == "*.gguf") {
            chosen = gguf::settle(chosen)?;
        }
        match chosen.is_empty() {
            true => Err(no_file(&self.wanted.join(" "))),
            false => Ok(chosen),
        }
    }

    pub fn choose(&self, name: &str) -> bool {
        let matches = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, name));
        matches(&self.wanted) && !matches(&self.unwanted)
    }

    fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.wanted
            .iter()
            .map(String::as_str)
            .filter(|pattern| !pattern.contains(['*', '?']))
    }
}

/// Shell patterns, in which `*` crosses `/` as in the hub's own tools.
///
/// Backtracks to the last `*` only, so that its time is bounded by the product of both lengths.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at_pattern, mut at_name) = (0, 0);
    let mut last_star = None;
    while at_name < name.len() {
        match pattern.get(at_pattern) {
            Some('*') => {
                last_star = Some((at_pattern, at_name));
                at_pattern += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[at_name] => {
                at_pattern += 1;
                at_name += 1;
            }
            _ => {
                let Some((star, from)) = last_star else { return false };
                last_star = Some((star, from + 1));
                at_pattern = star + 1;
                at_name = from + 1;
            }
        }
    }
    pattern[at_pattern..].iter().all(|letter| *letter == '*')
}
