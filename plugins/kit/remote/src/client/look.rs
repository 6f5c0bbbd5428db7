//! Queries about a service that are not part of the accounting: its models, its version, its abilities.

use super::Client;
use crate::body::lenient;
use crate::http::{Body, Got, Lost};
use plugin_api::{Code, Error, Result};
use serde_json::Value;
use std::time::{Duration, Instant};

/// The time limit of these queries.
const LONGEST_LOOK: Duration = Duration::from_secs(20);

impl Client {
    /// Sends a GET request and returns status and JSON, or the error. It is free and not written to the ledger.
    pub fn look(&self, place: usize, path: &str) -> std::result::Result<(u16, Value, Option<Got>), Lost> {
        self.fetch(&self.url(place, path, false))
    }

    /// The same for a path beside `/v1`.
    pub fn look_beside(&self, place: usize, path: &str) -> Option<Value> {
        let (status, value, _) = self.fetch(&self.url(place, path, true)).ok()?;
        (status == 200 && !value.is_null()).then_some(value)
    }

    /// Sends a POST request that is not a prompt: counting tokens, or probing an ability. It is sent once, and not
    /// written to the ledger.
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

    /// Like [`Client::look`], but waits for an engine that is still loading or not running yet. If it never answers,
    /// that is an error.
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
}
