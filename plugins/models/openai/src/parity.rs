//! Recordings of a reference, replayed over HTTP.
use crate::model::Inner;
use plugin_api::{Error, Result};
use serde_json::Value;

pub fn trace(_inner: &Inner, _request: &Value) -> Result<Value> {
    Err(Error::unsupported("a server's recordings are not replayed yet"))
}
