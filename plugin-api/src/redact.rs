//! Keeps keys that were read out of every text that leaves the plugin.

use std::sync::{Mutex, PoisonError};

/// Replaces a key.
const HIDDEN: &str = "[key]";
/// A shorter value is not a key, and hiding it would damage words.
const SHORTEST: usize = 8;

/// Every key that this copy of the crate has handed out.
static KEYS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// From now on, [`redacted`] removes this key. For keys that don't come from the environment.
pub fn hide(key: &str) {
    let mut keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    if key.len() >= SHORTEST && !keys.iter().any(|known| known == key) {
        keys.push(key.to_owned());
        // Longest first, so that a key that begins with another one is hidden completely.
        keys.sort_by_key(|key| std::cmp::Reverse(key.len()));
    }
}

/// The text without keys that this plugin has read. Errors and log lines pass through it on their way to the host.
pub fn redacted(text: &str) -> String {
    let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
    keys.iter()
        .fold(text.to_owned(), |text, key| match text.contains(key.as_str()) {
            true => text.replace(key.as_str(), HIDDEN),
            false => text,
        })
}

/// Whether there is anything to hide.
pub(crate) fn any() -> bool {
    !KEYS.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
}
