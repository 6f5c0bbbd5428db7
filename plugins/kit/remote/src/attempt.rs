//! The parts of one attempt of a call: the pause before it, its count, and what its stream sent so far.

use crate::body::lenient;
use crate::canonical::sha256_hex;
use crate::dialect::Dialect;
use crate::secret::{redact, redact_keys};
use serde_json::Value;
use std::time::Duration;

/// The longest pause, unless the service asks for more.
const LONGEST_PAUSE: f64 = 60.0;

/// The pause before another attempt: doubled each time; half of it is fixed, half pseudo-random from the call's name.
pub(crate) fn pause_of(failures: u32, first: Duration, call: &str) -> Duration {
    let doubled = first.as_secs_f64() * 2_f64.powi(failures.saturating_sub(1).min(16) as i32);
    let digest = sha256_hex(format!("{call} {failures}").as_bytes());
    let drawn = u32::from_str_radix(&digest[..8], 16).unwrap_or(0);
    let share = 0.5 + 0.5 * f64::from(drawn) / f64::from(u32::MAX);
    Duration::from_secs_f64(doubled.min(LONGEST_PAUSE) * share)
}

/// Removes keys from an answer that repeats one.
pub(crate) fn clean(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact_keys(&text)),
        Value::Array(items) => items.into_iter().map(clean).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, clean(value))).collect(),
        other => other,
    }
}

/// What a stream sent so far.
#[derive(Debug, Default)]
pub(crate) struct Streamed {
    pub whole: Value,
    pub words: String,
    pub error: Option<String>,
}

impl Streamed {
    /// Takes an event; false at the end of the stream.
    pub fn take(&mut self, dialect: &dyn Dialect, event: &str) -> (bool, String) {
        if event.trim() == "[DONE]" {
            return (false, String::new());
        }
        let Some(event) = lenient(event) else {
            self.error.get_or_insert_with(|| "an event is not JSON".to_owned());
            return (false, String::new());
        };
        match dialect.fold(&mut self.whole, &event) {
            Ok(words) => {
                self.words.push_str(&words);
                (true, words)
            }
            Err(why) => {
                self.error = Some(redact(&why));
                (false, String::new())
            }
        }
    }

    /// The reader has seen enough: what came so far is the answer.
    pub fn close(&mut self) -> bool {
        if let Some(map) = self.whole.as_object_mut() {
            map.insert("closed".to_owned(), true.into());
        }
        false
    }
}
