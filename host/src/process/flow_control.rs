//! Messages that a call in a worker sends without waiting for an answer: pieces of answers, whole answers, progress.
//!
//! The host's answer to each of them is nearly always "go on", so it is sent only if it is "stop", and the next message
//! of that name gets it. The number of messages under way is bounded: a plugin that sends faster than the host receives
//! has to wait.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// How many messages of a call may be under way.
const MOST: u64 = 64;
/// The host acknowledges messages each time it has received this many.
pub(super) const TAKEN_AT_ONCE: u64 = 16;

/// One call's side of it, in the worker.
#[derive(Default)]
pub(super) struct FlowControl {
    /// The call should end.
    pub stop: AtomicBool,
    any_refused: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sent: u64,
    taken: u64,
    over: bool,
    /// Names of messages that the host no longer wants.
    refused: HashSet<String>,
}

impl FlowControl {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more message under way, after waiting until there is room. False if the call is over.
    pub fn wait_for_room(&self) -> bool {
        let full = |state: &mut State| !state.over && state.sent - state.taken >= MOST;
        let waited = self.changed.wait_while(self.lock(), full);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        state.sent += 1;
        !state.over
    }

    pub fn taken(&self, count: u64) {
        let mut state = self.lock();
        state.taken = (state.taken + count).min(state.sent);
        self.changed.notify_all();
    }

    pub fn refuse(&self, name: String) {
        self.lock().refused.insert(name);
        self.any_refused.store(true, Ordering::Release);
    }

    pub fn has_refused(&self, name: &str) -> bool {
        self.any_refused.load(Ordering::Acquire) && self.lock().refused.contains(name)
    }

    /// Ends the call: a thread that the plugin left behind can't send any more.
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
    fn a_plugin_that_sends_faster_than_its_host_takes_waits() {
        let flow = Arc::new(FlowControl::default());
        for _ in 0..MOST {
            assert!(flow.wait_for_room());
        }
        let waiting = flow.clone();
        let thread = std::thread::spawn(move || waiting.wait_for_room());
        std::thread::sleep(Duration::from_millis(20));
        assert!(!thread.is_finished());
        flow.taken(TAKEN_AT_ONCE);
        assert!(thread.join().unwrap());
        flow.end();
        assert!(!flow.wait_for_room());
    }

    #[test]
    fn a_refusal_is_of_one_name() {
        let flow = FlowControl::default();
        assert!(!flow.has_refused("token:7"));
        flow.refuse("token:7".to_owned());
        assert!(flow.has_refused("token:7"));
        assert!(!flow.has_refused("token:8"));
        assert!(!flow.has_refused("token"));
    }
}
