//! One call in progress: serves the plugin's callbacks, passes on a request to stop, and kills the worker when the
//! call's time is over.

use super::flow_control::TAKEN_AT_ONCE;
use super::frame::Head;
use super::shared::{End, Event, Shared};
use plugin_api::{Callbacks, Code, Envelope, Error, Result};
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// How often a pending call checks whether it should stop.
const GLANCE: Duration = Duration::from_millis(20);
/// Serves the callbacks of one call.
pub(super) struct HostCall<'a> {
    pub shared: &'a Shared,
    pub call: u64,
    pub method: &'a str,
    pub host: &'a dyn Callbacks,
    /// Set when the host's own code panicked in a callback.
    pub panicked: AtomicBool,
    pub deadline: Option<(Instant, Duration)>,
}

impl HostCall<'_> {
    pub(super) fn serve<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        events: &Receiver<Event>,
    ) -> Result<Envelope> {
        let mut last_glance = Instant::now();
        let mut cancelled = false;
        let mut taken = 0;
        let mut refused = HashSet::new();
        loop {
            match events.recv_timeout(GLANCE) {
                Ok(Event::Frame(Head::Done { failed, .. }, envelope)) => {
                    return failed.map_or(Ok(envelope), |failed| Err(failed.into()));
                }
                Ok(Event::Frame(Head::Emit { what, .. }, note)) => {
                    taken += 1;
                    if taken % TAKEN_AT_ONCE == 0 {
                        let count = TAKEN_AT_ONCE;
                        self.shared.say(&Head::Taken { call: self.call, count });
                    }
                    let goes_on = self.guarded(false, |host| host.emit(&what, note));
                    if !goes_on && refused.insert(what.clone()) {
                        self.shared.say(&Head::Refused { call: self.call, what });
                    }
                }
                // An answer may take long (another model's reply), and other threads of the plugin may talk to us
                // meanwhile. An answer that is ready needs no thread to wait for it.
                Ok(Event::Frame(Head::Ask { id, what, .. }, input)) => match self.ask_now(&what, &input) {
                    Some(answer) => self.shared.answer(id, answer),
                    None => {
                        scope.spawn(move || self.shared.answer(id, self.ask(&what, input)));
                    }
                },
                Ok(Event::Frame(..)) | Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Over(end)) => return Err(self.shared.error(&end, self.method)),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::new(
                        Code::DIED,
                        format!("plugin `{}` is gone", self.shared.plugin),
                    ));
                }
            }
            if last_glance.elapsed() >= GLANCE {
                last_glance = Instant::now();
                self.glance(&mut cancelled);
            }
        }
    }

    /// Passes on that the call should stop; kills the worker when its time is over.
    fn glance(&self, cancelled: &mut bool) {
        if !*cancelled && self.guarded(true, |host| host.stop_asked()) {
            *cancelled = true;
            self.shared.say(&Head::Cancel { call: self.call });
        }
        if let Some((until, time)) = self.deadline
            && Instant::now() >= until
        {
            let (plugin, method) = (&self.shared.plugin, self.method);
            let message = format!("plugin `{plugin}` did not finish `{method}` within {time:?} and was killed");
            let help = "if it needs longer, raise the plugin's `deadline` in the registry";
            self.shared
                .end(End::Killed(Error::new(Code::DEADLINE, message).help(help)));
        }
    }

    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        let failed = || Err(Error::msg(format!("the host panicked while it was asked for `{what}`")));
        let answer = self.guarded(None, |host| Some(host.ask(what, input)));
        answer.unwrap_or_else(failed)
    }

    fn ask_now(&self, what: &str, input: &Envelope) -> Option<Result<Envelope>> {
        let panicked = Some(Err(Error::msg(format!(
            "the host panicked while it was asked for `{what}`"
        ))));
        self.guarded(panicked, |host| host.ask_now(what, input))
    }

    /// A panic of the host's own code becomes this call's error, as it does for a plugin in this process.
    fn guarded<T>(&self, otherwise: T, work: impl FnOnce(&dyn Callbacks) -> T) -> T {
        catch_unwind(AssertUnwindSafe(|| work(self.host))).unwrap_or_else(|payload| {
            std::mem::forget(payload);
            self.panicked.store(true, Ordering::Release);
            otherwise
        })
    }
}
