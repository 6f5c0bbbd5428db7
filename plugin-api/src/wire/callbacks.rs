//! What a plugin can ask of its host and report to it, as layer 1 carries it.

use super::Envelope;
use crate::{Error, Result};

/// The host's side of a call, as layer 1 carries it. Authors use [`crate::Call`], [`crate::Jobs`] and
/// [`crate::Lessons`] instead.
pub trait Callbacks: Send + Sync {
    /// Asks the host for something and waits for it: the next job, a lesson, an answer of another model. `what` may
    /// have a subject after a colon: `generate:judge`.
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope>;

    /// Tells the host something. False asks the plugin to stop sending messages of this name, such as `token:7`, the
    /// tokens of one job. A plugin in its own process may learn of it some messages later.
    fn emit(&self, what: &str, note: Envelope) -> bool;

    /// True when the plugin should end.
    fn stop_asked(&self) -> bool;

    /// The answer of [`Callbacks::ask`], if it is available without waiting. For hosts: a transport tries this first,
    /// and uses a thread for questions that have to wait.
    fn ask_now(&self, _what: &str, _input: &Envelope) -> Option<Result<Envelope>> {
        None
    }

    /// True if the call lasts as long as there is work, so that no deadline of a single call applies. For hosts.
    fn lasts(&self) -> bool {
        false
    }
}

/// The name of a message about one subject.
pub(crate) fn named(what: &str, subject: Option<u64>) -> String {
    subject.map_or_else(|| what.to_owned(), |subject| format!("{what}:{subject}"))
}

/// A name without its subject.
#[cfg(feature = "host")]
pub(crate) fn verb(name: &str) -> &str {
    name.split(':').next().unwrap_or(name)
}

/// Callbacks that answer nothing and never ask to stop, for tests and for calls without questions.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoCallbacks;

impl Callbacks for NoCallbacks {
    fn ask(&self, what: &str, _input: Envelope) -> Result<Envelope> {
        Err(Error::unsupported(format!("this host doesn't answer `{what}`")))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}
