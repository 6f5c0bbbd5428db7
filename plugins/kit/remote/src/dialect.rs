//! What a service's own way of writing has to say for the client to speak it.

use crate::price::Tokens;
use serde_json::Value;

/// How a service writes what is the same everywhere.
pub trait Dialect: Send + Sync + 'static {
    /// Part of each call's name.
    fn name(&self) -> &'static str;

    /// The header of the key, and what stands before the key in it.
    fn key_header(&self) -> (&'static str, &'static str);

    /// Reads a reply; none when it is no answer. Blocked and cut answers are answers.
    fn digest(&self, reply: &Value) -> Option<Digest>;

    /// Lays an event of a stream onto what came before, and gives the words that it adds. An error when the event is one.
    fn fold(&self, whole: &mut Value, event: &Value) -> std::result::Result<String, String>;

    /// The names of the models on offer, for the message that a name is unknown.
    fn offers(&self, listed: &Value) -> Vec<String>;

    /// Where the models are listed, from the base address on.
    fn list_path(&self) -> &'static str;
}

/// What a dialect made of a reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Digest {
    /// All that the rest of the dialect needs; the ledger keeps it.
    pub reply: Value,
    pub tokens: Tokens,
    pub model_version: Option<String>,
}
