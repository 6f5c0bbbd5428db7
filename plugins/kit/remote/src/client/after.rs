//! What follows on a fault: another attempt after a pause, the end of this call, or the end of all; and what may be spent.

use super::Client;
use crate::asking::{Question, Stop, Watch};
use crate::attempt::pause_of;
use crate::budget::Budget;
use crate::classify::{Class, Denied, Fault};
use plugin_api::{Code, Error};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// So many refusals in a row with the same words end the work.
const SAME_REFUSALS: u32 = 3;

/// What went before in a call.
#[derive(Debug, Default)]
pub(super) struct Tried {
    pub failures: u32,
    pub resent: u32,
    pub place: usize,
}

impl Client {
    /// What a fault leads to: another attempt after a pause, the end of this call, or the end of all.
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
            // The pool rests the address, and knows when patience with all of them is over.
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
                // The pool keeps every call from this address until the wait is over.
                self.pool.too_many(tried.place, wait);
                Ok(())
            }
            Class::Quota => Err(self.quota(&message)),
            Class::Denied(why) => Err(self.end(self.denied(why, &message))),
            Class::TooLong => Err(Error::new(
                Code::TOO_LONG,
                format!("the prompt doesn't fit into the model's context at `{host}`"),
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
                    error.help("say what the server can't do, as with `hears=off`, `choices=off` or `stream=off`"),
                ))
            }
            Class::Invalid | Class::Redirect => {
                let words = match class {
                    Class::Redirect => format!("`{host}` sends the request elsewhere, which is not followed"),
                    _ => format!("`{host}` refused the request"),
                };
                match self.refused_again(&message) {
                    // No prompt is to blame, so this is no fault of a sample.
                    true => Err(self.end(
                        Error { code: Code::UNSUPPORTED, ..service(words) }.help(format!(
                            "{SAME_REFUSALS} requests in a row were refused with these words; what was answered is kept, and the same command goes on"
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
                    Class::Garbage => format!("`{host}` answered what is no answer"),
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
        let help = "everything finished is kept and the same command goes on; daily quotas reset at midnight Pacific time, per project and not per key";
        self.end(error.help(help))
    }

    pub(crate) fn denied(&self, why: Denied, message: &str) -> Error {
        let host = &self.hosts;
        let (words, help) = match why {
            Denied::Key => {
                let from = self.key_source().map_or("no key was sent".to_owned(), |source| {
                    format!("the key is that of `{source}`")
                });
                (
                    format!("`{host}` does not accept the key"),
                    format!("{from}; check it, or name another with `-M key_env=NAME`"),
                )
            }
            Denied::Credit => (
                format!("the account at `{host}` has no credit left"),
                "add credit and repeat the command".to_owned(),
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

    pub(super) fn pause(&self, time: Duration, watch: &Watch<'_>) -> std::result::Result<(), Stop> {
        let until = Instant::now() + time;
        loop {
            self.check(watch)?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Sets aside what a call can cost at most. Waits for calls under way, which may turn out cheaper.
    pub(super) fn reserve(
        &self,
        most: Option<f64>,
        question: &Question,
        watch: &Watch<'_>,
    ) -> std::result::Result<Option<(Arc<Budget>, f64)>, Stop> {
        let Some((budget, unpriced)) = self.budget.read().unwrap_or_else(PoisonError::into_inner).clone() else {
            return Ok(None);
        };
        let Some(most) = most else {
            if unpriced {
                return Ok(None);
            }
            let error = Error::new(
                Code::SETTINGS,
                format!("model `{}` has no price, and spending is limited", question.model),
            );
            return Err(self.end(
                error.help("give its price in a file with `-M prices=FILE`, or let it pass with `--allow-unpriced`"),
            ));
        };
        loop {
            if budget.reserve(most).map_err(|error| self.end(error))? {
                return Ok(Some((budget, most)));
            }
            if self.under_way.load(Ordering::SeqCst) == 0 {
                let error = Error::new(
                    Code::RATE_LIMITED,
                    format!(
                        "the next call may cost {most:.6} dollars, more than is left of {} dollars",
                        budget.most()
                    ),
                );
                return Err(self.end(
                    error.help("everything finished is kept; raise `--max-cost-usd` and the same command goes on"),
                ));
            }
            self.pause(Duration::from_millis(20), watch)?;
        }
    }

    pub(super) fn settle(&self, reserved: Option<(Arc<Budget>, f64)>, spent: f64) {
        // A sum that can't be given back leaves less to spend, never more.
        let _ = reserved.map(|(budget, most)| budget.add(spent - most));
    }
}
