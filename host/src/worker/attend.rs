//! One call, while it is under way: serves the plugin's callbacks, passes on a wish to stop, and ends the worker when
//! the call's time is over.

use super::frame::{self, Head};
use super::link::{End, Event, Shared};
use super::telling::{TAKEN_AT_ONCE, job_of};
use plugin_api::{Callbacks, Code, Error, Parcel, Result};
use serde::Deserialize;
use serde::de::IgnoredAny;
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
        let mut told = 0;
        loop {
            match events.recv_timeout(GLANCE) {
                Ok(Event::Frame(Head::Done { failed, .. }, parcel)) => {
                    return failed.map_or(Ok(parcel), |failed| Err(failed.into()));
                }
                Ok(Event::Frame(Head::Emit { id, what, .. }, parcel)) => {
                    let go_on = self.guarded(false, |host| host.emit(&what, parcel));
                    self.shared.answer(id, go_on, Ok(Parcel::default()));
                }
                Ok(Event::Frame(Head::Tell { what, .. }, parcel)) => {
                    told += 1;
                    if told % TAKEN_AT_ONCE == 0 {
                        let count = TAKEN_AT_ONCE;
                        self.say(&Head::Taken { call: self.call, count });
                    }
                    let token = (what == "token").then(|| parcel.json.clone());
                    if !self.guarded(false, |host| host.emit(&what, parcel)) {
                        let call = self.call;
                        self.say(&match token {
                            Some(note) => Head::Refused {
                                call,
                                job: job_of(&note),
                            },
                            None => Head::Cancel { call },
                        });
                    }
                }
                // A job that is there needs no thread that waits for it.
                Ok(Event::Frame(Head::Ask { id, what, .. }, parcel)) if what == "job" => {
                    let answer = self.ask(&what, with_wait(&parcel, Some(0)));
                    if is_later(&answer) && !wants_no_wait(&parcel) {
                        scope.spawn(move || {
                            let answer = self.ask(&what, with_wait(&parcel, None));
                            self.shared.answer(id, true, answer);
                        });
                    } else {
                        self.shared.answer(id, true, answer);
                    }
                }
                // An answer may take long (another model's reply), and other threads of the plugin may talk to us
                // meanwhile.
                Ok(Event::Frame(Head::Ask { id, what, .. }, parcel)) => {
                    scope.spawn(move || self.shared.answer(id, true, self.ask(&what, parcel)));
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
            self.say(&Head::Cancel { call: self.call });
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

    fn say(&self, head: &Head) {
        if let Ok(bytes) = frame::encode(head, &Parcel::default()) {
            self.shared.send(&bytes);
        }
    }

    fn ask(&self, what: &str, input: Parcel) -> Result<Parcel> {
        let failed = || Err(Error::msg(format!("the host panicked while it was asked for `{what}`")));
        let answer = self.guarded(None, |host| Some(host.ask(what, input)));
        answer.unwrap_or_else(failed)
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

/// How long a request for the next job would wait.
fn wait_of(request: &Parcel) -> u64 {
    #[derive(Deserialize)]
    struct Request {
        #[serde(default)]
        wait_ms: u64,
    }
    request.read::<Request>().map_or(0, |request| request.wait_ms)
}

fn wants_no_wait(request: &Parcel) -> bool {
    wait_of(request) == 0
}

/// A request for the next job that waits so long, or as long as it wants and may. To hear "later" early is always allowed.
fn with_wait(request: &Parcel, wait_ms: Option<u64>) -> Parcel {
    let wait_ms = wait_ms.unwrap_or_else(|| wait_of(request).min(LONGEST_WAIT_MS));
    let mut request: serde_json::Map<String, serde_json::Value> = request.read().unwrap_or_default();
    request.insert("wait_ms".to_owned(), wait_ms.into());
    Parcel {
        json: serde_json::Value::Object(request).to_string(),
        ..Parcel::default()
    }
}

/// True for the answer that there is no job at this moment.
fn is_later(answer: &Result<Parcel>) -> bool {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        end: bool,
        #[serde(default)]
        job: Option<IgnoredAny>,
    }
    let read = answer.as_ref().ok().and_then(|answer| answer.read::<Answer>().ok());
    read.is_some_and(|answer| !answer.end && answer.job.is_none())
}
