//! The plugin at a scripted service: every fault that judges have to live with, in Gemini's dialect.

use fixture_service::asking::{Came, ask_all, model};
use fixture_service::{Act, Asked, Service, answer, gemini as reply_of, google_error};
use gemini as _;
use plugin_api::client::ModelClient;
use plugin_api::{Code, Finish, Message, NoCallbacks, Prompt, Reply, Sampling};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The service's description of its model, which is requested by GET.
fn listing(asked: &Asked) -> Option<Act> {
    if !asked.lists() {
        return None;
    }
    Some(match asked.path.as_str() {
        "/v1beta/models/gemini-3.8-flash" => Act::status(
            200,
            json!({ "name": "models/gemini-3.8-flash", "version": "3.8", "inputTokenLimit": 1_000_000 }).to_string(),
        ),
        path if path.starts_with("/v1beta/models?") => Act::status(
            200,
            json!({ "models": [{ "name": "models/gemini-3.8-flash" }] }).to_string(),
        ),
        _ => Act::status(404, google_error(404, "NOT_FOUND", "no such model", json!([]))),
    })
}

fn service(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Service {
    Service::start(move |asked| listing(asked).unwrap_or_else(|| script(asked)))
}

fn settings(service: &Service) -> Value {
    json!({ "model": "gemini-3.8-flash", "base_url": service.address(), "first_pause": 0.02, "patience": 2, "silence": 0.5, "deadline": 2, "wait_for_engine": 1 })
}

fn open(service: &Service) -> ModelClient {
    model("gemini", settings(service)).expect("a model")
}

fn prompt(text: &str) -> Prompt {
    Prompt::new([Message::user(text)]).sample(Sampling::greedy(64))
}

fn prompts(count: usize) -> impl Iterator<Item = Prompt> {
    (0..count).map(|number| prompt(&format!("prompt {number}")))
}

fn texts(came: &Came) -> Vec<String> {
    let text = |reply: &Option<plugin_api::Result<Reply>>| match reply {
        Some(Ok(reply)) => reply.text.clone(),
        Some(Err(error)) => format!("{error}"),
        None => "nothing".to_owned(),
    };
    came.replies.iter().map(text).collect()
}

/// Asks one prompt of a service with this script; returns the outcome, and how often the prompt was sent and charged.
fn one(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> (Came, usize, u32) {
    let service = service(script);
    let came = ask_all(&open(&service), [prompt("p")], None);
    let asked = service.requests().iter().filter(|asked| asked.prompt() == "p").count();
    let charged = service.charges().get("p").copied().unwrap_or(0);
    (came, asked, charged)
}

#[test]
fn a_prompt_is_answered_once_and_the_key_travels_in_its_header_alone() {
    let service = service(|asked| answer(asked, "four"));
    let mut settings = settings(&service);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, "planted-gemini-key\n").unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    settings["key_file"] = file.display().to_string().into();
    let model = model("gemini", settings).unwrap();
    let reply = model.reply(&prompt("2 + 2?"), &NoCallbacks).unwrap();
    assert_eq!(
        (
            reply.text.as_str(),
            reply.finish,
            reply.usage.prompt_tokens,
            reply.usage.thinking_tokens
        ),
        ("four", Finish::Stop, 12, 5)
    );
    assert_eq!(
        (reply.model_version.as_deref(), reply.request_id.as_deref()),
        (Some("gemini-3.8-flash"), Some("r-1"))
    );
    let asked = service.requests().pop().unwrap();
    assert_eq!(
        (asked.path.as_str(), asked.header("x-goog-api-key")),
        (
            "/v1beta/models/gemini-3.8-flash:generateContent",
            Some("planted-gemini-key")
        )
    );
    assert_eq!(
        (asked.header("authorization"), asked.path.contains("key")),
        (None, false)
    );
    assert!(!asked.body.to_string().contains("planted") && !serde_json::to_string(&reply).unwrap().contains("planted"));
    let card = model.card().unwrap();
    assert!(card.hears() && !card.scores_choices && card.remote.is_some());
    assert_eq!((card.context, card.batch), (Some(1_000_000), 64));
}

#[test]
fn faults_before_the_charge_are_tried_again_and_paid_once() {
    for (status, headers, body) in [
        (429, vec![("retry-after", "0")], String::new()),
        (
            429,
            vec![],
            google_error(429, "RESOURCE_EXHAUSTED", "Please retry in 30ms.", json!([])),
        ),
        (
            429,
            vec![("retry-after-ms", "20")],
            google_error(
                429,
                "RESOURCE_EXHAUSTED",
                "x",
                json!([{ "@type": "QuotaFailure", "violations": [{ "quotaId": "GenerateRequestsPerMinute" }] }]),
            ),
        ),
        (500, vec![], google_error(500, "INTERNAL", "oops", json!([]))),
        (503, vec![], "<html>overloaded</html>".to_owned()),
        (408, vec![], String::new()),
    ] {
        let (came, asked, charged) = one(move |asked| match asked.earlier {
            0 | 1 => headers
                .iter()
                .fold(Act::status(status, body.clone()), |act, (name, value)| {
                    act.with(name, value)
                }),
            _ => answer(asked, "ok"),
        });
        assert_eq!(
            (texts(&came), asked, charged),
            (vec!["ok".to_owned()], 3, 1),
            "status {status}"
        );
    }
}

#[test]
fn faults_after_the_charge_are_sent_again_once_and_no_more() {
    let whole = reply_of("ok", "STOP").to_string();
    let cut = whole.len() / 2;
    let garbage = |body: &str, kind: &str| Act::status(200, body).with("content-type", kind).charged(true);
    let acts: Vec<(&str, Act)> = vec![
        ("html", garbage("<html><title>Sign in</title></html>", "text/html")),
        ("no json", garbage("hello", "application/json")),
        ("truncated json", garbage(&whole[..cut], "application/json")),
        ("empty", garbage("", "application/json")),
        ("another type", garbage(&whole, "text/plain")),
        ("another object", garbage("{\"hello\": 1}", "application/json")),
        ("10 MiB", garbage(&"x".repeat(10 << 20), "application/json")),
        ("cut", Act::status(200, whole.clone()).charged(true).cut_after(cut)),
        ("reset", Act::reset().charged(true)),
        ("502", Act::status(502, "<html>bad gateway</html>").charged(true)),
        ("504", Act::status(504, "").charged(true)),
        ("silence", answer_after(Duration::from_millis(900))),
    ];
    for (name, act) in acts {
        let first = act.clone();
        let (came, asked, _) = one(move |asked| {
            if asked.earlier == 0 {
                first.clone()
            } else {
                answer(asked, "ok")
            }
        });
        assert_eq!((texts(&came), asked), (vec!["ok".to_owned()], 2), "{name}");
        let (came, asked, _) = one(move |_| act.clone());
        let Some(Err(error)) = &came.replies[0] else {
            panic!("{name}: {:?}", texts(&came))
        };
        assert_eq!((error.code, asked), (Code::SERVICE, 2), "{name}: {error}");
        assert!(came.over.is_none(), "{name}");
    }
}

fn answer_after(delay: Duration) -> Act {
    Act::json(&reply_of("late", "STOP")).after(delay)
}

#[test]
fn what_no_other_call_will_survive_ends_the_work_and_keeps_the_prompts() {
    let daily = google_error(
        429,
        "RESOURCE_EXHAUSTED",
        "quota",
        json!([{ "@type": "QuotaFailure", "violations": [{ "quotaId": "GenerateRequestsPerDayPerProject" }] }]),
    );
    for (status, body, code, words) in [
        (429, daily, Code::RATE_LIMITED, "Pacific"),
        (
            429,
            google_error(429, "RESOURCE_EXHAUSTED", "Please retry in 3600s.", json!([])),
            Code::RATE_LIMITED,
            "quota",
        ),
        (
            402,
            google_error(402, "RESOURCE_EXHAUSTED", "no credit", json!([])),
            Code::MISSING,
            "credit",
        ),
        (401, String::new(), Code::MISSING, "key"),
        (
            403,
            google_error(403, "PERMISSION_DENIED", "denied", json!([])),
            Code::MISSING,
            "key",
        ),
        (
            400,
            google_error(400, "FAILED_PRECONDITION", "location", json!([])),
            Code::MISSING,
            "region",
        ),
        (
            404,
            google_error(404, "NOT_FOUND", "gone", json!([])),
            Code::MISSING,
            "gemini-3.8-flash",
        ),
    ] {
        let service = service(move |_| Act::status(status, body.clone()));
        let came = ask_all(&open(&service), prompts(20), None);
        let over = came
            .over
            .as_ref()
            .unwrap_or_else(|| panic!("{status}: {:?}", texts(&came)));
        let said = format!("{over} {}", over.help.clone().unwrap_or_default());
        assert_eq!(over.code, code, "{said}");
        assert!(said.contains(words), "{said}");
        assert!(came.replies.iter().all(Option::is_none), "{status}: {:?}", texts(&came));
    }
}

#[test]
fn one_refused_prompt_fails_alone_and_three_alike_end_the_work() {
    let refuse = || Act::status(400, google_error(400, "INVALID_ARGUMENT", "bad schema", json!([])));
    let service_one = service(move |asked| {
        if asked.prompt() == "prompt 1" {
            refuse()
        } else {
            answer(asked, "ok")
        }
    });
    let came = ask_all(&open(&service_one), prompts(3), None);
    assert!(
        came.over.is_none() && texts(&came)[1].contains("bad schema"),
        "{:?}",
        texts(&came)
    );
    let service_all = service(move |_| refuse());
    let came = ask_all(&open(&service_all), prompts(30), None);
    assert!(came.over.is_some_and(|over| over.to_string().contains("bad schema")));
}

#[test]
fn a_redirect_is_not_followed_and_the_key_stays() {
    let elsewhere = service(|asked| answer(asked, "stolen"));
    let address = elsewhere.address();
    let (came, ..) = one(move |_| {
        Act::status(307, "").with(
            "location",
            &format!("{address}/v1beta/models/gemini-3.8-flash:generateContent"),
        )
    });
    assert!(texts(&came)[0].contains("not followed"), "{:?}", texts(&came));
    assert!(elsewhere.requests().is_empty());
}

#[test]
fn answers_that_are_none_of_words_are_paid_once_and_say_why() {
    let block = json!({ "promptFeedback": { "blockReason": "SAFETY" }, "usageMetadata": { "promptTokenCount": 5 } });
    let thoughts = json!({ "candidates": [{ "content": { "role": "model", "parts": [{ "thought": true, "text": "hm" }] }, "finishReason": "MAX_TOKENS" }] });
    for (body, why) in [
        (block, "blocked_prompt"),
        (reply_of("x", "SAFETY"), "blocked_answer"),
        (reply_of("x", "MAX_TOKENS"), "cut_short"),
        (thoughts, "cut_short"),
        (
            json!({ "candidates": [{ "content": { "role": "model" }, "finishReason": "STOP" }] }),
            "empty",
        ),
        (json!({ "candidates": [] }), "empty"),
    ] {
        let (came, asked, charged) = one(move |_| Act::json(&body));
        let Some(Ok(reply)) = &came.replies[0] else {
            panic!("{:?}", texts(&came))
        };
        assert_eq!((reply.other["why"].as_str(), asked, charged), (Some(why), 1, 1));
    }
    let mut moved = reply_of("x", "STOP");
    moved["modelVersion"] = "gemini-3.6-flash".into();
    let (came, ..) = one(move |_| Act::json(&moved));
    assert_eq!(
        came.replies[0].as_ref().unwrap().as_ref().unwrap().flags,
        ["moved-model"]
    );
}

#[test]
fn a_ledger_answers_again_for_nothing_and_says_what_may_have_been_charged() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(|asked| {
        if asked.prompt() == "prompt 2" {
            Act::status(502, "").charged(true)
        } else {
            answer(asked, "ok")
        }
    });
    let opened = |model: &ModelClient| {
        let request = json!({ "file": folder.path().join("calls.jsonl"), "role": "judge" });
        model.run_command("open_ledger", &request, &NoCallbacks).unwrap()
    };
    let first = open(&service);
    assert_eq!(opened(&first)["answered"], 0);
    ask_all(&first, prompts(4), None);
    let second = open(&service);
    let known = opened(&second);
    assert_eq!(
        (known["answered"].clone(), known["maybe"].clone()),
        (json!(3), json!(2))
    );
    let came = ask_all(&second, prompts(4), None);
    assert_eq!(
        came.replies
            .iter()
            .filter(|reply| reply.as_ref().unwrap().is_ok())
            .count(),
        3
    );
    let charges = service.charges();
    assert_eq!((charges["prompt 0"], charges["prompt 2"]), (1, 4));
    // Exactly: 12 tokens read and 8 written, three times, and the highest possible cost of the four lost answers.
    let sums = &second.run_command("spent", &Value::Null, &NoCallbacks).unwrap()["sums"];
    let dollars = 3.0 * (12.0 * 0.75 + 8.0 * 3.75) / 1e6;
    assert!((sums["dollars"].as_f64().unwrap() - dollars).abs() < 1e-12, "{sums}");
    assert_eq!(sums["maybe"], 4);
    assert!(
        sums["maybe_dollars"].as_f64().unwrap() >= 4.0 * 64.0 * 3.75 / 1e6,
        "{sums}"
    );
}

#[test]
fn a_budget_is_never_passed() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(|asked| answer(asked, "ok"));
    let model = open(&service);
    let each = (12.0 * 0.75 + 8.0 * 3.75) / 1e6;
    let request = json!({ "file": folder.path().join("calls.jsonl"), "max_cost_usd": 0.001 });
    model.run_command("open_ledger", &request, &NoCallbacks).unwrap();
    let came = ask_all(&model, prompts(100), None);
    let over = came.over.expect("it ends");
    assert_eq!(over.code, Code::RATE_LIMITED);
    assert!(over.help.unwrap().contains("--max-cost-usd"));
    let answered = came.replies.iter().filter(|reply| matches!(reply, Some(Ok(_)))).count();
    assert_eq!(answered, service.charges().len());
    // The last call must have had room for its upper bound.
    assert!(answered > 10 && answered as f64 * each <= 0.001, "{answered}");
    let unpriced = json!({ "model": "gemini-3.8-flash", "base_url": service.address(), "prices": "/nowhere" });
    assert!(self::model("gemini", unpriced).is_err());
}

#[test]
fn equal_prompts_under_way_are_paid_once() {
    let service = service(|asked| answer(asked, "ok").after(Duration::from_millis(30)));
    let folder = tempfile::tempdir().unwrap();
    let model = open(&service);
    model
        .run_command(
            "open_ledger",
            &json!({ "file": folder.path().join("calls.jsonl") }),
            &NoCallbacks,
        )
        .unwrap();
    let came = ask_all(&model, (0..16).map(|_| prompt("same")), None);
    assert!(texts(&came).iter().all(|text| text == "ok"));
    assert_eq!(service.charges()["same"], 1);
}

#[test]
fn a_dead_address_costs_only_its_calls_in_flight() {
    let one = service(|asked| answer(asked, "one").after(Duration::from_millis(5)));
    let gone = {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let mut settings = settings(&one);
    settings["base_url"] = format!("{},http://{gone}", one.address()).into();
    let came = ask_all(&model("gemini", settings).unwrap(), prompts(60), None);
    assert!(texts(&came).iter().all(|text| text == "one"), "{:?}", texts(&came));
    assert_eq!(one.charges().values().sum::<u32>(), 60);
}

#[test]
fn a_wrong_name_or_key_or_host_is_found_before_any_prompt() {
    let healthy = service(|asked| answer(asked, "ok"));
    let refusal = |change: Value, service: &Service| {
        let mut settings = settings(service);
        settings
            .as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let error = model("gemini", settings).err().expect("refused");
        (
            error.code,
            format!("{error} {}", error.help.clone().unwrap_or_default()),
        )
    };
    let (code, said) = refusal(json!({ "model": "gemini-9" }), &healthy);
    assert!(code == Code::MISSING && said.contains("gemini-3.8-flash"), "{said}");
    let gone = {
        std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    };
    let (code, said) = refusal(json!({ "base_url": format!("http://{gone}") }), &healthy);
    assert!(code == Code::MISSING && said.contains(&gone.to_string()), "{said}");
    let (code, said) = refusal(
        json!({ "base_url": "https://generativelanguage.googleapis.com", "key_env": "SURELY_NOT_SET_ANYWHERE" }),
        &healthy,
    );
    assert!(
        code == Code::MISSING && said.contains("SURELY_NOT_SET_ANYWHERE"),
        "{said}"
    );
    let locked = Service::start(|_| {
        Act::status(
            400,
            google_error(
                400,
                "INVALID_ARGUMENT",
                "API key not valid. Please pass a valid API key.",
                json!([{ "reason": "API_KEY_INVALID" }]),
            ),
        )
    });
    let (code, said) = refusal(json!({}), &locked);
    assert!(code == Code::MISSING && said.contains("key"), "{said}");
    let proxy = Service::start(|_| Act::status(307, "").with("location", "http://elsewhere.example/"));
    let (code, said) = refusal(json!({}), &proxy);
    assert!(
        code == Code::MISSING && said.contains("which is not followed"),
        "{said}"
    );
}

#[test]
fn a_deadline_ends_a_call_that_hangs() {
    let service = service(|_| answer_after(Duration::from_millis(400)));
    let began = Instant::now();
    let came = ask_all(&open(&service), [prompt("p")], Some(Duration::from_millis(150)));
    let Some(Err(error)) = &came.replies[0] else {
        panic!("{:?}", texts(&came))
    };
    assert!(
        error.code == Code::DEADLINE && began.elapsed() < Duration::from_millis(380),
        "{error}"
    );
}

/// No more requests are in flight than the user allows, and each is paid once.
#[test]
fn a_thousand_prompts_keep_a_service_full() {
    let each = Duration::from_millis(60);
    let service = Service::start_lean(move |asked| listing(asked).unwrap_or_else(|| answer(asked, "ok").after(each)));
    let mut settings = settings(&service);
    settings["concurrency"] = "64".into();
    let model = model("gemini", settings).unwrap();
    let came = ask_all(&model, prompts(1000), None);
    assert!(came.replies.iter().all(|reply| matches!(reply, Some(Ok(_)))));
    assert_eq!(service.most_at_once(), 64);
}

/// A limit that a service does not announce is found out.
#[test]
fn a_service_that_takes_eight_at_a_time_is_not_overrun() {
    static AT_ONCE: AtomicU32 = AtomicU32::new(0);
    let service = Service::start_lean(|asked| {
        if let Some(act) = listing(asked) {
            return act;
        }
        let now = AT_ONCE.fetch_add(1, Ordering::SeqCst) + 1;
        std::thread::sleep(Duration::from_millis(10));
        AT_ONCE.fetch_sub(1, Ordering::SeqCst);
        match now {
            9.. => Act::status(429, "").with("retry-after-ms", "20"),
            _ => answer(asked, "ok"),
        }
    });
    let came = ask_all(&open(&service), prompts(200), None);
    assert!(texts(&came).iter().all(|text| text == "ok"), "{:?}", texts(&came));
    assert!(service.charges().values().all(|count| *count == 1));
}
