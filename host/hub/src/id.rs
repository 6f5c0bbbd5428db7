//! The names of things on the hub: `org/name@revision`, and one file of several: `org/name:Q8_0`.

use std::fmt;

use super::fault::HubFault;
use super::kind::Kind;
use super::names::{is_commit, is_safe};

/// A repository on the hub, and which state of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubId {
    kind: Kind,
    name: String,
    revision: Option<String>,
    file: Option<String>,
}

impl HubId {
    /// Reads `org/name`, `org/name@revision`, or either with `models/` or `datasets/` in front, which is
    /// stronger than `kind`. Of a model's GGUF files one may be named: `org/name:Q8_0`, `org/name@revision:Q8_0`,
    /// `org/name/file.gguf`.
    pub fn parse(text: &str, kind: Kind) -> Result<Self, HubFault> {
        let (kind, rest) = match text.split_once('/') {
            Some(("models", rest)) if rest.contains('/') => (Kind::Model, rest),
            Some(("datasets", rest)) if rest.contains('/') => (Kind::Dataset, rest),
            _ => (kind, text),
        };
        let wrong = || HubFault::NotAnId { text: text.to_owned() };
        let (name, mut marks) = rest.split_at(rest.find(['@', ':']).unwrap_or(rest.len()));
        let (mut revision, mut file) = (None, None);
        while let Some(mark) = marks.chars().next() {
            let word = &marks[1..];
            // No revision holds a colon; a file's name holds none either, but may hold what marks a revision.
            let end = match mark {
                '@' => word.find(':').unwrap_or(word.len()),
                _ => word.find('@').unwrap_or(word.len()),
            };
            let place = if mark == '@' { &mut revision } else { &mut file };
            if place.replace(&word[..end]).is_some() {
                return Err(wrong());
            }
            marks = &word[end..];
        }
        let (name, inner) = match name.match_indices('/').nth(1) {
            Some((slash, _)) if name.ends_with(".gguf") => (&name[..slash], Some(&name[slash + 1..])),
            _ => (name, None),
        };
        let sound = match name.split_once('/') {
            Some((org, name)) => is_name(org) && is_name(name),
            None => false,
        };
        let file = match (inner, file) {
            (Some(_), Some(_)) => return Err(wrong()),
            (inner, file) => inner.or(file),
        };
        let sound_file = file.is_none_or(|file| kind == Kind::Model && is_safe(file));
        match sound && sound_file && revision.is_none_or(is_revision) {
            true => Ok(HubId {
                kind,
                name: name.to_owned(),
                revision: revision.map(str::to_owned),
                file: file.map(str::to_owned),
            }),
            false => Err(wrong()),
        }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// `org/name`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A branch, a tag or a commit; `main` where the id names none.
    pub fn revision(&self) -> &str {
        self.revision.as_deref().unwrap_or("main")
    }

    /// Which of the model's GGUF files is wanted: what it is stored as, or its name.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Whether the revision is a commit, which never changes, and not a branch or a tag.
    pub fn is_pinned(&self) -> bool {
        is_commit(self.revision())
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == Kind::Dataset {
            f.write_str("datasets/")?;
        }
        f.write_str(&self.name)?;
        if let Some(revision) = &self.revision {
            write!(f, "@{revision}")?;
        }
        match &self.file {
            Some(file) => write!(f, ":{file}"),
            None => Ok(()),
        }
    }
}

/// The hub's own rule; it also keeps every name a safe folder name, in which `--` can stand for `/`.
fn is_name(part: &str) -> bool {
    (1..=96).contains(&part.len())
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && !part.starts_with(['-', '.'])
        && !part.ends_with(['-', '.'])
        && !part.contains("--")
        && !part.contains("..")
}

/// A revision becomes a path below `refs`, so it must not lead out of it.
fn is_revision(revision: &str) -> bool {
    revision.len() <= 255
        && revision.split('/').all(|part| {
            !part.is_empty()
                && !part.starts_with('.')
                && part
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte))
        })
}
