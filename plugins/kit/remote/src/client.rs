//! A question to a service, through everything that can happen to it, to an answer that is paid for once.

use crate::attempt::{Streamed, UnderWay, clean, pause_of};
use crate::body::{lenient, shortened};
use crate::budget::Budget;
use crate::canonical::call_key;
use crate::classify::{Class, Denied, Fault, classify};
use crate::dialect::{Dialect, Digest};
use crate::events::Events;
use crate::http::{Body, Got, Http, Lost, Sent};
use crate::ledger::{GotLine, Ledger};
use crate::options::Common;
use crate::pool::{NoSlot, Pool, Slot};
use crate::price::{Price, Prices, Tokens};
use crate::secret::{Secret, redact, redact_keys};
use crate::watch::{Stop, Watch};
use plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// A listing or a version that takes longer is none.
const LONGEST_LOOK: Duration = Duration::from_secs(20);
/// So many refusals in a row with the same words end the work.
const SAME_REFUSALS: u32 = 3;

/// What is asked of a service.
#[derive(Debug, Clone)]
pub struct Question {
    /// From the base address on.
    pub path: String,
    /// True when the path begins beside `/v1` and not below it.
    pub root: bool,
    pub model: String,
    pub body: Value,
    pub repeat: u64,
    /// The beginning that prompts share, so that they meet the same server's cache.
    pub beginning: String,
    /// The most tokens that can be read and written, for the spending limit.
    pub most_read: u64,
    pub most_written: u64,
}

/// An answer, fresh or of the ledger.
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
    /// Where it came from; none when it is of the ledger.
    pub address: Option<usize>,
}

/// The way to one model at one service.
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
    budget: RwLock<Option<(Arc<Budget>, bool)>>,
    /// Why nothing more goes out.
    over: Mutex<Option<Stop>>,
    refusals: Mutex<(String, u32)>,
    /// Calls under way by their names, so that two who ask the same pay once.
    asked: Mutex<HashSet<String>>,
    answered: Condvar,
    under_way: AtomicUsize,
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
            budget: RwLock::default(),
            over: Mutex::default(),
            refusals: Mutex::default(),
            asked: Mutex::default(),
            answered: Condvar::new(),
            under_way: AtomicUsize::new(0),
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

    /// Limits what may be spent. Models without a price are refused then, unless `unpriced` lets them pass.
    pub fn set_budget(&self, budget: Budget, unpriced: bool) {
        *self.budget.write().unwrap_or_else(PoisonError::into_inner) = Some((Arc::new(budget), unpriced));
    }

    /// Why nothing more is asked, if so.
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

    /// Asks by GET and gives status and JSON, or what is wrong. Costs nothing and is noted nowhere.
    pub fn look(&self, place: usize, path: &str) -> std::result::Result<(u16, Value, Option<Got>), Lost> {
        self.fetch(&self.url(place, path, false))
    }

    /// The same beside `/v1`.
    pub fn look_beside(&self, place: usize, path: &str) -> Option<Value> {
        let (status, value, _) = self.fetch(&self.url(place, path, true)).ok()?;
        (status == 200 && !value.is_null()).then_some(value)
    }

    /// Asks by POST what is no prompt of anyone: tokens of a text, or a probe of what a server can do. It is tried once, and
    /// noted nowhere.
    pub fn probe(
        &self,
        place: usize,
        path: &str,
        root: bool,
        body: &Value,
        until: Instant,
    ) -> std::result::Result<(u16, Value), Lost> {
        let (status, value, _) = self.exchange_once(&self.url(place, path, root), Some(&body.to_string()), until)?;
        Ok((status, value))
    }

    fn fetch(&self, url: &str) -> std::result::Result<(u16, Value, Option<Got>), Lost> {
        self.exchange_once(url, None, Instant::now() + LONGEST_LOOK)
    }

    fn exchange_once(
        &self,
        url: &str,
        body: Option<&str>,
        until: Instant,
    ) -> std::result::Result<(u16, Value, Option<Got>), Lost> {
        let got = self.http.send(self.sent(url, body, "", Some(until)), &mut |_| true)?;
        let value = match &got.body {
            Body::Whole(text) => lenient(text).unwrap_or(Value::Null),
            _ => Value::Null,
        };
        Ok((got.status, value, Some(got)))
    }

    /// Like [`Client::look`], and waits for an engine that still loads or is not there yet. What never comes is an error.
    pub fn look_patiently(&self, place: usize, path: &str, say: &dyn Fn(&str)) -> Result<(u16, Value, Option<Got>)> {
        let host = &self.pool.addresses()[place].host;
        let until = Instant::now() + self.wait_for_engine;
        let mut pause = 0.2_f64;
        loop {
            let why = match self.look(place, path) {
                Ok((503, value, got)) => {
                    let text = got.as_ref().map(|got| match &got.body {
                        Body::Whole(text) => text.clone(),
                        _ => String::new(),
                    });
                    let said = crate::body::said(&text.unwrap_or_else(|| value.to_string()));
                    format!("`{host}` answers 503: {said}")
                }
                Ok(found) => return Ok(found),
                Err(lost) if lost.hopeless => {
                    let error = Error::new(Code::MISSING, format!("cannot reach `{host}`")).cause(lost.what);
                    return Err(error.help("check the name in `base_url` and the network"));
                }
                Err(lost) => format!("cannot reach `{host}`: {}", lost.what),
            };
            if Instant::now() + Duration::from_secs_f64(pause) > until {
                let error = Error::new(Code::MISSING, why);
                return Err(error.help(
                    "start the server, or check `base_url`; `wait_for_engine` says for how many seconds to wait",
                ));
            }
            say(&why);
            std::thread::sleep(Duration::from_secs_f64(pause));
            pause = (pause * 2.0).min(5.0);
        }
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

    /// Asks a question: from the ledger if it was answered before, else at the service until it answers or can't.
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

    /// Waits until nobody else asks the same.
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
                let error = Error::new(Code::RATE_LIMITED, format!("cannot reach `{}` any more", self.hosts));
                Err(self
                    .end(error.help("everything finished is kept; the same command goes on when the service is back")))
            }
        }
    }

    /// One attempt: the answer, or the fault and the wait that the service asks for.
    #[allow(clippy::too_many_arguments)] // all that one attempt depends on; a struct of them would be used once
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
        let under_way = UnderWay::new(&self.under_way);
        let (came, first_token) = self.exchange(&url, body, &call[..32], watch);
        drop(under_way);
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
        self.settle(reserved, line.dollars.or(line.maybe_dollars).unwrap_or(0.0));
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

    /// Sends the body and gathers what comes back, streams included.
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

    /// What came, as an answer or as a fault; the pool hears of it.
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

    /// What a fault leads to: another attempt after a pause, the end of this call, or the end of all.
    fn after(
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

    /// Sets aside what a call can cost at most. Waits for calls under way, which may turn out cheaper.
    fn reserve(
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

    fn settle(&self, reserved: Option<(Arc<Budget>, f64)>, spent: f64) {
        // A sum that can't be given back leaves less to spend, never more.
        let _ = reserved.map(|(budget, most)| budget.add(spent - most));
    }
}

/// What went before in a call.
#[derive(Debug, Default)]
struct Tried {
    failures: u32,
    resent: u32,
    place: usize,
}

/// A call that nobody else may ask meanwhile.
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
