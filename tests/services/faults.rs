//! One fault at a time, on one question of several: the others are answered and paid for once.

use super::{DIALECTS, Dialect, Questions, charges, number, right, service};
use fixture_service::{Act, Asked, Service, answer, gemini, google_error, openai};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

const ILL: usize = 3;
const COUNT: usize = 6;

/// The outcome of a question: exit code, its record, and how often it was charged.
struct Came {
    said: String,
    record: Value,
    asked: usize,
    charged: u32,
}

/// Asks six questions, of which one meets a fault, and checks that the others are not affected.
#[track_caller]
fn meet(dialect: Dialect, exit: i32, fault: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Came {
    let service = service(dialect, move |asked| match number(asked) {
        ILL => fault(asked),
        _ => right(asked),
    });
    let questions = Questions::new(COUNT);
    let said = questions.check(dialect, &service, "", exit, &[]);
    let records = questions.records();
    let mut charged = charges(&[&service]);
    let ill = charged.remove(&ILL).unwrap_or(0);
    assert_eq!(charged.len(), COUNT - 1, "{said}");
    assert!(charged.values().all(|count| *count == 1), "{charged:?}");
    for (number, record) in &records {
        assert!(*number == ILL || record["status"] == "scored", "{record}");
    }
    assert_eq!(records.len(), COUNT, "{said}");
    // The same command again pays for no answer twice.
    questions.check(dialect, &service, "", exit, &[]);
    let again = charges(&[&service]);
    assert_eq!(
        again.values().sum::<u32>() as usize,
        COUNT - 1 + ill as usize,
        "{again:?}"
    );
    let asked = service.requests().iter().filter(|asked| number(asked) == ILL).count();
    Came {
        said,
        record: records[&ILL].clone(),
        asked,
        charged: ill,
    }
}

/// A fault the first time, an answer the second.
#[track_caller]
fn passes(fault: impl Fn(Dialect) -> Act + Send + Sync + Copy + 'static) {
    for dialect in DIALECTS {
        let came = meet(dialect, 0, move |asked| match asked.earlier {
            0 => fault(dialect),
            _ => right(asked),
        });
        assert_eq!(
            (came.record["status"].as_str(), came.asked, came.charged),
            (Some("scored"), 2, 1),
            "{dialect:?}"
        );
    }
}

#[test]
fn a_service_that_is_busy_or_ill_for_a_moment_is_asked_again() {
    passes(|_| Act::status(429, "").with("retry-after", "1"));
    passes(|_| Act::status(429, r#"{"error": {"message": "slow down"}}"#));
    passes(|_| Act::status(500, "oops"));
    passes(|_| Act::status(503, r#"{"error": {"message": "overloaded"}}"#).with("retry-after-ms", "20"));
    passes(|_| Act::status(408, ""));
}

/// A permanent fault: the question fails with these words, asked twice and no more.
#[track_caller]
fn stays(words: &str, charged: u32, fault: impl Fn(&Asked) -> Act + Send + Sync + Copy + 'static) {
    for dialect in DIALECTS {
        let came = meet(dialect, 1, fault);
        let error = came.record["error"].to_string();
        assert!(error.contains(words), "{dialect:?}: `{words}` is not in {error}");
        assert_eq!((came.asked, came.charged), (2, charged), "{dialect:?}: {error}");
        assert!(came.said.contains("1 of 6 samples"), "{}", came.said);
    }
}

#[test]
fn what_may_have_been_charged_is_asked_once_more_and_then_given_up() {
    stays("may have been charged", 0, |_| {
        Act::status(502, "<html>bad gateway</html>")
    });
    stays("may have been charged", 2, |asked| match asked.gemini() {
        true => Act::json(&gemini("A", "STOP")).cut_after(20),
        false => Act::json(&openai("A", "stop")).cut_after(20),
    });
    stays("may have been charged", 0, |_| Act::reset());
}

#[test]
fn nonsense_is_no_answer() {
    stays("`text/html`", 2, |_| {
        Act::status(200, "<html><body>Please log in to the proxy</body></html>")
            .with("content-type", "text/html")
            .charged(true)
    });
    stays("8 MiB", 2, |_| Act::status(200, "x".repeat(10 << 20)).charged(true));
    stays("not an answer", 2, |_| Act::status(200, "[[[[").charged(true));
    stays("empty", 2, |_| Act::status(200, "").charged(true));
}

#[test]
fn a_stream_that_ends_early_or_never_is_no_answer() {
    let piece =
        |text: &str| json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
    let came = meet(Dialect::Openai, 1, move |_| {
        Act::events([piece("A"), piece(" b")], Duration::ZERO)
    });
    assert!(
        came.record["error"]
            .to_string()
            .contains("before the answer was complete"),
        "{}",
        came.record
    );
    assert_eq!((came.asked, came.charged), (2, 2));
    let came = meet(Dialect::Openai, 1, move |_| {
        Act::events((0..400).map(|_| piece("a")), Duration::from_millis(20))
    });
    let error = came.record["error"].to_string();
    assert!(error.contains("may have been charged"), "{error}");
    // Silence and slowness are distinguished.
    let came = meet(Dialect::Openai, 1, |asked| {
        right(asked).after(Duration::from_millis(1500))
    });
    assert!(
        came.record["error"].to_string().contains("may have been charged"),
        "{}",
        came.record
    );
}

#[test]
fn a_redirect_is_not_followed_and_takes_no_key_elsewhere() {
    for dialect in DIALECTS {
        let elsewhere = Service::start(right);
        let target = elsewhere.address();
        let came = meet(dialect, 1, move |_| {
            Act::status(307, "").with("location", &format!("{target}/v1/chat/completions"))
        });
        assert!(
            came.record["error"].to_string().contains("not followed"),
            "{}",
            came.record
        );
        assert_eq!(elsewhere.requests().len(), 0);
    }
}

#[test]
fn a_blocked_answer_is_an_answer() {
    for dialect in DIALECTS {
        let came = meet(dialect, 0, move |_| match dialect {
            Dialect::Openai => Act::json(&openai("", "content_filter")),
            Dialect::Gemini => Act::json(&gemini("", "SAFETY")),
        });
        assert_eq!(
            (came.record["reply"]["why"].as_str(), came.asked, came.charged),
            (Some("blocked_answer"), 1, 1)
        );
    }
    let refused = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": { "promptTokenCount": 12 } });
    let came = meet(Dialect::Gemini, 0, move |_| Act::json(&refused));
    assert_eq!(
        (came.record["reply"]["why"].as_str(), came.charged),
        (Some("blocked_prompt"), 1)
    );
    let thoughts = json!({ "candidates": [{ "content": { "role": "model" }, "finishReason": "MAX_TOKENS" }] });
    let came = meet(Dialect::Gemini, 0, move |_| Act::json(&thoughts));
    assert_eq!(
        (came.record["reply"]["why"].as_str(), came.charged),
        (Some("cut_short"), 1)
    );
}

#[test]
fn three_refusals_in_the_same_words_end_the_run() {
    let service = service(Dialect::Openai, |asked| match number(asked) {
        0 => right(asked),
        _ => Act::status(400, r#"{"error": {"message": "bad schema"}}"#),
    });
    let questions = Questions::new(COUNT);
    let words = ["refused the request", "bad schema", "3 requests in a row"];
    questions.check(Dialect::Openai, &service, "-M concurrency=1-1-1", 3, &words);
    assert!(questions.records().len() < COUNT);
}

#[test]
fn a_key_credit_or_model_that_fails_is_found_before_the_first_sample() {
    for dialect in DIALECTS {
        for (status, words) in [
            (401, "does not accept the key"),
            (403, "does not accept the key"),
            (402, "no credit left"),
        ] {
            let service = Service::start(move |_| Act::status(status, r#"{"error": {"message": "no"}}"#));
            let questions = Questions::new(COUNT);
            questions.check(dialect, &service, "", 3, &[words]);
            assert_eq!(charges(&[&service]).len(), 0);
            assert!(!questions.bench.path("runs").exists());
        }
        let service = service(dialect, right);
        let questions = Questions::new(COUNT);
        questions.check(dialect, &service, "-M model=nosuch", 3, &["nosuch", dialect.served()]);
        assert_eq!(charges(&[&service]).len(), 0);
        // No server listens: a port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let address = format!("http://127.0.0.1:{port}");
        let output = questions.command(dialect, &address, "").output().unwrap();
        super::said(output, 3, &["cannot reach", "base_url"]);
    }
}

#[test]
fn a_key_that_fails_under_way_ends_the_run_and_keeps_what_is_there() {
    for dialect in DIALECTS {
        let asked_before = AtomicUsize::new(0);
        let service = service(dialect, move |asked| {
            match asked_before.fetch_add(1, Ordering::SeqCst) {
                0 | 1 => right(asked),
                _ => Act::status(401, r#"{"error": {"message": "key revoked"}}"#),
            }
        });
        let questions = Questions::new(COUNT);
        questions.check(
            dialect,
            &service,
            "-M concurrency=1-1-1",
            3,
            &["does not accept the key", "key revoked"],
        );
        assert_eq!(questions.records().len(), 2);
    }
}

#[test]
fn a_daily_quota_ends_the_run_and_the_same_command_goes_on() {
    for dialect in DIALECTS {
        let left = Arc::new(AtomicUsize::new(2));
        let quota = left.clone();
        let service = service(dialect, move |asked| {
            let daily = json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{ "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier" }] }]);
            let one_less = |left: usize| left.checked_sub(1);
            match quota.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
                Ok(_) => answer(asked, "A"),
                Err(_) => Act::status(429, google_error(429, "RESOURCE_EXHAUSTED", "quota", daily)),
            }
        });
        let questions = Questions::new(COUNT);
        let began = std::time::Instant::now();
        let words = ["quota", "finished answers are kept", "Pacific"];
        questions.check(dialect, &service, "-M concurrency=1-1-1", 5, &words);
        assert!(began.elapsed() < Duration::from_secs(5));
        assert_eq!(questions.records().len(), 2);
        left.store(COUNT, Ordering::SeqCst);
        questions.check(dialect, &service, "-M concurrency=1-1-1", 0, &[]);
        assert_eq!(questions.records().len(), COUNT);
        let charged = charges(&[&service]);
        assert!(
            charged.len() == COUNT && charged.values().all(|count| *count == 1),
            "{charged:?}"
        );
    }
}
