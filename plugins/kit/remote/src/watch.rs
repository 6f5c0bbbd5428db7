//! The caller that waits for an answer, and the reasons for stopping.

use plugin_api::Error;
use std::time::Instant;

/// The caller that waits for an answer.
pub struct Watch<'a> {
    pub deadline: Option<Instant>,
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Gets text as it comes; false closes the stream, and what came so far is the answer.
    pub token: &'a mut dyn FnMut(&str) -> bool,
}

/// Why there is no answer, and whether this ends all prompts.
#[derive(Debug, Clone)]
pub struct Stop {
    pub error: Error,
    pub ends: bool,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop { error, ends: false }
    }
}
