//! What can go wrong between the hub and the cache.
//!
//! No message holds a URL beyond its host, nor any header: a redirect's URL carries a signature that
//! gives access, and the token is in the headers.

use std::path::PathBuf;

use thiserror::Error;

use super::id::{HubId, Kind};
use crate::failure::{Exit, Failure};

/// Something of the hub that cannot be had, and why.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("cannot get `{id}` from the hub: {fault}")]
pub struct HubError {
    pub id: Box<HubId>,
    pub fault: HubFault,
}

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
    #[error("it is not whole in the cache at `{}`, and this run is offline", cache.display())]
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
    #[error("{host} answers with something else than was asked for ({why})")]
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

impl HubError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let id = &self.id;
        match &self.fault {
            HubFault::Offline { .. } => Some(format!(
                "run `host pull {id}` where there is a network, with the same HF_HOME or a copy of it"
            )),
            // To someone it does not know, the hub answers so about a repository that does not exist too.
            HubFault::Refused { token_sent: false, .. } => Some(format!(
                "check the spelling; if it is right, accept the licence on the page of `{}`, if it has one, \
                 and set HF_TOKEN to a token that may read it",
                id.name()
            )),
            HubFault::Refused { token_sent: true, .. } => Some(format!(
                "the token in HF_TOKEN has no access: accept the licence on the page of `{}`, or use another token",
                id.name()
            )),
            HubFault::NoRepository {
                is_other_kind: true,
                kind,
                ..
            } => Some(format!("there is a {} of this name", kind.other())),
            HubFault::NoRepository { .. } => {
                Some("check the spelling; a private one needs a token that may read it in HF_TOKEN".to_owned())
            }
            HubFault::NoRevision {
                nearest: Some(nearest), ..
            }
            | HubFault::NoFile {
                nearest: Some(nearest), ..
            } => Some(format!("the nearest name is `{nearest}`")),
            HubFault::SeveralGguf { known } | HubFault::NoGguf { known, .. } if !known.is_empty() => {
                let label = super::gguf::label(&known[0]);
                Some(format!(
                    "say which, by its name or by what it is stored as: `{}:{label}`",
                    id.name()
                ))
            }
            HubFault::Corrupt { .. } => {
                Some("pull again; if it happens again, the server or a proxy is at fault".to_owned())
            }
            HubFault::Network { .. } => {
                Some("pull again, it goes on where it broke off; `--offline` uses what is in the cache".to_owned())
            }
            _ => None,
        }
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        let exit = match &error.fault {
            HubFault::Stopped => Exit::Interrupted,
            HubFault::Disk { .. } => Exit::Unwritable,
            _ => Exit::Missing,
        };
        let failure = Failure::new(exit, error.to_string());
        match error.hint() {
            Some(hint) => failure.help(hint),
            None => failure,
        }
    }
}

/// A fault on its own, before any repository is asked for: a setting or an id that is none.
impl From<HubFault> for Failure {
    fn from(fault: HubFault) -> Self {
        Failure::usage(fault.to_string())
    }
}
