//! A question, whoever waits for its answer, the answer, and why there may be none.

use crate::price::Tokens;
use plugin_api::Error;
use serde_json::Value;
use std::time::{Duration, Instant};

/// What is asked of a service.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the base address on.
    pub path: String,
    /// True when the path begins beside `/v1` and not below it.
    pub root: bool,
    pub model: String,
    pub body: Value,
    pub repeat: u64,
    /// The beginning that prompts share, so that they meet the same server's cache.
    pub beginning: String,
    /// The most tokens that can be read and written, for the spending limit.
    pub most_read: u64,
    pub most_written: u64,
}

/// Whoever waits for an answer.
pub struct Watch<'a> {
    pub deadline: Option<Instant>,
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Takes words as they come; false closes the stream, and what came so far is the answer.
    pub token: &'a mut dyn FnMut(&str) -> bool,
}

/// An answer, fresh or of the ledger.
#[derive(Debug, Clone)]
pub struct Answer {
    pub reply: Value,
    pub tokens: Tokens,
    pub model_version: Option<String>,
    pub dollars: Option<f64>,
    pub call: String,
    pub attempt: u32,
    pub from_ledger: bool,
    pub latency: Duration,
    pub first_token: Option<Duration>,
    /// Where it came from; none when it is of the ledger.
    pub address: Option<usize>,
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
