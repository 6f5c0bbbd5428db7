//! What a plugin can ask of its host and say to it, as layer 1 carries it.

use super::Envelope;
use crate::{Error, Result};

/// The host's side of a call, as layer 1 carries it. Authors use [`crate::Call`], [`crate::Jobs`] and [`crate::Lessons`] instead.
pub trait Callbacks: Send + Sync {
    /// Asks the host for something and waits for it: the next job, a lesson, an answer of another model. What is asked for may
    /// have a subject behind a colon: `generate:judge`.
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope>;

    /// Tells the host something. False asks the plugin to stop what the message was about: all of what has this name, such as
    /// the tokens of one job, `token:7`. A plugin in a process of its own may hear of it some messages later.
    fn emit(&self, what: &str, note: Envelope) -> bool;

    /// True when the plugin should come to an end.
    fn stop_asked(&self) -> bool;

    /// The answer of [`Callbacks::ask`], when it needs no waiting for. For hosts: a transport asks this first, and gives a
    /// question that has to wait a thread of its own.
    fn ask_now(&self, _what: &str, _input: &Envelope) -> Option<Result<Envelope>> {
        None
    }

    /// True when the call lasts as long as there is work, so that no deadline of a single call holds for it. For hosts.
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

/// Callbacks that know no answer and never ask to stop: for tests, and for calls that need none.
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
