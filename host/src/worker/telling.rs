//! What a call in a worker tells its host without waiting for an answer: pieces of answers, whole answers, progress.
//!
//! The host's answer to each of these is "go on" but for once, so it comes only when it is another one, and the next
//! thing that the plugin tells hears of it. What is under way is bounded: a plugin that tells faster than its host takes
//! waits.

use plugin_api::Parcel;
use serde::Deserialize;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What is told. Anything else that a plugin emits is answered before it goes on.
pub(super) const TOLD: [&str; 3] = ["token", "reply", "progress"];
/// So much may be under way in a call.
const MOST: u64 = 64;
/// After so many the host says that they were taken.
pub(super) const TAKEN_AT_ONCE: u64 = 16;

/// The job that a note is about, if it is about one.
pub(super) fn job_of(json: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Note {
        #[serde(default)]
        job: Option<u64>,
    }
    serde_json::from_str::<Note>(json).ok()?.job
}

/// One call's side of it, in the worker.
#[derive(Default)]
pub(super) struct Telling {
    /// The call should come to an end.
    pub stop: AtomicBool,
    any_refused: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    told: u64,
    taken: u64,
    over: bool,
    /// Jobs of whose answers no more is wanted.
    refused: HashSet<Option<u64>>,
}

impl Telling {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more under way, waiting until it may be. False when the call is over.
    pub fn wait_for_room(&self) -> bool {
        let full = |state: &mut State| !state.over && state.told - state.taken >= MOST;
        let waited = self.changed.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.told += 1;
        !state.over
    }

    pub fn taken(&self, count: u64) {
        let mut state = self.lock();
        state.taken = (state.taken + count).min(state.told);
        self.changed.notify_all();
    }

    pub fn refuse(&self, job: Option<u64>) {
        self.lock().refused.insert(job);
        self.any_refused.store(true, Ordering::Release);
    }

    pub fn has_refused(&self, note: &Parcel) -> bool {
        self.any_refused.load(Ordering::Acquire) && self.lock().refused.contains(&job_of(&note.json))
    }

    /// The call is over: a thread that the plugin left behind has nobody to tell.
    pub fn end(&self) {
        self.lock().over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::time::Duration;

    #[test]
    fn a_plugin_that_tells_faster_than_its_host_takes_waits() {
        let telling = Arc::new(Telling::default());
        for _ in 0..MOST {
            assert!(telling.wait_for_room());
        }
        let waiting = telling.clone();
        let thread = std::thread::spawn(move || waiting.wait_for_room());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished());
        telling.taken(TAKEN_AT_ONCE);
        assert!(thread.join().unwrap());
        telling.end();
        assert!(!telling.wait_for_room());
    }

    #[test]
    fn a_refusal_is_of_one_job() {
        let telling = Telling::default();
        let note = |json: &str| Parcel {
            json: json.to_owned(),
            ..Parcel::default()
        };
        assert!(!telling.has_refused(&note("{\"job\":7,\"text\":\"a\"}")));
        telling.refuse(Some(7));
        assert!(telling.has_refused(&note("{\"job\":7,\"text\":\"a\"}")));
        assert!(!telling.has_refused(&note("{\"job\":8,\"text\":\"a\"}")));
        assert!(!telling.has_refused(&note("{\"job\":null,\"text\":\"a\"}")));
    }
}
