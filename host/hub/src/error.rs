//! A fault with the repository that it is about, and the way out.

use thiserror::Error;

use super::fault::HubFault;
use super::gguf;
use super::id::HubId;

/// Why something could not be fetched from the hub.
#[derive(Debug, Clone, PartialEq, Error)]
#[error("cannot get `{id}` from the hub: {fault}")]
pub struct HubError {
    pub id: Box<HubId>,
    pub fault: HubFault,
}

impl HubError {
    /// The way out.
    pub fn hint(&self) -> Option<String> {
        let id = &self.id;
        match &self.fault {
            HubFault::Offline { .. } => Some(format!(
                "run `host pull {id}` where there is a network, with the same HF_HOME or a copy of it"
            )),
            // Without a token, the hub gives the same answer about a repository that does not exist.
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
                let label = gguf::label(&known[0]);
                Some(format!(
                    "name one, by its file name or by its format: `{}:{label}`",
                    id.name()
                ))
            }
            HubFault::Corrupt { .. } => {
                Some("pull again; if it happens again, the server or a proxy is at fault".to_owned())
            }
            HubFault::Network { .. } => {
                Some("pull again, it continues where it broke off; `--offline` uses what is in the cache".to_owned())
            }
            _ => None,
        }
    }
}
