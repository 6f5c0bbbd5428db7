//! Sends a request to a service and handles every outcome, so that an answer is paid for once.

mod after;
mod look;

use crate::attempt::{Streamed, clean};
use crate::body::{lenient, shortened};
use crate::canonical::call_key;
use crate::classify::{Class, Fault, classify};
use crate::dialect::{Dialect, Digest};
use crate::events::Events;
use crate::http::{Body, Got, Http, Lost, Sent};
use crate::ledger::{GotLine, Ledger};
use crate::options::Common;
use crate::pool::{NoSlot, Pool, Slot};
use crate::price::{Price, Prices, Tokens};
use crate::secret::{Secret, redact, redact_keys};
use crate::spending::{Reservation, Spending};
use crate::watch::{Stop, Watch};
use plugin_api::{Code, Error};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A request to a service.
#[derive(Debug, Clone)]
pub struct Question {
    /// The path after the base address.
    pub path: String,
    /// Whether the path is beside `/v1` instead of below it.
    pub root: bool,
    pub model: String,
    pub body: Value,
    pub repeat: u64,
    /// The beginning that prompts share; prompts with the same one go to the same server, for its cache.
    pub beginning: String,
    /// Upper bounds on the tokens that are read and written, for the spending limit.
    pub most_read: u64,
    pub most_written: u64,
}

/// An answer, new or from the ledger.
#[derive(Debug, Clone)]
pub struct Answer {
    pub reply: Value,
    pub tokens: Tokens,
    pub model_version: Option<String>,
    pub dollars: Option<f64>,
    pub call: String,
    pub attempt: u32,
    pub from_ledger: bool,
    pub latency: Duration,
    pub first_token: Option<Duration>,
    /// The address that sent it; none if it is from the ledger.
    pub address: Option<usize>,
}

/// The client of one model of one service.
pub struct Client {
    pub dialect: Box<dyn Dialect>,
    http: Http,
    pool: Pool,
    key: Option<Secret>,
    prices: Prices,
    tries: u32,
    resend: u32,
    patience: Duration,
    first_pause: Duration,
    wait_for_engine: Duration,
    hosts: String,
    ledger: RwLock<Option<Arc<Ledger>>>,
    spending: Spending,
    /// Why no more requests are sent.
    over: Mutex<Option<Stop>>,
    refusals: Mutex<(String, u32)>,
    /// The keys of calls in progress, so that two threads with the same request pay once.
    asked: Mutex<HashSet<String>>,
    answered: Condvar,
}

impl Client {
    pub fn new(dialect: Box<dyn Dialect>, common: Common) -> Client {
        let (most, rate) = (common.spread.max as usize, common.rate());
        let loopback = common.addresses.iter().all(|address| address.loopback);
        let mut hosts: Vec<&str> = common.addresses.iter().map(|address| address.host.as_str()).collect();
        hosts.sort_unstable();
        Client {
            hosts: hosts.join(","),
            http: Http::new(common.times, most, loopback),
            pool: Pool::new(common.addresses, common.spread, rate, common.first_pause),
            dialect,
            key: common.key,
            prices: common.prices,
            tries: common.tries,
            resend: common.resend,
            patience: common.patience,
            first_pause: common.first_pause,
            wait_for_engine: common.wait_for_engine,
            ledger: RwLock::default(),
            spending: Spending::default(),
            over: Mutex::default(),
            refusals: Mutex::default(),
            asked: Mutex::default(),
            answered: Condvar::new(),
        }
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn hosts(&self) -> &str {
        &self.hosts
    }

    pub fn prices(&self) -> &Prices {
        &self.prices
    }

    /// Where the key came from, for records.
    pub fn key_source(&self) -> Option<&str> {
        self.key.as_ref().map(|key| key.source.as_str())
    }

    pub fn set_ledger(&self, ledger: Ledger) {
        *self.ledger.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(ledger));
    }

    pub fn ledger(&self) -> Option<Arc<Ledger>> {
        self.ledger.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Why no more requests are sent, if so.
    pub fn over(&self) -> Option<Stop> {
        self.over.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn end(&self, error: Error) -> Stop {
        let stop = Stop { error, ends: true };
        self.over
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(stop)
            .clone()
    }

    fn url(&self, place: usize, path: &str, root: bool) -> String {
        let base = self.pool.addresses()[place].base.as_str();
        let base = if root {
            base.strip_suffix("/v1").unwrap_or(base)
        } else {
            base
        };
        format!("{base}{path}")
    }

    fn sent<'a>(
        &'a self,
        url: &'a str,
        body: Option<&'a str>,
        request_id: &'a str,
        until: Option<Instant>,
    ) -> Sent<'a> {
        let (name, before) = self.dialect.key_header();
        Sent {
            url,
            key: self.key.as_ref().map(|key| (name, before, key)),
            request_id,
            body,
            until,
        }
    }

    /// Asks a question. An answer in the ledger is used; otherwise the service is asked until it answers or cannot.
    pub fn ask(&self, question: &Question, watch: &mut Watch<'_>) -> std::result::Result<Answer, Stop> {
        let call = call_key(
            self.dialect.name(),
            &self.hosts,
            &question.model,
            &question.body,
            question.repeat,
        );
        let ledger = self.ledger();
        let _asking = self.alone(&call, watch)?;
        if let Some(known) = ledger.as_ref().and_then(|ledger| ledger.known(&call)) {
            return Ok(Answer {
                reply: known.reply,
                tokens: known.usage.unwrap_or_default(),
                model_version: known.model_version,
                dollars: known.dollars,
                call,
                attempt: known.attempt,
                from_ledger: true,
                latency: Duration::from_millis(known.latency_ms),
                first_token: None,
                address: None,
            });
        }
        let body = question.body.to_string();
        let mut tried = Tried::default();
        let began = Instant::now();
        loop {
            self.check(watch)?;
            let slot = self.slot(question, watch)?;
            self.check(watch)?;
            let (fault, wait) = match self.attempt(
                &call,
                question,
                &body,
                &slot,
                ledger.as_deref(),
                tried.failures == 0,
                watch,
            )? {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            tried.failures += 1;
            tried.place = slot.place;
            drop(slot);
            self.after(fault, wait, &mut tried, &call, began, watch)?;
        }
    }

    /// Waits until no other thread asks the same.
    fn alone<'a>(&'a self, call: &str, watch: &Watch<'_>) -> std::result::Result<Asking<'a>, Stop> {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        while !asked.insert(call.to_owned()) {
            asked = self
                .answered
                .wait_timeout(asked, Duration::from_millis(50))
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            self.check(watch)?;
        }
        Ok(Asking {
            client: self,
            call: call.to_owned(),
        })
    }

    fn check(&self, watch: &Watch<'_>) -> std::result::Result<(), Stop> {
        if let Some(over) = self.over() {
            return Err(over);
        }
        if watch.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(Error::new(Code::DEADLINE, "the time allowed for this answer is over").into());
        }
        match (watch.stop)() {
            true => Err(Error::new(Code::CANCELLED, "stopped because the host asked for it").into()),
            false => Ok(()),
        }
    }

    fn slot(&self, question: &Question, watch: &Watch<'_>) -> std::result::Result<Slot<'_>, Stop> {
        let stop = || self.check(watch).is_err();
        match self
            .pool
            .enter(&question.beginning, question.most_read as f64, self.patience, &stop)
        {
            Ok(slot) => Ok(slot),
            Err(NoSlot::Stopped) => Err(self
                .check(watch)
                .err()
                .unwrap_or_else(|| Error::new(Code::CANCELLED, "stopped").into())),
            Err(NoSlot::AllDown) => {
                let error = Error::new(Code::RATE_LIMITED, format!("can no longer reach `{}`", self.hosts));
                Err(self
                    .end(error.help("finished answers are kept; run the same command again when the service is back")))
            }
        }
    }

    /// One attempt: the answer, or the fault and the wait that the service asks for.
    #[allow(clippy::too_many_arguments)] // all parameters of an attempt; a struct of them would be used once
    fn attempt(
        &self,
        call: &str,
        question: &Question,
        body: &str,
        slot: &Slot<'_>,
        ledger: Option<&Ledger>,
        first: bool,
        watch: &mut Watch<'_>,
    ) -> std::result::Result<std::result::Result<Answer, (Fault, Option<f64>)>, Stop> {
        let price = self.prices.on(&question.model, &crate::date::today());
        let most = price.map(|price| price.most(question.most_read, question.most_written));
        let reserved = self.reserve(most, question, watch)?;
        let attempt = match ledger {
            Some(ledger) => ledger
                .sent(call, &question.model, most)
                .map_err(|error| self.end(error))?,
            None => 1,
        };
        let url = self.url(slot.place, &question.path, question.root);
        let began = Instant::now();
        let (came, first_token) = self.exchange(&url, body, &call[..32], watch);
        let latency = began.elapsed();
        let (status, outcome, wait) = self.judge(came, slot.place, first);
        let mut line = GotLine {
            call: call.to_owned(),
            attempt,
            status,
            latency_ms: u64::try_from(latency.as_millis()).unwrap_or(u64::MAX),
            ..GotLine::default()
        };
        let result = match outcome {
            Ok(digest) => {
                line.class = Class::Answered.word().to_owned();
                line.dollars = price.map(|price| price.dollars(&digest.tokens));
                line.price = price.map(Price::in_words);
                line.usage = Some(digest.tokens);
                line.model_version.clone_from(&digest.model_version);
                line.reply = clean(digest.reply);
                Ok(())
            }
            Err((fault, partial)) => {
                line.class = fault.class.word().to_owned();
                line.error = Some(fault.message.clone());
                line.maybe_dollars = most.filter(|_| fault.class.may_be_charged());
                line.reply = partial.map_or(Value::Null, |text| serde_json::json!({ "partial": redact_keys(&text) }));
                Err(fault)
            }
        };
        if let Some(ledger) = ledger {
            ledger.got(&line).map_err(|error| self.end(error))?;
        }
        reserved.settle(line.dollars.or(line.maybe_dollars).unwrap_or(0.0));
        Ok(result.map_err(|fault| (fault, wait)).map(|()| Answer {
            reply: line.reply,
            tokens: line.usage.unwrap_or_default(),
            model_version: line.model_version,
            dollars: line.dollars,
            call: call.to_owned(),
            attempt,
            from_ledger: false,
            latency,
            first_token,
            address: Some(slot.place),
        }))
    }

    /// Sends the body and collects the reply, also from a stream.
    fn exchange(
        &self,
        url: &str,
        body: &str,
        request_id: &str,
        watch: &mut Watch<'_>,
    ) -> (std::result::Result<(Got, Streamed), Lost>, Option<Duration>) {
        let (mut events, mut streamed) = (Events::default(), Streamed::default());
        let (began, mut first_token) = (Instant::now(), None);
        let (stop, token) = (watch.stop, &mut *watch.token);
        let mut show = |bytes: &[u8]| {
            let more = events.push(bytes).iter().all(|event| {
                let (go_on, words) = streamed.take(self.dialect.as_ref(), event);
                if !words.is_empty() {
                    first_token.get_or_insert_with(|| began.elapsed());
                }
                go_on && (words.is_empty() || token(&words) || streamed.close())
            });
            more && !stop()
        };
        let got = self
            .http
            .send(self.sent(url, Some(body), request_id, watch.deadline), &mut show);
        if let Some(event) = events.end() {
            streamed.take(self.dialect.as_ref(), &event);
        }
        (got.map(|got| (got, streamed)), first_token)
    }

    /// The reply as an answer or a fault, which is also reported to the pool.
    #[allow(clippy::type_complexity)]
    fn judge(
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
        if !(200..300).contains(&status) {
            return match &got.body {
                Body::Whole(text) => {
                    let header = |name: &str| got.header(name);
                    let wait = crate::classify::wait_of(&header, text);
                    (status, Err((classify(status, &header, text), None)), wait)
                }
                Body::Cut(why) if status >= 500 => (status, Err((fault(Class::Maybe, why.clone()), None)), None),
                _ => {
                    let header = |name: &str| got.header(name);
                    let wait = crate::classify::wait_of(&header, "");
                    (status, Err((classify(status, &header, ""), None)), wait)
                }
            };
        }
        let json = |kind: &str| kind == "application/json" || kind.ends_with("+json");
        let outcome = match &got.body {
            Body::Whole(text) => match got.content_type() {
                Some(kind) if !json(&kind) => Err((
                    fault(
                        Class::Garbage,
                        format!("the reply is `{kind}`, not JSON: {}", crate::body::said(text)),
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
                            format!("the reply is not an answer: {}", crate::body::said(text)),
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
                    fault(
                        Class::Maybe,
                        "the stream ended before the answer was complete".to_owned(),
                    ),
                    streamed.words.into(),
                )),
            },
            // If the answer was complete before the connection broke, it counts.
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

    fn pause(&self, time: Duration, watch: &Watch<'_>) -> std::result::Result<(), Stop> {
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

    /// Reserves the most that a call can cost. Waits for calls in progress, which may turn out cheaper.
    fn reserve(
        &self,
        most: Option<f64>,
        question: &Question,
        watch: &Watch<'_>,
    ) -> std::result::Result<Reservation<'_>, Stop> {
        loop {
            let reserved = self.spending.reserve(most, &question.model);
            if let Some(reserved) = reserved.map_err(|error| self.end(error))? {
                return Ok(reserved);
            }
            self.pause(Duration::from_millis(20), watch)?;
        }
    }
}

/// Earlier attempts of a call.
#[derive(Debug, Default)]
struct Tried {
    failures: u32,
    resent: u32,
    place: usize,
}

/// The exclusive right to ask one call.
struct Asking<'a> {
    client: &'a Client,
    call: String,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.client
            .asked
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.call);
        self.client.answered.notify_all();
    }
}
