//! Classifies failed calls: whether the call was charged, whether to retry, and whether to stop all calls.
//!
//! It never fails: it starts from the HTTP status and uses what it finds in the body. The body's own status never
//! decides alone, since services also send `RESOURCE_EXHAUSTED` with 402.

use crate::body::ErrorBody;
use crate::date::http_date;

/// The outcome of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub enum Class {
    /// A reply that counts as an answer, including blocked and cut ones. It was charged, and is never asked again.
    Answered,
    /// The request was not sent.
    NotSent,
    /// Too many requests; not charged. `wait` is in seconds, if the service gave it.
    Busy { wait: Option<f64> },
    /// A daily quota is used up, or the wait is too long.
    Quota,
    /// A problem of key, credit, region or model: no other call will succeed either.
    Denied(Denied),
    /// The service refuses this request; others may succeed.
    Invalid,
    /// The prompt is longer than the model's context.
    TooLong,
    /// The service does not support a part or field of the request, so all such requests fail.
    Unknown,
    /// Failed before it was charged; a retry may help.
    Again,
    /// The engine is still loading its model.
    Loading,
    /// It is unknown whether the attempt was charged.
    Maybe,
    /// A reply that is not an answer, probably charged.
    Garbage,
    /// A redirect, which is not followed.
    Redirect,
}

/// Why no call will succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    Key,
    Credit,
    Model,
    Precondition,
}

impl Class {
    /// The name of the class in the ledger.
    pub fn word(&self) -> &'static str {
        match self {
            Class::Answered => "answered",
            Class::NotSent => "not_sent",
            Class::Busy { .. } => "rate_limited",
            Class::Quota => "quota",
            Class::Denied(_) => "denied",
            Class::Invalid => "invalid",
            Class::TooLong => "too_long",
            Class::Unknown => "unsupported",
            Class::Again => "failed",
            Class::Loading => "loading",
            Class::Maybe => "maybe",
            Class::Garbage => "garbage",
            Class::Redirect => "redirect",
        }
    }

    /// Whether the attempt may have been charged although there is no answer.
    pub fn may_be_charged(&self) -> bool {
        matches!(self, Class::Maybe | Class::Garbage)
    }
}

/// A failed attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    pub class: Class,
    /// The service's message, without keys.
    pub message: String,
}

/// Classifies a failed reply by its status, headers and body.
pub fn classify(status: u16, header: &dyn Fn(&str) -> Option<String>, body: &str) -> Fault {
    let read = ErrorBody::read(body);
    let message = match crate::body::said(body) {
        words if words.is_empty() => format!("HTTP status {status} without a message"),
        words => words,
    };
    let wait = wait_of(header, body);
    let class = match status {
        300..=399 => Class::Redirect,
        401 | 403 => Class::Denied(Denied::Key),
        402 => Class::Denied(Denied::Credit),
        404 | 405 | 410 => Class::Denied(Denied::Model),
        429 if out_of_credit(&read) => Class::Denied(Denied::Credit),
        429 if daily(&read) => Class::Quota,
        429 => Class::Busy { wait },
        400 | 422 if wrong_key(&read) => Class::Denied(Denied::Key),
        400 if read.status == "FAILED_PRECONDITION" => Class::Denied(Denied::Precondition),
        400 | 413 | 422 if too_long(&read) => Class::TooLong,
        400 | 422 if unknown_part(&read) => Class::Unknown,
        408 => Class::Again,
        503 if read.message.to_ascii_lowercase().contains("loading model") => Class::Loading,
        503 if wait.is_some() => Class::Busy { wait },
        // Proxies send these when the service has the request but the proxy has no answer; 520 and 524 are
        // Cloudflare's.
        502 | 504 | 520 | 524 | 598 | 599 => Class::Maybe,
        500..=599 => Class::Again,
        _ => Class::Invalid,
    };
    Fault { class, message }
}

/// The seconds that a service asks to wait: the largest value of all places where it may be.
pub fn wait_of(header: &dyn Fn(&str) -> Option<String>, body: &str) -> Option<f64> {
    let read = ErrorBody::read(body);
    let after = header("retry-after").and_then(|text| match text.trim().parse::<f64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => {
            // By the service's own clock, since this machine's may be wrong.
            let now = header("date").and_then(|date| http_date(&date));
            let now = now.unwrap_or_else(|| i64::try_from(crate::date::now_ms() / 1000).unwrap_or(0));
            http_date(&text).map(|then| (then - now) as f64)
        }
    });
    let after_ms = header("retry-after-ms").and_then(|text| text.trim().parse::<f64>().ok());
    let places = [
        after,
        after_ms.map(|ms| ms / 1000.0),
        read.retry_seconds,
        wait_in_words(&read.message),
    ];
    let longest = places.into_iter().flatten().filter(|seconds| seconds.is_finite());
    longest.map(|seconds| seconds.max(0.0)).reduce(f64::max)
}

/// `Please retry in 34.07s`, `900.2ms`, `1m30s` or `2 minutes`.
fn wait_in_words(message: &str) -> Option<f64> {
    let lower = message.to_ascii_lowercase();
    let start = ["retry in ", "try again in ", "retry after "]
        .iter()
        .find_map(|words| Some(lower.find(words)? + words.len()))?;
    let (mut rest, mut sum, mut any) = (&lower[start..], 0.0, false);
    loop {
        let digits = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let Ok(number) = rest[..digits].trim_end_matches('.').parse::<f64>() else {
            break;
        };
        rest = rest[digits..].trim_start_matches(' ');
        let letters = rest
            .find(|letter: char| !letter.is_ascii_alphabetic())
            .unwrap_or(rest.len());
        let unit = match &rest[..letters] {
            "ms" | "millisecond" | "milliseconds" => 0.001,
            "" | "s" | "sec" | "second" | "seconds" => 1.0,
            "m" | "min" | "minute" | "minutes" => 60.0,
            "h" | "hour" | "hours" => 3600.0,
            _ => break,
        };
        sum += number * unit;
        any = true;
        rest = &rest[letters..];
    }
    any.then_some(sum)
}

fn daily(read: &ErrorBody) -> bool {
    let words = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.contains("perday") || text.contains("daily") || text.contains("per day") || text.contains("per_day")
    };
    read.limit_zero || read.quotas.iter().any(|quota| words(quota)) || words(&read.message)
}

fn out_of_credit(read: &ErrorBody) -> bool {
    let words = [
        "insufficient_quota",
        "billing_hard_limit_reached",
        "insufficient_balance",
    ];
    words.iter().any(|word| read.code == *word || read.status == *word)
}

fn wrong_key(read: &ErrorBody) -> bool {
    let message = read.message.to_ascii_lowercase();
    let words = [
        "api key not valid",
        "api key expired",
        "invalid api key",
        "incorrect api key",
    ];
    read.code.starts_with("API_KEY")
        || read.code == "invalid_api_key"
        || words.iter().any(|word| message.contains(word))
}

/// There is no standard code for it, so all known messages are searched for.
fn too_long(read: &ErrorBody) -> bool {
    let message = read.message.to_ascii_lowercase();
    let words = [
        "context length",
        "context_length",
        "context window",
        "context size",
        "maximum context",
        "max_model_len",
        "maximum model length",
        "input token count",
        "maximum number of tokens",
        "prompt is too long",
        "input is too long",
        "longer than the model",
        "exceeds the available context",
    ];
    read.code.contains("context_length")
        || read.status.contains("exceed_context")
        || words.iter().any(|word| message.contains(word))
}

fn unknown_part(read: &ErrorBody) -> bool {
    let message = read.message.to_ascii_lowercase();
    let words = [
        "unknown field",
        "unknown name",
        "unknown parameter",
        "unrecognized request argument",
        "unexpected keys",
        "unexpected fields",
        "unsupported field",
        "unsupported parameter",
        "extra inputs are not permitted",
        "unknown part",
        "unsupported content part",
        "unsupported content type",
        "does not support audio",
        "not a multimodal model",
        "audio input is not supported",
        "unknown content type",
    ];
    words.iter().any(|word| message.contains(word))
        || ["unknown_parameter", "unsupported_parameter"].contains(&read.code.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(status: u16, body: &str, expected: Class) {
        assert_eq!(classify(status, &|_| None, body).class, expected, "{status} {body}");
    }

    fn quota(id: &str) -> String {
        format!(
            r#"{{"error": {{"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED", "details": [{{"@type": "QuotaFailure", "violations": [{{"quotaId": "{id}", "quotaValue": "2"}}]}}]}}}}"#
        )
    }

    #[test]
    fn a_minute_is_waited_for_and_a_day_is_not() {
        check(
            429,
            &quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"),
            Class::Busy { wait: None },
        );
        check(
            429,
            &quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier"),
            Class::Quota,
        );
        check(429, "", Class::Busy { wait: None });
        check(
            429,
            r#"{"error": {"message": "Quota exceeded, limit: 0, model: x. Please retry in 900.2ms."}}"#,
            Class::Quota,
        );
        check(
            429,
            r#"{"error": {"message": "You exceeded your quota", "code": "insufficient_quota"}}"#,
            Class::Denied(Denied::Credit),
        );
    }

    #[test]
    fn the_status_of_http_decides() {
        check(402, &quota("x"), Class::Denied(Denied::Credit));
        check(
            400,
            r#"{"error": {"status": "FAILED_PRECONDITION", "message": "location"}}"#,
            Class::Denied(Denied::Precondition),
        );
        check(
            400,
            r#"{"error": {"status": "INVALID_ARGUMENT", "message": "API key not valid."}}"#,
            Class::Denied(Denied::Key),
        );
        check(
            400,
            r#"{"error": {"status": "INVALID_ARGUMENT", "message": "bad schema"}}"#,
            Class::Invalid,
        );
        check(413, "too large", Class::Invalid);
        check(404, "<html>", Class::Denied(Denied::Model));
        check(500, "", Class::Again);
        check(502, "<html>", Class::Maybe);
        check(504, "", Class::Maybe);
        check(503, r#"{"error": {"message": "Loading model"}}"#, Class::Loading);
        check(307, "", Class::Redirect);
        check(
            400,
            r#"{"error": {"message": "This model's maximum context length is 8192 tokens."}}"#,
            Class::TooLong,
        );
    }

    #[track_caller]
    fn check_wait(headers: &[(&str, &str)], body: &str, expected: Option<f64>) {
        let header = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        let found = wait_of(&header, body);
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(
            matches!((found, expected), (Some(a), Some(b)) if near(a, b)) || found == expected,
            "{found:?}, expected {expected:?}"
        );
    }

    #[test]
    fn the_longest_wait_that_is_named_anywhere_counts() {
        check_wait(&[], "", None);
        check_wait(&[("retry-after", "3")], "", Some(3.0));
        check_wait(
            &[
                ("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"),
                ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
            ],
            "",
            Some(10.0),
        );
        check_wait(&[("retry-after", "1"), ("retry-after-ms", "2500")], "", Some(2.5));
        check_wait(&[], r#"{"error": {"message": "Please retry in 34.07s."}}"#, Some(34.07));
        check_wait(
            &[],
            r#"{"error": {"message": "Please retry in 900.2ms"}}"#,
            Some(0.9002),
        );
        check_wait(
            &[],
            r#"{"error": {"message": "Please try again in 1m30s"}}"#,
            Some(90.0),
        );
        check_wait(
            &[("retry-after", "2")],
            r#"{"error": {"details": [{"retryDelay": "34.07s"}]}}"#,
            Some(34.07),
        );
        check_wait(&[("retry-after", "soon")], "retry later", None);
    }
}
