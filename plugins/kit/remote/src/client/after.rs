//! Decides what follows a failed attempt: a retry after a pause, the end of one call, or the end of all calls.

use super::{Client, Tried};
use crate::attempt::pause_of;
use crate::classify::{Class, Denied, Fault};
use crate::watch::{Stop, Watch};
use plugin_api::{Code, Error};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

/// This many refusals in a row with the same message end all calls.
const SAME_REFUSALS: u32 = 3;

impl Client {
    pub(super) fn after(
        &self,
        fault: Fault,
        wait: Option<f64>,
        tried: &mut Tried,
        call: &str,
        began: Instant,
        watch: &Watch<'_>,
    ) -> std::result::Result<(), Stop> {
        let Fault { class, message } = fault;
        let host = &self.hosts;
        let service = |words: String| Error::new(Code::SERVICE, words).cause(message.clone());
        let pause = pause_of(tried.failures, self.first_pause, call);
        match class {
            Class::Answered => Ok(()),
            // The pool pauses the address and ends the call when none can be reached for too long.
            Class::NotSent => self.pause(Duration::from_millis(10), watch),
            Class::Busy { .. } | Class::Loading => {
                let wait = Duration::from_secs_f64(wait.unwrap_or(pause.as_secs_f64()).min(1e9));
                let patience = if class == Class::Loading {
                    self.patience.max(self.wait_for_engine)
                } else {
                    self.patience
                };
                if wait > patience || (self.pool.silent_for() > patience && began.elapsed() > patience) {
                    return Err(self.quota(&message));
                }
                // The pool keeps calls from this address until the wait is over.
                self.pool.too_many(tried.place, wait);
                Ok(())
            }
            Class::Quota => Err(self.quota(&message)),
            Class::Denied(why) => Err(self.end(self.denied(why, &message))),
            Class::TooLong => Err(Error::new(
                Code::TOO_LONG,
                format!("the prompt does not fit into the model's context at `{host}`"),
            )
            .cause(message)
            .into()),
            Class::Unknown => {
                let error = Error::new(
                    Code::UNSUPPORTED,
                    format!("`{host}` does not take a part or field of the request"),
                )
                .cause(message);
                Err(self.end(
                    error.help("turn off what the server does not support: `hears=off`, `choices=off` or `stream=off`"),
                ))
            }
            Class::Invalid | Class::Redirect => {
                let words = match class {
                    Class::Redirect => format!("`{host}` redirects the request, which is not followed"),
                    _ => format!("`{host}` refused the request"),
                };
                match self.refused_again(&message) {
                    // No prompt is at fault, so it does not count as a sample's error.
                    true => Err(self.end(
                        Error { code: Code::UNSUPPORTED, ..service(words) }.help(format!(
                            "{SAME_REFUSALS} requests in a row were refused with this message; finished answers are kept, and the same command continues"
                        )),
                    )),
                    false => Err(service(words).into()),
                }
            }
            Class::Again if tried.failures < self.tries => self.pause(pause, watch),
            Class::Again => Err(service(format!("`{host}` failed {} times", tried.failures)).into()),
            Class::Maybe | Class::Garbage => {
                tried.resent += 1;
                if tried.resent <= self.resend {
                    return self.pause(pause, watch);
                }
                let words = match class {
                    Class::Garbage => format!("`{host}` sent a reply that is not an answer"),
                    _ => format!("no answer came from `{host}`, and the call may have been charged"),
                };
                let code = match watch.deadline {
                    Some(deadline) if Instant::now() >= deadline => Code::DEADLINE,
                    _ => Code::SERVICE,
                };
                Err(Error { code, ..service(words) }.into())
            }
        }
    }

    fn quota(&self, message: &str) -> Stop {
        let error = Error::new(Code::RATE_LIMITED, format!("the quota at `{}` is used up", self.hosts))
            .cause(message.to_owned());
        let help = "finished answers are kept, and the same command continues; daily quotas reset at midnight Pacific time, per project and not per key";
        self.end(error.help(help))
    }

    pub(crate) fn denied(&self, why: Denied, message: &str) -> Error {
        let host = &self.hosts;
        let (words, help) = match why {
            Denied::Key => {
                let from = self.key_source().map_or("no key was sent".to_owned(), |source| {
                    format!("the key is from `{source}`")
                });
                (
                    format!("`{host}` does not accept the key"),
                    format!("{from}; check it, or name another with `-M key_env=NAME`"),
                )
            }
            Denied::Credit => (
                format!("the account at `{host}` has no credit left"),
                "add credit and run the command again".to_owned(),
            ),
            Denied::Precondition => (
                format!("`{host}` does not serve this account or region"),
                "enable billing, or use a key of another region".to_owned(),
            ),
            Denied::Model => {
                let names = self
                    .look(0, self.dialect.list_path())
                    .map(|(_, listed, _)| self.dialect.offers(&listed))
                    .unwrap_or_default();
                let help = match names.is_empty() {
                    true => "check `model` and `base_url`".to_owned(),
                    false => format!(
                        "it offers `{}`",
                        names.into_iter().take(20).collect::<Vec<_>>().join("`, `")
                    ),
                };
                (format!("`{host}` does not know this model or address"), help)
            }
        };
        Error::new(Code::MISSING, words).cause(message.to_owned()).help(help)
    }

    fn refused_again(&self, message: &str) -> bool {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        refusals.1 = if refusals.0 == message { refusals.1 + 1 } else { 1 };
        message.clone_into(&mut refusals.0);
        refusals.1 >= SAME_REFUSALS
    }
}
