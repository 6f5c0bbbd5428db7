//! A plugin's way into the host's log. Standard output is not a plugin's to write to.

use crate::redact::redacted;
use crate::wire::{Callbacks, Envelope};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// The host that this copy of the crate was introduced to.
static HOST: OnceLock<Box<dyn Callbacks>> = OnceLock::new();

/// Makes this host the one that is written to. False when there is one.
pub(crate) fn introduce(host: Box<dyn Callbacks>) -> bool {
    HOST.set(host).is_ok()
}

/// How much a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// For those who look for a fault.
    Debug,
    /// Worth knowing.
    Info,
    /// Something is odd, and the work goes on.
    Warning,
    /// Something failed.
    Error,
}

/// One message, as it travels to the host.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LogNote {
    /// How much it matters.
    pub level: Level,
    /// What it says.
    pub message: String,
}

/// Writes to the host's log. False when there is no host to write to, as in a plugin's own tests.
pub fn log(level: Level, message: &str) -> bool {
    let Some(host) = HOST.get() else {
        return false;
    };
    let note = LogNote {
        level,
        message: redacted(message),
    };
    Envelope::of(&note).is_ok_and(|envelope| host.emit("log", envelope))
}
