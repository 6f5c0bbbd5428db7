//! Requests to the hub: redirects, the token, retries.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::{HeaderMap, Method, Request, Uri};
use ureq::{Agent, Body, Proxy};

use super::fault::{HubFault, Said};
use super::id::HubId;
use super::kind::Kind;
use super::settings::{Settings, Token};

const MAX_REDIRECTS: usize = 10;
/// The list of a large data set's files is a few megabytes; anything near this is not a list.
const MAX_JSON: u64 = 64 << 20;

pub(super) struct Client {
    agent: Agent,
    endpoint: String,
    origin: Origin,
    token: Option<Token>,
    pub patience: Patience,
}

/// How long a failing server is tried.
pub(super) struct Patience {
    /// Requests in a row without progress.
    pub tries: u32,
    /// The pause after the first; it doubles each time.
    pub first_pause: Duration,
    /// The longest pause, whatever the server's `Retry-After` asks for.
    pub longest_pause: Duration,
    /// Waits; tests record the pauses instead of waiting.
    pub wait: Box<dyn Fn(Duration) + Send + Sync>,
}

/// What identifies a server for the token, which is sent only to the endpoint's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Origin {
    scheme: String,
    host: String,
    port: u16,
}

/// The last answer of a chain of redirects.
pub(super) struct Answer {
    pub status: u16,
    pub host: String,
    pub headers: HeaderMap,
    /// The headers of the first answer about the file itself; see [`Client::head`].
    pub linked: Option<HeaderMap>,
    body: Body,
}

/// A failure of one request: whether trying again may help, and after which pause the server wants it.
pub(super) struct Trouble {
    pub fault: HubFault,
    pub passing: bool,
    pub retry_after: Option<Duration>,
}

impl From<HubFault> for Trouble {
    fn from(fault: HubFault) -> Self {
        Trouble {
            fault,
            passing: false,
            retry_after: None,
        }
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Client {
    pub fn new(settings: &Settings) -> Result<Self, HubFault> {
        let wrong = HubFault::Setting {
            variable: "HF_ENDPOINT",
            expected: "an address as in https://host, without a password",
        };
        let uri: Uri = settings.endpoint.parse().map_err(|_| wrong.clone())?;
        let origin = Origin::of(&uri).ok_or_else(|| wrong.clone())?;
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
            || uri.query().is_some()
        {
            return Err(wrong);
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("host/", env!("CARGO_PKG_VERSION")))
            // A compressed answer to a request for a part of a file would be a part of the compressed file.
            .accept_encoding("identity")
            .timeout_connect(Some(Duration::from_secs(10)))
            // A limit on silence, not on a whole file, which may take hours.
            .timeout_per_read(Some(Duration::from_secs(15)))
            .proxy(if is_loopback(&origin.host) {
                None
            } else {
                Proxy::try_from_env()
            })
            .build();
        Ok(Client {
            agent: config.new_agent(),
            endpoint: settings.endpoint.clone(),
            origin,
            token: settings.token.clone(),
            patience: Patience {
                tries: 5,
                first_pause: Duration::from_millis(500),
                longest_pause: Duration::from_secs(60),
                wait: Box::new(std::thread::sleep),
            },
        })
    }

    pub fn host(&self) -> &str {
        &self.origin.host
    }

    /// The address of a repository in the hub's API.
    pub fn api_url(&self, kind: Kind, name: &str, rest: &str) -> String {
        format!("{}/api/{}/{name}{rest}", self.endpoint, kind.plural())
    }

    pub fn file_url(&self, id: &HubId, commit: &str, file: &str) -> String {
        let prefix = if id.kind() == Kind::Dataset { "datasets/" } else { "" };
        let file: Vec<String> = file.split('/').map(percent_encoded).collect();
        format!(
            "{}/{prefix}{}/resolve/{commit}/{}",
            self.endpoint,
            id.name(),
            file.join("/")
        )
    }

    /// Tries until it succeeds, fails for good, or runs out of patience.
    ///
    /// `attempt` reports through its argument when it got further than before, even by a few bytes of a file: then
    /// patience is renewed, so that a long file over a bad line arrives in the end.
    pub fn retrying<T>(
        &self,
        stop: &AtomicBool,
        mut attempt: impl FnMut(&mut bool) -> Result<T, Trouble>,
    ) -> Result<T, HubFault> {
        let mut failures = 0;
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(HubFault::Stopped);
            }
            let mut got_further = false;
            let trouble = match attempt(&mut got_further) {
                Ok(done) => return Ok(done),
                Err(trouble) => trouble,
            };
            failures = if got_further { 1 } else { failures + 1 };
            if !trouble.passing || failures >= self.patience.tries {
                return Err(trouble.fault);
            }
            let pause = trouble
                .retry_after
                .unwrap_or(self.patience.first_pause * 2_u32.pow(failures - 1));
            self.pause(pause.min(self.patience.longest_pause), stop);
        }
    }

    /// Sleeps in short steps, so that stopping need not wait for the end.
    fn pause(&self, mut left: Duration, stop: &AtomicBool) {
        while !left.is_zero() && !stop.load(Ordering::Relaxed) {
            let step = left.min(Duration::from_millis(100));
            (self.patience.wait)(step);
            left -= step;
        }
    }

    pub fn json<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, Trouble> {
        let answer = self.request(Method::GET, url, None, true)?;
        let host = answer.host.clone();
        if answer.status != 200 {
            return Err(answer.into_trouble(self));
        }
        let mut text = Vec::new();
        answer
            .reader()
            .take(MAX_JSON)
            .read_to_end(&mut text)
            .map_err(|error| broken_off(&host, &error))?;
        serde_json::from_slice(&text).map_err(|error| {
            HubFault::Malformed {
                host,
                why: error.to_string(),
            }
            .into()
        })
    }

    /// The file's bytes, from `start` on.
    pub fn get(&self, url: &str, start: u64) -> Result<Answer, Trouble> {
        self.request(Method::GET, url, (start > 0).then_some(start), true)
    }

    /// What the hub says about a file without sending it. A redirect to a storage server is not followed: its headers
    /// are about the stored object, those of the hub about the file.
    pub fn head(&self, url: &str) -> Result<Answer, Trouble> {
        self.request(Method::HEAD, url, None, false)
    }

    fn request(&self, method: Method, url: &str, start: Option<u64>, leave: bool) -> Result<Answer, Trouble> {
        let malformed = |host: &str, why: &str| HubFault::Malformed {
            host: host.to_owned(),
            why: why.to_owned(),
        };
        let mut uri: Uri = url.parse().map_err(|_| malformed(self.host(), "an invalid address"))?;
        let mut linked = None;
        for _ in 0..=MAX_REDIRECTS {
            let here = Origin::of(&uri).ok_or_else(|| malformed(self.host(), "a redirect to nowhere"))?;
            let mut request = Request::builder().method(method.clone()).uri(uri.clone());
            if let Some(start) = start {
                request = request.header("range", format!("bytes={start}-"));
            }
            if let Some(token) = &self.token
                && here == self.origin
            {
                request = request.header("authorization", format!("Bearer {}", token.secret()));
            }
            let request = request
                .body(())
                .map_err(|_| malformed(&here.host, "an invalid address"))?;
            let response = self
                .agent
                .run(request)
                .map_err(|error| unreachable(&here.host, error))?;
            let (head, body) = response.into_parts();
            if linked.is_none() && head.headers.contains_key("x-linked-etag") {
                linked = Some(head.headers.clone());
            }
            let status = head.status.as_u16();
            let location = head.headers.get("location").and_then(|location| location.to_str().ok());
            if let (301 | 302 | 303 | 307 | 308, Some(location)) = (status, location) {
                let next = redirected(&uri, location)
                    .ok_or_else(|| malformed(&here.host, "a redirect to an invalid address"))?;
                let there = Origin::of(&next).ok_or_else(|| malformed(&here.host, "a redirect to nowhere"))?;
                if here.scheme == "https" && there.scheme != "https" {
                    return Err(malformed(&here.host, "a redirect from https to http").into());
                }
                if leave || there == here {
                    uri = next;
                    continue;
                }
            }
            return Ok(Answer {
                status,
                host: here.host,
                headers: head.headers,
                linked,
                body,
            });
        }
        Err(malformed(self.host(), "more than 10 redirects").into())
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    pub fn reader(self) -> impl Read {
        self.body.into_reader()
    }

    /// A status that means failure, as a fault.
    pub fn into_trouble(self, client: &Client) -> Trouble {
        let said = Said(self.header("x-error-message").map(|said| {
            let said = match &client.token {
                Some(token) => said.replace(token.secret(), "(token)"),
                None => said.to_owned(),
            };
            said.chars().filter(|letter| !letter.is_control()).take(200).collect()
        }));
        let retry_after = self
            .header("retry-after")
            .and_then(|seconds| seconds.trim().parse().ok());
        let (host, status) = (self.host, self.status);
        Trouble {
            passing: status >= 500 || matches!(status, 408 | 425 | 429),
            retry_after: retry_after.map(Duration::from_secs),
            fault: match status {
                401 | 403 => HubFault::Refused {
                    host,
                    status,
                    said,
                    token_sent: client.token.is_some(),
                },
                _ => HubFault::Status { host, status, said },
            },
        }
    }
}

impl Origin {
    fn of(uri: &Uri) -> Option<Self> {
        let scheme = uri.scheme_str()?.to_ascii_lowercase();
        let usual = match scheme.as_str() {
            "https" => 443,
            "http" => 80,
            _ => return None,
        };
        let host = uri.host()?.to_ascii_lowercase();
        Some(Origin {
            scheme,
            host,
            port: uri.port_u16().unwrap_or(usual),
        })
    }
}

fn unreachable(host: &str, error: ureq::Error) -> Trouble {
    // Waiting does not help against an invalid certificate or a host that does not exist.
    let passing = matches!(
        error,
        ureq::Error::Io(_) | ureq::Error::Timeout(_) | ureq::Error::ConnectionFailed
    );
    let passing = passing || matches!(error, ureq::Error::Protocol(_) | ureq::Error::HostNotFound);
    Trouble {
        fault: HubFault::Network {
            host: host.to_owned(),
            why: error.to_string(),
        },
        passing,
        retry_after: None,
    }
}

/// A body that ends before its end.
pub(super) fn broken_off(host: &str, error: &std::io::Error) -> Trouble {
    Trouble {
        fault: HubFault::Network {
            host: host.to_owned(),
            why: error.to_string(),
        },
        passing: true,
        retry_after: None,
    }
}

/// Resolves a `Location` against `base`; the hub itself sends relative ones for renamed repositories.
fn redirected(base: &Uri, location: &str) -> Option<Uri> {
    let scheme = base.scheme_str()?;
    let authority = base.authority()?;
    if location.contains("://") {
        location.parse().ok()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}").parse().ok()
    } else if location.starts_with('/') {
        format!("{scheme}://{authority}{location}").parse().ok()
    } else {
        let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{folder}/{location}").parse().ok()
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// One segment of a path, with special characters encoded.
pub(super) fn percent_encoded(segment: &str) -> String {
    let mut encoded = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
