//! Who waits for an answer, and why there may be none.

use plugin_api::Error;
use std::time::Instant;

/// Whoever waits for an answer.
pub struct Watch<'a> {
    pub deadline: Option<Instant>,
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Takes words as they come; false closes the stream, and what came so far is the answer.
    pub token: &'a mut dyn FnMut(&str) -> bool,
}

/// Why there is no answer, and whether there will be none to any prompt.
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
