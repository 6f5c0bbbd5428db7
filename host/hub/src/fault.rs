//! What can go wrong between the hub and the cache.
//!
//! No message holds a URL beyond its host, nor any header: a redirect's URL carries a signature that
//! gives access, and the token is in the headers.

use std::path::PathBuf;

use thiserror::Error;

use super::kind::Kind;

#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum HubFault {
    #[error(
        "expected the hub id of a model or data set as `org/name`, `org/name@revision` or `org/name:GGUF`, got `{text}`"
    )]
    NotAnId { text: String },
    #[error("expected {expected} in `{variable}`")]
    Setting {
        variable: &'static str,
        expected: &'static str,
    },
    #[error("the cached snapshot at `{}` is incomplete and `--offline` or HF_HUB_OFFLINE is set", cache.display())]
    Offline { cache: PathBuf },
    #[error("{host} refuses access (status {status}{said})")]
    Refused {
        host: String,
        status: u16,
        said: Said,
        token_sent: bool,
    },
    #[error("{host} has no such {kind}, or hides it")]
    NoRepository {
        host: String,
        kind: Kind,
        is_other_kind: bool,
    },
    #[error("it has no revision `{revision}`")]
    NoRevision { revision: String, nearest: Option<String> },
    #[error("no file of it matches `{pattern}`")]
    NoFile { pattern: String, nearest: Option<String> },
    #[error("no GGUF file of it is `{choice}`: it holds {}", in_ticks(known))]
    NoGguf { choice: String, known: Vec<String> },
    #[error("it holds several GGUF files: {}", in_ticks(known))]
    SeveralGguf { known: Vec<String> },
    #[error("`{file}` arrived with {what} {got}, expected {expected}")]
    Corrupt {
        file: String,
        what: &'static str,
        expected: String,
        got: String,
    },
    #[error("{host} lists the file name {name:?}, which leads out of the cache's folder")]
    UnsafeName { host: String, name: String },
    #[error("{host} answers with status {status}{said}")]
    Status { host: String, status: u16, said: Said },
    #[error("{host} cannot be reached or broke off ({why})")]
    Network { host: String, why: String },
    #[error("{host} sent an unexpected answer ({why})")]
    Malformed { host: String, why: String },
    #[error("`{}`: {why}", path.display())]
    Disk { path: PathBuf, why: String },
    #[error("stopped; the same command goes on from here")]
    Stopped,
}

fn in_ticks(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        _ => format!("`{}`", names.join("`, `")),
    }
}

/// What the hub's own error header says, if anything, as the end of a message.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Said(pub Option<String>);

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(said) => write!(f, ", {said:?}"),
            None => Ok(()),
        }
    }
}
