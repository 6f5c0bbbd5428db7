//! The differences between services that the client needs to know.

use crate::price::Tokens;
use serde_json::Value;

/// How a service encodes requests and replies.
pub trait Dialect: Send + Sync + 'static {
    /// Part of each call's key.
    fn name(&self) -> &'static str;

    /// The header of the key, and the prefix of its value.
    fn key_header(&self) -> (&'static str, &'static str);

    /// Reads a reply; none if it is not an answer. Blocked and cut answers are answers.
    fn digest(&self, reply: &Value) -> Option<Digest>;

    /// Merges an event of a stream into `whole` and returns the text that it adds. An error if the event reports one.
    fn fold(&self, whole: &mut Value, event: &Value) -> std::result::Result<String, String>;

    /// The names of the available models, for the error about an unknown name.
    fn offers(&self, listed: &Value) -> Vec<String>;

    /// The path of the list of models, after the base address.
    fn list_path(&self) -> &'static str;
}

/// A parsed reply.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Digest {
    /// The part that the dialect needs later; the ledger stores it.
    pub reply: Value,
    pub tokens: Tokens,
    pub model_version: Option<String>,
}
