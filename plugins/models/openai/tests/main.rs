//! The plugin at scripted servers: five engines, and the faults of the network in this dialect.

use fixture_service::asking::{Came, ask_all, model};
use fixture_service::engine::{Engine, Profile};
use fixture_service::{Act, Asked, Service, answer, openai as reply_of, openai_events};
use openai as _;
use plugin_api::client::ModelClient;
use plugin_api::{Clip, Code, Constraint, Finish, LoraUse, Message, NoCallbacks, Part, Prompt, Reply, Sampling};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const ALL: [Profile; 7] = [
    Profile::Vllm,
    Profile::Sglang,
    Profile::Llamacpp,
    Profile::LlamaCppPython,
    Profile::Ollama,
    Profile::Transformers,
    Profile::Openai,
];

fn engine(profile: Profile) -> (Arc<Engine>, Service) {
    serve(Engine::new(profile))
}

fn serve(engine: Engine) -> (Arc<Engine>, Service) {
    let engine = Arc::new(engine);
    let acting = engine.clone();
    (engine, Service::start(move |asked| acting.act(asked)))
}

fn with(service: &Service, more: Value) -> plugin_api::Result<ModelClient> {
    let mut settings = json!({ "base_url": service.address(), "model": "m", "probe": "on", "first_pause": 0.02, "patience": 2, "silence": 0.5, "deadline": 5, "wait_for_engine": 1 });
    settings
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    model("openai", settings)
}

fn prompt(text: &str) -> Prompt {
    Prompt::new([Message::user(text)]).sample(Sampling::greedy(64))
}

fn capabilities(model: &ModelClient) -> Value {
    model.card().unwrap().other["engine"]["capabilities"].clone()
}

#[test]
fn each_engine_is_found_to_be_what_it_is() {
    for profile in ALL {
        let (_, service) = engine(profile);
        let model = with(&service, json!({ "probe": "on" })).unwrap();
        let card = model.card().unwrap();
        let found = capabilities(&model);
        let said = format!("{profile:?}: {found}");
        assert_eq!(card.other["engine"]["kind"], profile.word(), "{said}");
        let expect = |name: &str, expected: Value| assert_eq!(found[name], expected, "`{name}` of {said}");
        expect(
            "echo",
            if profile == Profile::Vllm {
                json!(0)
            } else {
                Value::Null
            },
        );
        expect("native", json!(profile == Profile::Sglang));
        expect(
            "forced",
            json!(matches!(profile, Profile::Llamacpp | Profile::LlamaCppPython)),
        );
        expect("continues", json!(profile == Profile::Vllm));
        let scores = !matches!(profile, Profile::Ollama | Profile::Transformers);
        expect("first_token", json!(scores));
        expect(
            "tokenize",
            json!(!matches!(
                profile,
                Profile::Ollama | Profile::Transformers | Profile::Openai
            )),
        );
        expect(
            "constrains",
            match profile {
                Profile::Vllm => json!("structured_outputs"),
                Profile::Transformers => Value::Null,
                _ => json!("response_format"),
            },
        );
        expect(
            "thinks",
            match profile {
                Profile::Ollama => json!("effort"),
                Profile::Vllm | Profile::Sglang | Profile::Llamacpp => json!("template"),
                _ => Value::Null,
            },
        );
        let hears = profile != Profile::LlamaCppPython;
        expect(
            "hears",
            match profile {
                Profile::Sglang => json!("audio_url"),
                _ if hears => json!("input_audio"),
                _ => Value::Null,
            },
        );
        if profile == Profile::LlamaCppPython {
            let seen = found["seen"]["echo"].as_str().unwrap();
            assert!(seen.contains("out of step by one"), "{said}");
        }
        expect("repeatable", json!("yes"));
        expect("truncates_silently", json!(false));
        assert_eq!((card.scores_choices, card.hears()), (scores, hears), "{said}");
        assert_eq!(
            card.can_constrain(Constraint::JsonSchema),
            profile != Profile::Transformers,
            "{said}"
        );
        assert!(service.requests().len() < 60, "{}", service.requests().len());
    }
}

#[test]
fn a_dropped_audio_part_is_found() {
    let (_, service) = serve(Engine::new(Profile::Vllm).dropping_audio());
    assert!(!with(&service, json!({})).unwrap().card().unwrap().hears());
    let error = with(&service, json!({ "hears": "on" })).err().unwrap();
    assert!(error.message.contains("drops it"), "{error}");
}

#[test]
fn a_server_that_cuts_prompts_in_silence_is_found() {
    let (_, service) = serve(Engine::new(Profile::Vllm).truncating());
    assert_eq!(
        capabilities(&with(&service, json!({})).unwrap())["truncates_silently"],
        true
    );
}

/// Checks scores against the engine's formula.
fn scores(
    profile: Profile,
    way: &str,
    prompt: &Prompt,
    context: &dyn Fn(&Engine) -> String,
    options: &[&str],
) -> (Vec<f64>, Vec<f64>) {
    let (engine, service) = engine(profile);
    let model = with(&service, json!({ "probe": "on", "choices": way })).unwrap();
    let reply = model
        .reply(&prompt.clone().choose(options.iter().copied()), &NoCallbacks)
        .unwrap();
    assert_eq!(reply.other["choices"], way);
    let context = context(&engine);
    (
        reply.options.iter().map(|option| option.loglik).collect(),
        options
            .iter()
            .map(|option| engine.loglik("m", &context, option))
            .collect(),
    )
}

#[test]
fn options_have_the_likelihoods_of_the_engines_own_formula() {
    let plain = Prompt::plain("The sky is");
    let talk = Prompt::new([Message::user("What colour is the sky?")]);
    let options = [" blue", " green", " black as night"];
    let check = |profile, way: &str, prompt: &Prompt, context: &dyn Fn(&Engine) -> String| {
        let (found, expected) = scores(profile, way, prompt, context, &options);
        for (found, expected) in found.iter().zip(&expected) {
            assert!(
                (found - expected).abs() < 1e-9,
                "{profile:?} {way}: {found}, expected {expected}"
            );
        }
    };
    let rendered =
        |engine: &Engine| engine.rendered(&json!([{ "role": "user", "content": "What colour is the sky?" }]));
    check(Profile::Vllm, "tokens", &plain, &|_| "The sky is".to_owned());
    check(Profile::Sglang, "tokens", &plain, &|_| "The sky is".to_owned());
    check(Profile::Vllm, "tokens", &talk, &rendered);
    check(Profile::Sglang, "tokens", &talk, &rendered);
    check(Profile::Llamacpp, "tokens", &plain, &|_| "The sky is".to_owned());
    check(Profile::Llamacpp, "tokens", &talk, &rendered);
    check(Profile::LlamaCppPython, "tokens", &plain, &|_| "The sky is".to_owned());
    check(Profile::Vllm, "continue", &talk, &rendered);
}

#[test]
fn two_exact_ways_are_held_against_each_other() {
    let (_, service) = engine(Profile::Vllm);
    let model = with(&service, json!({})).unwrap();
    let reply = model
        .reply(
            &Prompt::new([Message::user("Which?")]).choose([" one", " two"]),
            &NoCallbacks,
        )
        .unwrap();
    assert_eq!(reply.other["other_way"]["choices"], "continue");
    assert!(reply.other["other_way"]["largest_difference"].as_f64().unwrap() < 1e-9);
}

#[test]
fn options_are_refused_where_they_cannot_be_had() {
    let (_, service) = engine(Profile::Ollama);
    let model = with(&service, json!({})).unwrap();
    let error = model.reply(&prompt("x").choose(["a", "b"]), &NoCallbacks).unwrap_err();
    assert_eq!(error.code, Code::UNSUPPORTED);
    let (_, service) = engine(Profile::Transformers);
    let error = with(&service, json!({ "choices": "tokens" })).err().unwrap();
    assert!(
        error.code == Code::SETTINGS && error.message.contains("choices=tokens"),
        "{error}"
    );
    // The first token alone cannot score words; other prompts would fail as well, so no more requests are sent.
    let (_, service) = engine(Profile::Openai);
    let model = with(&service, json!({})).unwrap();
    let asked = prompt("x").choose(["one way", "another way"]);
    let came = ask_all(&model, [asked.clone(), asked], None);
    let over = came.over.expect("the run ends");
    assert!(
        over.code == Code::UNSUPPORTED && over.message.contains("one token"),
        "{over}"
    );
}

#[test]
fn an_engine_that_refuses_fields_is_sent_none_that_it_lacks() {
    let (_, service) = engine(Profile::Transformers);
    let model = with(&service, json!({})).unwrap();
    let sampling = Sampling {
        top_k: Some(5),
        repetition_penalty: Some(1.5),
        ..Sampling::greedy(8)
    };
    let asked = Prompt::new([Message::user("me")]).sample(sampling);
    let reply = model.reply(&asked, &NoCallbacks).unwrap();
    assert_eq!(
        (reply.text.as_str(), &reply.other["sampling_ignored"]),
        ("answer to me", &json!(["top_k"]))
    );
    let body = service.requests().pop().unwrap().body;
    assert_eq!(
        (&body["frequency_penalty"], &body["top_p"], &body["seed"]),
        (&json!(0.5), &json!(1.0), &json!(0))
    );
}

#[test]
fn base_and_lora_answer_from_one_server() {
    let (engine, service) = engine(Profile::Vllm);
    let model = with(&service, json!({ "lora": "mine=tuned", "choices": "tokens" })).unwrap();
    assert_eq!(model.card().unwrap().loras, ["mine"]);
    for (used, name) in [
        (LoraUse::Off, "m"),
        (LoraUse::Only(vec!["mine".to_owned()]), "tuned"),
        (LoraUse::AsLoaded, "tuned"),
    ] {
        let prompt = Prompt {
            lora: used,
            ..Prompt::plain("The sky is").choose([" blue"])
        };
        let found = model.reply(&prompt, &NoCallbacks).unwrap().options[0].loglik;
        assert!(
            (found - engine.loglik(name, "The sky is", " blue")).abs() < 1e-9,
            "{name}"
        );
    }
    let error = with(&service, json!({ "lora": "mine=absent" })).err().unwrap();
    assert!(error.code == Code::MISSING && error.help.unwrap().contains("tuned"));
}

#[test]
fn sound_arrives_as_it_is_in_the_record() {
    let (_, service) = engine(Profile::Vllm);
    let model = with(&service, json!({ "audio_format": "wav32" })).unwrap();
    let samples: Vec<f32> = (0..16_000).map(|at| (at as f32 * 0.01).sin()).collect();
    let mut asked = Prompt::new([Message {
        parts: vec![Part::clip(0), Part::text("What is it?")],
        ..Message::default()
    }]);
    asked.clips = vec![Clip::new(16_000, samples.clone())];
    let reply = model.reply(&asked.sample(Sampling::greedy(8)), &NoCallbacks).unwrap();
    let sent = service.requests().pop().unwrap().body;
    let data = sent["messages"][0]["content"][0]["input_audio"]["data"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(data.len(), (44 + samples.len() * 4_usize).div_ceil(3) * 4);
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    assert_eq!(reply.other["clips_sent"][0]["sha256"], remote::sha256_hex(&bytes));
    assert!(reply.usage.prompt_tokens > 20, "{:?}", reply.usage);
}

#[test]
fn answers_are_streamed_and_stop_where_they_should() {
    let (_, service) = engine(Profile::Vllm);
    let model = with(&service, json!({})).unwrap();
    let stops = ["1", "2", "3", "4", " to"].map(str::to_owned).to_vec();
    let asked = Prompt::new([Message::user("me")]).sample(Sampling {
        stop: stops,
        ..Sampling::greedy(64)
    });
    let came = ask_all(&model, [prompt("me"), asked], None);
    let texts: Vec<&str> = came
        .replies
        .iter()
        .map(|reply| reply.as_ref().unwrap().as_ref().unwrap().text.as_str())
        .collect();
    assert_eq!(
        (texts, came.streamed[0].as_str()),
        (vec!["answer to me", "answer"], "answer to me")
    );
    let first = came.replies[0].as_ref().unwrap().as_ref().unwrap();
    assert!(first.timing.first_token_ms.is_some() && first.finish == Finish::Stop);
    assert_eq!(first.other["fingerprint"], "vllm-1");
}

#[test]
fn a_wrong_name_is_refused_with_those_that_are_served() {
    let (_, service) = engine(Profile::Vllm);
    let error = with(&service, json!({ "model": "other" })).err().unwrap();
    assert!(error.code == Code::MISSING && error.help.unwrap().contains("`m`, `tuned`"));
}

#[test]
fn addresses_that_serve_different_versions_are_refused() {
    let (one, other) = (engine(Profile::Vllm).1, engine(Profile::Sglang).1);
    let both = format!("{},{}", one.address(), other.address());
    let error = with(&one, json!({ "base_url": both })).err().unwrap();
    assert!(error.message.contains("differ in their engine"), "{error}");
}

#[test]
fn a_prompt_beyond_the_window_fails_alone() {
    let (_, service) = engine(Profile::Vllm);
    let came = ask_all(
        &with(&service, json!({})).unwrap(),
        [prompt(&"word ".repeat(9000)), prompt("me")],
        None,
    );
    let Some(Err(error)) = &came.replies[0] else {
        panic!("an answer")
    };
    assert!(error.code == Code::TOO_LONG && came.replies[1].as_ref().unwrap().is_ok());
}

#[test]
fn a_part_that_no_request_may_have_ends_the_work_once() {
    let (_, service) = engine(Profile::Sglang);
    let model = with(&service, json!({ "hears": "on", "audio_part": "input_audio" })).unwrap();
    let mut asked = Prompt::new([Message {
        parts: vec![Part::clip(0)],
        ..Message::default()
    }]);
    asked.clips = vec![Clip::new(16_000, vec![0.0; 1600])];
    let came = ask_all(&model, (0..30).map(|_| asked.clone()), None);
    let over = came.over.expect("it ends");
    assert!(over.code == Code::UNSUPPORTED && over.help.unwrap().contains("hears=off"));
    assert!(came.replies.iter().all(Option::is_none));
}

fn plain(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Service {
    Service::start(move |asked| match asked.lists() {
        true if asked.path == "/v1/models" => Act::status(
            200,
            json!({ "data": [{ "id": "m", "owned_by": "someone" }] }).to_string(),
        ),
        true => Act::status(404, "{}"),
        false => script(asked),
    })
}

fn one(script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> (plugin_api::Result<Reply>, usize, u32, Came) {
    let service = plain(script);
    let mut came = ask_all(
        &with(&service, json!({ "probe": "auto" })).unwrap(),
        [prompt("p")],
        None,
    );
    let asked = service.requests().iter().filter(|asked| asked.prompt() == "p").count();
    let reply = came.replies[0]
        .take()
        .unwrap_or_else(|| Err(came.over.clone().expect("a reason")));
    (reply, asked, service.charges().get("p").copied().unwrap_or(0), came)
}

#[test]
fn a_server_that_says_nothing_of_itself_is_asked_nothing_but_prompts() {
    let service = plain(|asked| answer(asked, "ok"));
    let model = with(&service, json!({ "probe": "auto" })).unwrap();
    ask_all(&model, [prompt("p")], None);
    let posts: Vec<_> = service.requests().into_iter().filter(|asked| !asked.lists()).collect();
    assert_eq!(posts.len(), 1);
    let known = [
        "model",
        "messages",
        "max_tokens",
        "temperature",
        "stream",
        "stream_options",
    ];
    assert!(
        posts[0]
            .body
            .as_object()
            .unwrap()
            .keys()
            .all(|key| known.contains(&key.as_str())),
        "{}",
        posts[0].body
    );
}

#[test]
fn faults_are_tried_again_or_not_by_what_they_cost() {
    let quick = |act: Act| act.with("retry-after-ms", "10");
    for (name, act, code) in [
        ("429", quick(Act::status(429, "")), None),
        ("500", Act::status(500, json!({ "error": { "message": "oops" } }).to_string()), None),
        ("loading", Act::status(503, json!({ "error": { "message": "Loading model" } }).to_string()), None),
        ("html", Act::status(200, "<html>").with("content-type", "text/html").charged(true), None),
        ("cut", Act::json(&reply_of("ok", "stop")).cut_after(40), None),
        ("stream cut", Act::events(openai_events("ok", "stop").into_iter().take(2), Duration::ZERO), None),
        ("error in stream", Act::events([json!({ "error": { "message": "CUDA out of memory" } })], Duration::ZERO), None),
        ("401", Act::status(401, ""), Some(Code::MISSING)),
        ("402", Act::status(402, ""), Some(Code::MISSING)),
        ("404", Act::status(404, ""), Some(Code::MISSING)),
        ("no credit", Act::status(429, json!({ "error": { "message": "x", "code": "insufficient_quota" } }).to_string()), Some(Code::MISSING)),
        ("per day", Act::status(429, json!({ "error": { "message": "Rate limit reached: requests per day" } }).to_string()), Some(Code::RATE_LIMITED)),
        ("refused", Act::status(400, json!({ "error": { "message": "bad" } }).to_string()), Some(Code::SERVICE)),
        ("long", Act::status(400, json!({ "error": { "message": "maximum context length is 10 tokens", "code": "context_length_exceeded" } }).to_string()), Some(Code::TOO_LONG)),
    ] {
        let (reply, asked, ..) = one(move |asked| if asked.earlier == 0 { act.clone() } else { answer(asked, "ok") });
        match code {
            None => assert_eq!((reply.map(|reply| reply.text), asked), (Ok("ok".to_owned()), 2), "{name}"),
            Some(code) => assert_eq!((reply.map_err(|error| error.code).err(), asked), (Some(code), 1), "{name}"),
        }
    }
}

#[test]
fn a_server_that_ignores_the_wish_for_a_stream_is_understood() {
    let (reply, asked, charged, _) = one(|_| Act::json(&reply_of("whole", "stop")));
    assert_eq!((reply.unwrap().text.as_str(), asked, charged), ("whole", 1, 1));
}

#[test]
fn cut_and_filtered_answers_are_paid_once() {
    for (finish, why, ending) in [
        ("length", "cut_short", Finish::Length),
        ("content_filter", "blocked_answer", Finish::Filtered),
    ] {
        let (reply, asked, charged, _) = one(move |_| Act::json(&reply_of("x", finish)));
        let reply = reply.unwrap();
        assert_eq!(
            (reply.finish, reply.other["why"].as_str(), asked, charged),
            (ending, Some(why), 1, 1)
        );
    }
}
