//! One call, while it is under way: serves the plugin's callbacks, passes on a wish to stop, and ends the worker when
//! the call's time is over.

use super::frame::{self, Head};
use super::link::{End, Event, Shared};
use plugin_api::{Callbacks, Code, Error, Parcel, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread::Scope;
use std::time::{Duration, Instant};

/// How often a pending call looks whether it should stop.
const GLANCE: Duration = Duration::from_millis(20);
/// The longest that a request for the next job is left waiting in the host. The worker asks again, and a worker's death
/// is noticed meanwhile.
const LONGEST_WAIT_MS: u64 = 100;

/// Serves the callbacks of one call.
pub(super) struct Attendant<'a> {
    pub shared: &'a Shared,
    pub call: u64,
    pub method: &'a str,
    pub host: &'a dyn Callbacks,
    /// Set when the host's own code panicked in a callback.
    pub panicked: AtomicBool,
    pub deadline: Option<(Instant, Duration)>,
}

impl Attendant<'_> {
    pub(super) fn serve<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, '_>,
        events: &Receiver<Event>,
    ) -> Result<Parcel> {
        let mut last_glance = Instant::now();
        let mut cancelled = false;
        loop {
            match events.recv_timeout(GLANCE) {
                Ok(Event::Frame(Head::Done { failed, .. }, parcel)) => {
                    return failed.map_or(Ok(parcel), |failed| Err(failed.into()));
                }
                Ok(Event::Frame(Head::Emit { id, what, .. }, parcel)) => {
                    let go_on = self.guarded(false, |host| host.emit(&what, parcel));
                    self.shared.answer(id, go_on, Ok(Parcel::default()));
                }
                // An answer may take long (another model's reply), and other threads of the plugin may talk to us
                // meanwhile.
                Ok(Event::Frame(Head::Ask { id, what, .. }, parcel)) => {
                    scope.spawn(move || {
                        let failed = || Err(Error::msg(format!("the host panicked while it was asked for `{what}`")));
                        let input = with_short_wait(&what, parcel);
                        let answer = self.guarded(None, |host| Some(host.ask(&what, input)));
                        self.shared.answer(id, true, answer.unwrap_or_else(failed));
                    });
                }
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

    /// Passes on that the call should stop; ends the worker when its time is over.
    fn glance(&self, cancelled: &mut bool) {
        if !*cancelled && self.guarded(true, |host| host.stop_asked()) {
            *cancelled = true;
            if let Ok(bytes) = frame::encode(&Head::Cancel { call: self.call }, &Parcel::default()) {
                self.shared.send(&bytes);
            }
        }
        if let Some((until, time)) = self.deadline
            && Instant::now() >= until
        {
            let (plugin, method) = (&self.shared.plugin, self.method);
            let message = format!("plugin `{plugin}` did not finish `{method}` within {time:?} and was ended");
            let help = "when it needs longer, raise the plugin's `deadline` in the registry";
            self.shared
                .end(End::Killed(Error::new(Code::DEADLINE, message).help(help)));
        }
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

/// Shortens the time that a request for the next job may wait. To hear "later" early is always allowed.
fn with_short_wait(what: &str, mut parcel: Parcel) -> Parcel {
    if what == "job"
        && let Ok(mut request) = parcel.read::<serde_json::Map<String, serde_json::Value>>()
        && request.get("wait_ms").and_then(|ms| ms.as_u64()) > Some(LONGEST_WAIT_MS)
    {
        request.insert("wait_ms".to_owned(), LONGEST_WAIT_MS.into());
        parcel.json = serde_json::Value::Object(request).to_string();
    }
    parcel
}
