//! What came of an attempt: an answer, or which fault.

use super::Client;
use crate::attempt::Streamed;
use crate::body::{lenient, shortened};
use crate::classify::{Class, Fault, classify};
use crate::dialect::Digest;
use crate::http::{Body, Got, Lost};
use crate::secret::redact;
use std::sync::PoisonError;

impl Client {
    /// What came, as an answer or as a fault; the pool hears of it.
    #[allow(clippy::type_complexity)]
    pub(super) fn judge(
        &self,
        came: std::result::Result<(Got, Streamed), Lost>,
        place: usize,
        first: bool,
    ) -> (u16, std::result::Result<Digest, (Fault, Option<String>)>, Option<f64>) {
        let fault = |class: Class, message: String| Fault {
            class,
            message: redact(&shortened(&message, 400)),
        };
        let (got, streamed) = match came {
            Ok(came) => came,
            Err(lost) if lost.left => return (0, Err((fault(Class::Maybe, lost.what), None)), None),
            Err(lost) => {
                self.pool.unreachable(place);
                return (0, Err((fault(Class::NotSent, lost.what), None)), None);
            }
        };
        self.pool.reached(place);
        let status = got.status;
        if status != 200 {
            return match &got.body {
                Body::Whole(text) => {
                    let header = |name: &str| got.header(name);
                    let wait = crate::classify::wait_of(&header, text);
                    (status, Err((classify(status, &header, text), None)), wait)
                }
                Body::Cut(why) if status >= 500 => (status, Err((fault(Class::Maybe, why.clone()), None)), None),
                _ => (
                    status,
                    Err((classify(status, &|name| got.header(name), ""), None)),
                    None,
                ),
            };
        }
        let json = |kind: &str| kind == "application/json" || kind.ends_with("+json");
        let outcome = match &got.body {
            Body::Whole(text) => match got.content_type() {
                Some(kind) if !json(&kind) => Err((
                    fault(
                        Class::Garbage,
                        format!("the reply is `{kind}` and no JSON: {}", crate::body::said(text)),
                    ),
                    None,
                )),
                _ => match lenient(text).and_then(|value| self.dialect.digest(&value)) {
                    Some(digest) => Ok(digest),
                    None if text.trim().is_empty() => {
                        Err((fault(Class::Garbage, "the reply is empty".to_owned()), None))
                    }
                    None => Err((
                        fault(
                            Class::Garbage,
                            format!("the reply is no answer: {}", crate::body::said(text)),
                        ),
                        None,
                    )),
                },
            },
            Body::Shown => match (streamed.error, self.dialect.digest(&streamed.whole)) {
                (Some(why), _) => Err((
                    fault(Class::Maybe, format!("the stream ended in an error: {why}")),
                    streamed.words.into(),
                )),
                (None, Some(digest)) => Ok(digest),
                (None, None) => Err((
                    fault(Class::Maybe, "the stream ended before the answer's end".to_owned()),
                    streamed.words.into(),
                )),
            },
            // What was whole before the connection broke is an answer all the same.
            Body::Cut(why) => match self.dialect.digest(&streamed.whole) {
                Some(digest) if streamed.error.is_none() => Ok(digest),
                _ => Err((fault(Class::Maybe, why.clone()), streamed.words.into())),
            },
            Body::TooLong => Err((fault(Class::Garbage, "the reply is longer than 8 MiB".to_owned()), None)),
        };
        if outcome.is_ok() {
            self.pool.success(place, first);
            *self.refusals.lock().unwrap_or_else(PoisonError::into_inner) = Default::default();
        }
        (status, outcome, None)
    }
}
