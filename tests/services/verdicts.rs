//! The outcome of each verdict: a fault of a service affects only its own case, invalid answers have their reason,
//! stored answers are parsed again, and a comparison gives its bounds.

use super::judging::{Judged, PRICES, RUN, verdict};
use super::{DIALECTS, Dialect, charges, number, service};
use fixture_service::{Act, Asked, Body, gemini, google_error, openai};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// The outcome of a case.
#[derive(Debug, Clone, Copy)]
enum Comes {
    /// A verdict.
    Ruled,
    /// An invalid answer, with its reason.
    Unscored(&'static str),
    /// No answer, with these words; the same command asks again.
    Failed(&'static str),
}
use Comes::{Failed, Ruled, Unscored};

/// A fault: the service's action, the outcome, the number of requests, and the number of charges.
struct Fault {
    act: fn(&Asked) -> Act,
    comes: Comes,
    asked: usize,
    charged: u32,
}

const fn fault(act: fn(&Asked) -> Act, comes: Comes, asked: usize, charged: u32) -> Fault {
    Fault {
        act,
        comes,
        asked,
        charged,
    }
}

/// This the first time, then a verdict.
fn once(asked: &Asked, act: Act) -> Act {
    match asked.earlier {
        0 => act,
        _ => verdict(asked),
    }
}

fn body(asked: &Asked, text: &str, finish: [&str; 2]) -> Act {
    match asked.gemini() {
        true => Act::json(&gemini(text, finish[1])),
        false => Act::json(&openai(text, finish[0])),
    }
}

const STOP: [&str; 2] = ["stop", "STOP"];
const RIGHT: &str = r#"{"reason": "r", "score": 1}"#;

/// Each fault with its own case, in the order of their numbers.
const FAULTS: [Fault; 31] = [
    // Too many requests, with every way to say how long to wait.
    fault(
        |asked| once(asked, Act::status(429, "").with("retry-after", "1")),
        Ruled,
        2,
        1,
    ),
    fault(|asked| once(asked, Act::status(429, "")), Ruled, 2, 1),
    fault(
        |asked| {
            let act = Act::status(429, "").with("date", "Sun, 29 Nov 2026 13:00:00 GMT");
            once(asked, act.with("retry-after", "Sun, 29 Nov 2026 13:00:01 GMT"))
        },
        Ruled,
        2,
        1,
    ),
    fault(
        |asked| once(asked, Act::status(429, "").with("retry-after-ms", "40")),
        Ruled,
        2,
        1,
    ),
    fault(
        |asked| {
            let detail = json!([{ "@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "0.05s" },
                { "@type": "q", "violations": [{ "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier" }] }]);
            once(
                asked,
                Act::status(429, google_error(429, "RESOURCE_EXHAUSTED", "slow down", detail)),
            )
        },
        Ruled,
        2,
        1,
    ),
    // Temporary errors.
    fault(|asked| once(asked, Act::status(500, "oops")), Ruled, 2, 1),
    fault(|asked| once(asked, Act::status(503, "<html>busy</html>")), Ruled, 2, 1),
    fault(
        |asked| once(asked, Act::status(529, r#"{"error": {"message": "overloaded"}}"#)),
        Ruled,
        2,
        1,
    ),
    fault(|asked| once(asked, Act::status(408, "")), Ruled, 2, 1),
    fault(
        |asked| once(asked, Act::status(502, "<html>bad gateway</html>")),
        Ruled,
        2,
        1,
    ),
    fault(|asked| once(asked, Act::reset()), Ruled, 2, 1),
    fault(
        |asked| once(asked, verdict(asked).after(Duration::from_millis(1500))),
        Ruled,
        2,
        2,
    ),
    // An answer that is complete although its connection broke, and one with a byte order mark.
    fault(
        |asked| {
            let mut act = body(asked, RIGHT, STOP);
            if let Body::Whole(bytes) = &act.body {
                let text = [bytes.as_slice(), b"\n\n\n\n"].concat();
                act.body = Body::Cut(text, bytes.len() + 1);
            }
            act
        },
        Ruled,
        1,
        1,
    ),
    fault(
        |asked| {
            let mut act = body(asked, RIGHT, STOP);
            if let Body::Whole(bytes) = &mut act.body {
                *bytes = ["\u{feff}".as_bytes(), bytes].concat();
            }
            act
        },
        Ruled,
        1,
        1,
    ),
    // Permanent errors.
    fault(|_| Act::status(500, "oops"), Failed("failed 6 times"), 6, 0),
    fault(|_| Act::status(504, ""), Failed("may have been charged"), 2, 0),
    fault(
        |asked| body(asked, RIGHT, STOP).cut_after(20),
        Failed("may have been charged"),
        2,
        2,
    ),
    fault(
        |asked| verdict(asked).after(Duration::from_millis(1500)),
        Failed("may have been charged"),
        2,
        2,
    ),
    fault(
        |_| {
            Act::status(200, "<html><title>Log in</title>")
                .with("content-type", "text/html")
                .charged(true)
        },
        Failed("text/html"),
        2,
        2,
    ),
    fault(
        |_| Act::status(200, "x".repeat(10 << 20)).charged(true),
        Failed("8 MiB"),
        2,
        2,
    ),
    fault(
        |_| Act::status(200, "{\"choices\": 7").charged(true),
        Failed("not an answer"),
        2,
        2,
    ),
    fault(
        |_| Act::status(307, "").with("location", "http://127.0.0.1:9/"),
        Failed("not followed"),
        1,
        0,
    ),
    fault(
        |_| Act::status(400, r#"{"error": {"message": "bad schema"}}"#),
        Failed("bad schema"),
        1,
        0,
    ),
    fault(
        |_| {
            Act::status(
                400,
                r#"{"error": {"message": "prompt is too long: maximum context length is 9"}}"#,
            )
        },
        Failed("does not fit"),
        1,
        0,
    ),
    // Invalid answers.
    fault(
        |asked| match asked.gemini() {
            true => Act::json(&json!({ "candidates": [], "usageMetadata": { "promptTokenCount": 12 } })),
            false => Act::json(&json!({ "id": "1", "model": "m", "choices": [] })),
        },
        Unscored("empty"),
        1,
        1,
    ),
    fault(
        |asked| body(asked, "", ["content_filter", "SAFETY"]),
        Unscored("blocked_answer"),
        1,
        1,
    ),
    fault(
        |asked| body(asked, "", ["length", "MAX_TOKENS"]),
        Unscored("cut_short"),
        1,
        1,
    ),
    fault(|asked| body(asked, "good", STOP), Unscored("unparsable"), 1, 1),
    fault(
        |asked| body(asked, &format!("{RIGHT} {{\"score\": 0}}"), STOP),
        Unscored("two_verdicts"),
        1,
        1,
    ),
    fault(
        |asked| body(asked, &format!("```json\n{RIGHT}\n```"), STOP),
        Ruled,
        1,
        1,
    ),
    // Another version than the requested one.
    fault(
        |asked| {
            let mut act = body(asked, RIGHT, STOP);
            if let Body::Whole(body) = &mut act.body {
                let text = String::from_utf8_lossy(body);
                *body = text
                    .replace("\"m\"", "\"n\"")
                    .replace("\"gemini-3.8-flash\"", "\"gemini-9\"")
                    .into_bytes();
            }
            act
        },
        Ruled,
        1,
        1,
    ),
];

/// The verdicts of a run's only judge, by the number of their sample.
fn verdicts(run: &Path) -> BTreeMap<usize, Value> {
    let text = fs::read_to_string(run.join("scores.jsonl")).expect("verdicts");
    let mut found = BTreeMap::new();
    let keys: BTreeMap<String, usize> = fs::read_to_string(run.join("samples.jsonl"))
        .expect("records")
        .lines()
        .map(|line| {
            let record: Value = serde_json::from_str(line).expect("JSON");
            let id = record["sample_id"]
                .as_str()
                .expect("an id")
                .trim_start_matches("q-")
                .to_owned();
            (
                record["key"].as_str().expect("a key").to_owned(),
                id.parse().expect("a number"),
            )
        })
        .collect();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("JSON");
        found.insert(keys[line["key"].as_str().expect("a key")], line["score"].clone());
    }
    found
}

#[test]
fn each_fault_of_a_service_costs_its_own_verdict_alone() {
    for dialect in DIALECTS {
        let service = service(dialect, |asked| (FAULTS[number(asked)].act)(asked));
        let judged = Judged::new(dialect, FAULTS.len());
        let stream = match dialect {
            Dialect::Openai => "-M openai:stream=off",
            Dialect::Gemini => "",
        };
        judged.check(&format!("{RUN} --model echo"), &service, stream, 0, &["failed on"]);
        let run = judged.questions.bench.directory("");
        let (found, charged) = (verdicts(&run), charges(&[&service]));
        for (place, fault) in FAULTS.iter().enumerate() {
            let (entry, said) = (&found[&place], format!("{dialect:?}, fault {place}: {}", found[&place]));
            match fault.comes {
                Ruled => assert_eq!(
                    (&entry["status"], &entry["details"]["why"]),
                    (&"scored".into(), &"ok".into()),
                    "{said}"
                ),
                Unscored(why) => {
                    assert_eq!(
                        (&entry["status"], &entry["details"]["why"]),
                        (&"unscored".into(), &why.into()),
                        "{said}"
                    );
                }
                Failed(words) => {
                    assert_eq!(entry["status"], "failed", "{said}");
                    assert!(entry["error"].to_string().contains(words), "`{words}`: {said}");
                }
            }
            let asked = service
                .requests()
                .iter()
                .filter(|asked| !asked.lists() && number(asked) == place)
                .count();
            assert_eq!(
                (asked, charged.get(&place).copied().unwrap_or(0)),
                (fault.asked, fault.charged),
                "{said}"
            );
        }
        assert_eq!(found[&30]["details"]["flags"], json!(["moved-model"]));
        // No unscored or failed case counts as wrong.
        let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
        let judge = &results["host"]["judges"][format!("rubric[{}]", dialect.model())];
        let count = |is: fn(&Comes) -> bool| FAULTS.iter().filter(|fault| is(&fault.comes)).count();
        let ruled = count(|comes| matches!(comes, Ruled));
        assert_eq!(
            (judge["n"].as_u64(), judge["of"].as_u64()),
            (Some(ruled as u64), Some(FAULTS.len() as u64))
        );
        assert_eq!(judge["failed"], count(|comes| matches!(comes, Failed(_))));
        // The same command asks only the failed cases.
        let before = charges(&[&service]);
        judged.check(&format!("{RUN} --model echo"), &service, stream, 0, &[]);
        for (place, count) in charges(&[&service]) {
            let again = matches!(FAULTS[place].comes, Failed(_));
            assert!(
                again || before[&place] == count,
                "{dialect:?}: fault {place} was paid again"
            );
        }
    }
}

#[test]
fn what_ends_judging_keeps_every_verdict_and_the_same_command_goes_on() {
    const COUNT: usize = 12;
    let daily = || {
        let detail = json!([{ "violations": [{ "quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier" }] }]);
        Act::status(429, google_error(429, "RESOURCE_EXHAUSTED", "quota", detail))
    };
    let ends: [(&dyn Fn() -> Act, i32, &str); 5] = [
        (&daily, 5, "Pacific"),
        (
            &|| Act::status(429, "").with("retry-after", "4000"),
            5,
            "the same command continues",
        ),
        (
            &|| Act::status(402, google_error(402, "RESOURCE_EXHAUSTED", "pay", json!([]))),
            3,
            "no credit left",
        ),
        (
            &|| Act::status(401, r#"{"error": {"message": "revoked"}}"#),
            3,
            "does not accept the key",
        ),
        (
            &|| Act::status(404, r#"{"error": {"message": "gone"}}"#),
            3,
            "does not know this model",
        ),
    ];
    for dialect in DIALECTS {
        for (end, exit, words) in &ends {
            let broken = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(5));
            let (left, act) = (broken.clone(), end());
            let service = service(dialect, move |asked| {
                use std::sync::atomic::Ordering::SeqCst;
                match left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                    Ok(_) => verdict(asked),
                    Err(_) => act.clone(),
                }
            });
            let judged = Judged::new(dialect, COUNT);
            let what = format!("{RUN} --model echo");
            judged.check(&what, &service, "", *exit, &["can't go on", words]);
            let run = judged.questions.bench.directory("");
            assert_eq!(verdicts(&run).len(), 5, "{dialect:?} {words}");
            broken.store(usize::MAX, std::sync::atomic::Ordering::SeqCst);
            judged.check(&what, &service, "", 0, &[]);
            let charged = charges(&[&service]);
            assert!(
                charged.len() == COUNT && charged.values().all(|count| *count == 1),
                "{words}: {charged:?}"
            );
        }
    }
}

#[test]
fn when_the_reader_changes_stored_answers_are_read_again_and_nobody_is_asked() {
    const COUNT: usize = 8;
    for dialect in DIALECTS {
        let service = service(dialect, verdict);
        let judged = Judged::new(dialect, COUNT);
        judged.check(&format!("{RUN} --model echo"), &service, "", 0, &[]);
        let run = judged.questions.bench.directory("");
        // An older parser's result on the same answers: it found no verdict in any of them.
        let file = run.join("scores.jsonl");
        let older: String = fs::read_to_string(&file)
            .unwrap()
            .lines()
            .map(|line| {
                let mut line: Value = serde_json::from_str(line).unwrap();
                let score = &mut line["score"];
                for name in ["scorer", "identity"] {
                    score[name] = "0".repeat(64).into();
                }
                (score["status"], score["values"]) = ("unscored".into(), json!({}));
                score["details"]["why"] = "unparsable".into();
                format!("{line}\n")
            })
            .collect();
        fs::write(&file, older).unwrap();
        let asked = || service.requests().iter().filter(|asked| !asked.lists()).count();
        let before = asked();
        judged.check(&format!("score {}", run.display()), &service, "", 0, &[]);
        assert_eq!(asked(), before, "stored answers were asked for again");
        let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
        let judge = &results["host"]["judges"][format!("rubric[{}]", dialect.model())];
        assert_eq!((&judge["n"], &judge["unscored"]), (&COUNT.into(), &0.into()), "{judge}");
        assert_eq!(results["host"]["calls"]["judge"]["answered"], COUNT);
    }
}

#[test]
fn a_comparison_says_how_far_it_could_move_by_what_is_unscored() {
    // Of ten answers two of the echo's have no verdict and one of the stuck model's, which is always 7; the others are
    // right.
    let service = service(Dialect::Openai, |asked| {
        let is_echo = !asked.prompt().contains("⟧\n7\n⟦");
        match (is_echo, number(asked)) {
            (true, 2 | 3) | (false, 4) => fixture_service::answer(asked, "It is good."),
            _ => verdict(asked),
        }
    });
    let judged = Judged::new(Dialect::Openai, 10);
    fs::write(judged.questions.bench.path("prices.toml"), PRICES).unwrap();
    let runs = [judged.answered_by("echo"), judged.answered_by("stuck")];
    for run in &runs {
        judged.check(&format!("score {}", run.display()), &service, "", 0, &[]);
    }
    let compare = format!("compare {} {}", runs[0].display(), runs[1].display());
    let said = judged.questions.bench.check(
        &compare,
        0,
        &["rubric[openai]: unscored are 2 in the first and 1 in the second of 10"],
    );
    assert!(said.contains("the difference -0.1000 to +0.2000"), "{said}");
    let output = judged.questions.bench.run(&format!("{compare} --json"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let row = report["rows"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["metric"] == "rubric[openai]")
        .unwrap();
    let bounds = &row["bounds"];
    assert_eq!((&row["n"], &bounds["of"]), (&7.into(), &10.into()), "{row}");
    let near = |pair: &Value, low: f64, high: f64| {
        let number = |place: usize| pair[place].as_f64().unwrap();
        assert!(
            (number(0) - low).abs() < 1e-12 && (number(1) - high).abs() < 1e-12,
            "{pair}"
        );
    };
    near(&bounds["first"], 0.8, 1.0);
    near(&bounds["second"], 0.9, 1.0);
    near(&bounds["difference"], -0.1, 0.2);
    let csv = judged.questions.bench.run(&format!("{compare} --format csv")).stdout;
    let csv = String::from_utf8(csv).unwrap();
    assert!(
        csv.lines()
            .next()
            .unwrap()
            .ends_with("unscored_first,unscored_second,difference_least,difference_most")
    );
    assert!(csv.contains(",2,1,-0.0999"), "{csv}");
}
