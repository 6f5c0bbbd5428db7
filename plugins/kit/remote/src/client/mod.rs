//! A question to a service, through everything that can happen to it, to an answer that is paid for once.

mod after;
mod judge;
mod look;

use crate::asking::{Answer, Question, Stop, Watch};
use crate::attempt::{Streamed, UnderWay, clean};
use crate::budget::Budget;
use crate::canonical::call_key;
use crate::classify::{Class, Fault};
use crate::dialect::Dialect;
use crate::events::Events;
use crate::http::{Got, Http, Lost, Sent};
use crate::ledger::{GotLine, Ledger};
use crate::options::Common;
use crate::pool::{NoSlot, Pool, Slot};
use crate::price::Prices;
use crate::secret::{Secret, redact_keys};
use after::Tried;
use plugin_api::{Code, Error};
use serde_json::Value;
use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

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
