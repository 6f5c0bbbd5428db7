//! Sends one HTTP request, without retries or redirects, and with a limit on every wait.

use crate::body::lenient;
use crate::secret::{Secret, redact};
use std::io::Read;
use std::time::{Duration, Instant};
use ureq::http::header::HeaderValue;
use ureq::http::{HeaderMap, Request};
use ureq::{Agent, Error, Proxy, Timeout};

/// The longest reply; a longer one is an error.
pub const MOST_BYTES: usize = 8 << 20;

/// The time limits of the parts of a call.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    pub connect: Duration,
    /// Between two bytes.
    pub silence: Duration,
    pub whole: Duration,
}

/// A request; the key is only in a header.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    pub url: &'a str,
    pub key: Option<(&'a str, &'a str, &'a Secret)>,
    pub request_id: &'a str,
    /// None for GET.
    pub body: Option<&'a str>,
    pub until: Option<Instant>,
}

/// A reply.
#[derive(Debug, Clone)]
pub struct Got {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Body,
}

#[derive(Debug, Clone)]
pub enum Body {
    /// The whole body.
    Whole(String),
    /// A stream of events that was passed on piece by piece, to its end or until the reader closed it.
    Shown,
    /// The body is incomplete or not text; the cause.
    Cut(String),
    /// More than [`MOST_BYTES`].
    TooLong,
}

impl Got {
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    }

    /// The type of the body, in lower case and without parameters.
    pub fn content_type(&self) -> Option<String> {
        let text = self.header("content-type")?;
        Some(text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
    }
}

/// The failure of a request without a reply.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Whether the request may have arrived.
    pub left: bool,
    /// Whether there is no such host, or nothing that speaks TLS: waiting will not help.
    pub hopeless: bool,
    pub what: String,
}

/// The connections to one service.
pub struct Http {
    agent: Agent,
    times: Times,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http")
            .field("times", &self.times)
            .finish_non_exhaustive()
    }
}

impl Http {
    /// Keeps up to `most` connections. The environment's proxy is used only for services outside of this machine.
    pub fn new(times: Times, most: usize, loopback: bool) -> Http {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("host/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(times.connect))
            .timeout_per_read(Some(times.silence))
            .max_idle_connections(most)
            .max_idle_connections_per_host(most)
            // Servers close idle connections after some five seconds; a request on a connection that is closing would
            // be lost.
            .max_idle_age(Duration::from_secs(3))
            .proxy(if loopback { None } else { Proxy::try_from_env() })
            .build();
        Http {
            agent: config.new_agent(),
            times,
        }
    }

    /// Sends a request. A stream of events is passed to `show` as it comes; false closes it.
    pub fn send(&self, sent: Sent<'_>, show: &mut dyn FnMut(&[u8]) -> bool) -> Result<Got, Lost> {
        let mut whole = self.times.whole;
        if let Some(until) = sent.until {
            whole = whole
                .min(until.saturating_duration_since(Instant::now()))
                .max(Duration::from_millis(1));
        }
        let mut request = Request::builder()
            .uri(sent.url)
            .header("accept", "application/json, text/event-stream");
        if !sent.request_id.is_empty() {
            request = request.header("x-request-id", sent.request_id);
        }
        if let Some((name, before, key)) = sent.key {
            let mut value = HeaderValue::from_str(&format!("{before}{}", key.expose()))
                .map_err(|_| unsent("the key has characters that an HTTP header cannot hold"))?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        let response = match sent.body {
            Some(body) => {
                let request = request
                    .method("POST")
                    .header("content-type", "application/json")
                    .body(body);
                let request = request.map_err(|_| unsent("the address or a header is invalid"))?;
                self.agent.run(
                    self.agent
                        .configure_request(request)
                        .timeout_global(Some(whole))
                        .build(),
                )
            }
            None => {
                let request = request
                    .method("GET")
                    .body(())
                    .map_err(|_| unsent("the address or a header is invalid"))?;
                self.agent.run(
                    self.agent
                        .configure_request(request)
                        .timeout_global(Some(whole))
                        .build(),
                )
            }
        };
        let (head, body) = response.map_err(lost)?.into_parts();
        let mut got = Got {
            status: head.status.as_u16(),
            headers: head.headers,
            body: Body::Shown,
        };
        let mut reader = body.into_reader();
        got.body = match got.status == 200 && got.content_type().as_deref() == Some("text/event-stream") {
            true => stream(&mut reader, show),
            false => collect(&mut reader),
        };
        Ok(got)
    }
}

fn collect(reader: &mut impl Read) -> Body {
    let mut bytes = Vec::new();
    let read = reader.take(MOST_BYTES as u64 + 1).read_to_end(&mut bytes);
    if bytes.len() > MOST_BYTES {
        return Body::TooLong;
    }
    // Proxies send pages in any encoding; invalid UTF-8 must not hide their message.
    let text = match String::from_utf8(bytes) {
        Ok(text) => text,
        Err(why) => String::from_utf8_lossy(why.as_bytes()).into_owned(),
    };
    match read {
        Ok(_) => Body::Whole(text),
        // The connection broke after the last brace, so nothing is missing.
        Err(_) if text.trim_start().starts_with('{') && lenient(&text).is_some() => Body::Whole(text),
        Err(why) => Body::Cut(redact(&format!(
            "the reply broke off after {} bytes: {why}",
            text.len()
        ))),
    }
}

fn stream(reader: &mut impl Read, show: &mut dyn FnMut(&[u8]) -> bool) -> Body {
    let (mut page, mut sum) = (vec![0; 16 << 10], 0);
    loop {
        match reader.read(&mut page) {
            Ok(0) => return Body::Shown,
            Ok(read) => {
                sum += read;
                if sum > MOST_BYTES {
                    return Body::TooLong;
                }
                if !show(&page[..read]) {
                    return Body::Shown;
                }
            }
            Err(why) => return Body::Cut(redact(&format!("the stream broke off: {why}"))),
        }
    }
}

fn unsent(what: &str) -> Lost {
    Lost {
        left: false,
        hopeless: true,
        what: what.to_owned(),
    }
}

/// Whether a failed request may have arrived depends on where it failed.
fn lost(error: Error) -> Lost {
    use std::io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    let (left, hopeless) = match &error {
        Error::HostNotFound | Error::Tls(_) | Error::BadUri(_) | Error::Http(_) | Error::InvalidProxyUrl => {
            (false, true)
        }
        Error::ConnectionFailed | Error::ConnectProxyFailed(_) => (false, false),
        Error::Timeout(Timeout::Resolve | Timeout::Connect) => (false, false),
        Error::Io(why) => {
            // An invalid certificate is reported as a read error.
            let tls = why
                .get_ref()
                .is_some_and(|inner| inner.to_string().to_ascii_lowercase().contains("certificate"));
            let unreached = matches!(why.kind(), ConnectionRefused | HostUnreachable | NetworkUnreachable);
            (!(unreached || tls), tls)
        }
        _ => (true, false),
    };
    Lost {
        left,
        hopeless,
        what: redact(&error.to_string()),
    }
}
