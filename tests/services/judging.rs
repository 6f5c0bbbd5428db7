//! Judging by a service: kills, quotas, budgets and keys, in a run with `--judge` and in `host compare --judge`.

use super::{DIALECTS, Dialect, KEY, Questions, charges, number, said, service};
use crate::pairs::build_what_is_stale;
use crate::support::plugin_file;
use fixture_service::{Act, Asked, Service, answer, google_error};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

const COUNT: usize = 24;

/// The answers of a judge of single answers, or of pairs.
pub fn verdict(asked: &Asked) -> Act {
    let verdict = match asked.prompt().contains("Answer A") {
        true => json!({ "reason": "by the rule", "winner": "A" }),
        false => json!({ "reason": "by the rule", "score": 1 }),
    };
    answer(asked, &verdict.to_string())
}

/// Questions that the echo and the stuck model answer, and a service that judges.
pub struct Judged {
    pub questions: Questions,
    dialect: Dialect,
}

impl Judged {
    pub fn new(dialect: Dialect, count: usize) -> Judged {
        let questions = Questions::new(count);
        let file = questions.bench.path("services.toml");
        let mut text = fs::read_to_string(&file).expect("a registry");
        build_what_is_stale(&["protocols", "rules"].map(|name| format!("lib{name}.so")));
        for name in ["protocols", "rules"] {
            text += &format!(
                "[plugins.{name}]\npath = {:?}\nisolation = \"in-process\"\n",
                plugin_file(name)
            );
        }
        fs::write(file, text).expect("a registry");
        Judged { questions, dialect }
    }

    /// A command with this service as the judge, and short timeouts.
    pub fn command(&self, what: &str, service: &Service, more: &str) -> Command {
        let judge = self.dialect.model();
        let setting = |pair: &str| format!(" -M {judge}:{pair}");
        let settings: String = [
            format!("base_url={}", service.address()).as_str(),
            format!("model={}", self.dialect.served()).as_str(),
            "first_pause=0.02",
            "patience=3",
            "silence=1",
            "deadline=3",
            "wait_for_engine=1",
            "connect=1",
            "concurrency=6-6-6",
        ]
        .map(setting)
        .concat();
        let mut command = self.questions.bench.command(&format!(
            "{what} --judge {judge}{settings} --registry services.toml {more}"
        ));
        command
            .env("OPENAI_API_KEY", KEY)
            .env("GOOGLE_API_KEY", KEY)
            .env_remove("GEMINI_API_KEY")
            .env("XDG_CACHE_HOME", self.questions.bench.path("cache"));
        command
    }

    #[track_caller]
    pub fn check(&self, what: &str, service: &Service, more: &str, exit: i32, words: &[&str]) -> String {
        said(
            self.command(what, service, more).output().expect("it starts"),
            exit,
            words,
        )
    }

    /// Runs a model that needs no service, and returns its directory.
    pub fn answered_by(&self, model: &str) -> PathBuf {
        let run = format!("{RUN} --model {model} --registry services.toml --out {model} --quiet");
        said(self.questions.bench.command(&run).output().expect("it starts"), 0, &[]);
        let names = self.questions.bench.directories(model);
        self.questions.bench.path(model).join(&names[0])
    }

    /// Kills the command at these counts of charged prompts, then lets it end.
    pub fn kill_and_end(&self, what: &str, service: &Service, at: &[usize]) {
        for reached in at {
            let mut command = self.command(what, service, "");
            let mut child = command
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("it starts");
            self.questions.wait(service, *reached);
            child.kill().expect("it is there");
            child.wait().expect("it ends");
        }
        self.check(what, service, "", 0, &[]);
    }
}

pub const RUN: &str = "run --task arc -T data=data -T mode=generate";

/// Compares the ledgers of these runs with the service's own count.
#[track_caller]
pub fn check_books(service: &Service, runs: &[PathBuf], prompts: usize, kills: usize) {
    let mut attempts: BTreeMap<(String, u64), bool> = BTreeMap::new();
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for run in runs {
        let text = fs::read_to_string(run.join("calls.jsonl")).unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
            let call = line["call"].as_str().expect("a call").to_owned();
            let got = line["event"] == "got";
            *attempts
                .entry((
                    format!("{call} of {}", run.display()),
                    line["attempt"].as_u64().expect("a number"),
                ))
                .or_default() |= got;
            *answers.entry(call).or_default() += usize::from(got && line["class"] == "answered");
        }
    }
    let orphans = attempts.values().filter(|got| !**got).count();
    let charged = service.charges();
    let twice: u32 = charged.values().map(|count| count - 1).sum();
    assert_eq!(charged.len(), prompts);
    // At each kill at most six calls were in flight.
    assert!(
        orphans <= 6 * kills && twice as usize <= orphans,
        "{twice} paid twice, {orphans} under way"
    );
    assert!(
        answers.values().all(|count| *count == 1),
        "an answered call was sent again"
    );
}

#[test]
fn a_killed_judging_pays_for_no_answered_call_twice() {
    for dialect in DIALECTS {
        let service = service(dialect, |asked| verdict(asked).after(Duration::from_millis(15)));
        let judged = Judged::new(dialect, COUNT);
        let what = format!("{RUN} --model echo");
        judged.kill_and_end(&what, &service, &[1, 7, 8, 19]);
        let run = judged.questions.bench.directory("");
        check_books(&service, std::slice::from_ref(&run), COUNT, 4);
        let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
        let judge = &results["host"]["judges"][format!("rubric[{}]", dialect.model())];
        assert_eq!((&judge["n"], &judge["unscored"]), (&COUNT.into(), &0.into()), "{judge}");
        let before = charges(&[&service]);
        judged.check(&what, &service, "", 0, &[]);
        assert_eq!(charges(&[&service]), before);
    }
}

#[test]
fn results_say_what_was_asked_of_whom_and_another_reading_asks_nobody() {
    let dialect = Dialect::Openai;
    // Every third answer comes from another model than the requested one.
    let service = service(dialect, |asked| {
        let mut act = verdict(asked);
        if let (0, fixture_service::Body::Whole(body)) = (number(asked) % 3, &mut act.body) {
            *body = String::from_utf8_lossy(body)
                .replace("\"model\":\"m\"", "\"model\":\"n\"")
                .into_bytes();
        }
        act
    });
    let judged = Judged::new(dialect, 6);
    fs::write(judged.questions.bench.path("prices.toml"), PRICES).unwrap();
    let more = "-M openai:prices=prices.toml -M openai:stream=off";
    judged.check(&format!("{RUN} --model echo"), &service, more, 0, &[]);
    let run = judged.questions.bench.directory("");
    let results = || -> Value { serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap() };
    let first = results();
    let judge = &first["host"]["judges"]["rubric[openai]"];
    for name in ["template_sha256", "schema_sha256"] {
        assert_eq!(judge[name].as_str().map(str::len), Some(16), "{judge}");
    }
    let engine = &judge["engines"]["judge"];
    assert_eq!(
        (&judge["reader"], &engine["engine"]["key"]),
        (&1.into(), &"OPENAI_API_KEY".into()),
        "{judge}"
    );
    assert!(
        engine["host"].as_str().is_some_and(|host| host.contains("127.0.0.1")),
        "{judge}"
    );
    assert_eq!(
        (&judge["n"], &judge["flags"]["moved-model"]),
        (&6.into(), &2.into()),
        "{judge}"
    );
    assert!(judge["sampling_ignored"].is_array());
    let calls = &first["host"]["calls"]["judge"];
    assert_eq!(calls["prices"], json!(["2020-01-01, a test"]));
    assert!(calls["first_unix_ms"].as_u64() <= calls["last_unix_ms"].as_u64() && calls["last_unix_ms"].is_u64());

    // The same questions under another rule: the stored answers are parsed again.
    let before = service.requests().iter().filter(|asked| !asked.lists()).count();
    let again = format!("score {}", run.display());
    judged.check(
        &again,
        &service,
        &format!("{more} -J pin=strict"),
        0,
        &["2 answers unscored"],
    );
    assert_eq!(service.requests().iter().filter(|asked| !asked.lists()).count(), before);
    let judge = results()["host"]["judges"]["rubric[openai]"].clone();
    assert_eq!(
        (&judge["n"], &judge["why"]["moved_model"]),
        (&4.into(), &2.into()),
        "{judge}"
    );
}

#[test]
fn a_killed_comparison_pays_for_no_answered_call_twice() {
    let dialect = Dialect::Openai;
    let service = service(dialect, |asked| verdict(asked).after(Duration::from_millis(10)));
    let judged = Judged::new(dialect, COUNT);
    let runs = [judged.answered_by("echo"), judged.answered_by("stuck")];
    let what = format!("compare {} {} --out all", runs[0].display(), runs[1].display());
    // Each side separately, then the pairs in both orders: four calls a sample.
    judged.kill_and_end(&what, &service, &[3, 30, 55, 80]);
    check_books(&service, &runs, 4 * COUNT, 4);
    let rows = fs::read_to_string(judged.questions.bench.path("all/comparison_results.jsonl")).unwrap();
    assert_eq!(rows.lines().count(), COUNT);
}

/// The model's answer to each question, and the name of the outcome.
const ANSWERS: [(&str, &str, &str); 8] = [
    (r#"{"reason": "r", "score": 1}"#, "STOP", "ok"),
    (
        "Here it is:\n```json\n{\"reason\": \"r\", \"score\": 0}\n```",
        "STOP",
        "ok",
    ),
    (r#"{"reason": "r", "score": 1}"#, "MAX_TOKENS", "cut_short"),
    ("", "STOP", "empty"),
    ("It is quite good.", "STOP", "unparsable"),
    (
        r#"{"reason": "r", "score": 1} {"reason": "s", "score": 0}"#,
        "STOP",
        "two_verdicts",
    ),
    (r#"{"reason": "r", "score": 7}"#, "STOP", "off_menu"),
    ("", "SAFETY", "blocked_answer"),
];

#[test]
fn each_answer_comes_to_its_word() {
    for dialect in DIALECTS {
        let service = service(dialect, move |asked| {
            let (text, finish, _) = ANSWERS[number(asked) % 10 % ANSWERS.len()];
            match (dialect, number(asked)) {
                (Dialect::Gemini, 8) => Act::json(&json!({ "promptFeedback": { "blockReason": "SAFETY" },
                    "usageMetadata": { "promptTokenCount": 12, "totalTokenCount": 12 } })),
                (Dialect::Gemini, 9) => {
                    let mut thoughts = fixture_service::gemini("I wonder", "MAX_TOKENS");
                    thoughts["candidates"][0]["content"]["parts"][0]["thought"] = true.into();
                    Act::json(&thoughts)
                }
                (Dialect::Gemini, _) => Act::json(&fixture_service::gemini(text, finish)),
                (Dialect::Openai, _) => {
                    let finish = match finish {
                        "MAX_TOKENS" => "length",
                        "SAFETY" => "content_filter",
                        _ => "stop",
                    };
                    Act::json(&fixture_service::openai(text, finish))
                }
            }
        });
        let count = if dialect == Dialect::Gemini { 10 } else { 8 };
        let judged = Judged::new(dialect, count);
        let what = format!("{RUN} --model echo");
        let stream = if dialect == Dialect::Openai {
            "-M openai:stream=off"
        } else {
            ""
        };
        judged.check(&what, &service, stream, 0, &["unscored"]);
        let run = judged.questions.bench.directory("");
        let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
        let found = &results["host"]["judges"][format!("rubric[{}]", dialect.model())];
        let mut expected: BTreeMap<&str, u64> = BTreeMap::new();
        for (_, _, why) in ANSWERS {
            *expected.entry(why).or_default() += 1;
        }
        if dialect == Dialect::Gemini {
            *expected.entry("blocked_prompt").or_default() += 1;
            *expected.entry("cut_short").or_default() += 1;
        }
        assert_eq!(found["why"], json!(expected), "{found}");
        assert_eq!((&found["n"], &found["of"]), (&2.into(), &count.into()));
        // One right, one wrong; the others do not change the mean but give it bounds.
        let all = count as f64;
        assert_eq!(found["bounds"], json!([1.0 / all, (all - 1.0) / all]));
        assert!(
            service.charges().values().all(|times| *times == 1),
            "an answer was asked for twice"
        );
    }
}

#[test]
fn one_flag_chooses_who_judges() {
    let bench = Judged::new(Dialect::Openai, 3);
    let echo = plugin_file("fixture-echo").display().to_string();
    let file = bench.questions.bench.path("services.toml");
    let text = fs::read_to_string(&file).unwrap()
        + &format!(
            "[plugins.referees]\npath = {echo:?}\nisolation = \"in-process\"\n[models.referee]\nplugin = \"referees\"\n"
        );
    fs::write(&file, text).unwrap();
    let run = bench.answered_by("echo");
    let services = DIALECTS.map(|dialect| (dialect, service(dialect, verdict)));
    let settings: String = services
        .iter()
        .map(|(dialect, service)| {
            let name = dialect.model();
            format!(
                " -M {name}:base_url={} -M {name}:model={}",
                service.address(),
                dialect.served()
            )
        })
        .collect();
    let score = format!(
        "score {} --judge openai,gemini,referee --registry services.toml{settings}",
        run.display()
    );
    let mut command = bench.questions.bench.command(&score);
    command
        .env("OPENAI_API_KEY", KEY)
        .env("GOOGLE_API_KEY", KEY)
        .env_remove("GEMINI_API_KEY");
    let words = ["rubric[openai]", "rubric[gemini]", "rubric[referee]"];
    said(command.output().unwrap(), 0, &words);
}

#[test]
fn a_missing_or_wrong_key_is_found_before_the_first_sample() {
    for dialect in DIALECTS {
        let judged = Judged::new(dialect, 3);
        let refusing = Service::start(|_| {
            Act::status(
                401,
                json!({ "error": { "code": 401, "message": "API key not valid" } }).to_string(),
            )
        });
        let what = format!("{RUN} --model echo");
        judged.check(&what, &refusing, "", 3, &["does not accept the key"]);
        assert!(!judged.questions.bench.path("runs").exists(), "nothing was run");
    }
    // The service itself; nothing leaves this machine, since there is no key to send.
    let judged = Judged::new(Dialect::Gemini, 3);
    let run = format!("{RUN} --model echo --judge gemini --registry services.toml");
    let mut command = judged.questions.bench.command(&run);
    command.env_remove("GOOGLE_API_KEY").env_remove("GEMINI_API_KEY");
    said(command.output().unwrap(), 3, &["no key", "GOOGLE_API_KEY"]);
    assert!(!judged.questions.bench.path("runs").exists(), "nothing was run");
}

#[test]
fn a_daily_quota_ends_judging_at_once_and_the_same_command_goes_on() {
    for dialect in DIALECTS {
        let open = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (many, paid) = (open.clone(), std::sync::atomic::AtomicUsize::new(0));
        let service = service(dialect, move |asked| {
            let before = paid.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            if before < 9 || many.load(std::sync::atomic::Ordering::SeqCst) {
                return verdict(asked);
            }
            let detail = json!([{ "@type": "type.googleapis.com/google.rpc.QuotaFailure",
                                  "violations": [{ "quotaId": "GenerateRequestsPerDayPerProjectPerModel" }] }]);
            Act::status(429, google_error(429, "RESOURCE_EXHAUSTED", "quota", detail))
        });
        let judged = Judged::new(dialect, COUNT);
        let what = format!("{RUN} --model echo");
        let words = ["can't go on", "quota", "the same command continues"];
        judged.check(&what, &service, "", 5, &words);
        assert!(
            service.requests().len() < 9 + 12 + 8,
            "{} requests",
            service.requests().len()
        );
        open.store(true, std::sync::atomic::Ordering::SeqCst);
        judged.check(&what, &service, "", 0, &[]);
        let charged = charges(&[&service]);
        assert!(
            charged.len() == COUNT && charged.values().all(|count| *count == 1),
            "{charged:?}"
        );
    }
}

/// A tenth of a dollar a thousand tokens: 12 read and 8 written are a fifth of a cent.
pub const PRICES: &str = "as_of = 2026-01-01\nprice = [{ model = \"m\", from = 2020-01-01, input = 100, output = 100, source = \"a test\" }]\n";

#[test]
fn what_judging_may_cost_is_kept_to() {
    let service = service(Dialect::Openai, verdict);
    let judged = Judged::new(Dialect::Openai, COUNT);
    fs::write(judged.questions.bench.path("prices.toml"), PRICES).unwrap();
    let runs = [judged.answered_by("echo"), judged.answered_by("stuck")];
    let compare = format!("compare {} {} --out all", runs[0].display(), runs[1].display());
    let what = [format!("{RUN} --model echo --out judged"), compare];
    let more = "-M openai:prices=prices.toml -J max_tokens=16";
    for (place, what) in what.iter().enumerate() {
        let words = ["can't go on", "--max-cost-usd"];
        let before: u32 = charges(&[&service]).values().sum();
        judged.check(what, &service, &format!("{more} --max-cost-usd 0.04"), 5, &words);
        let paid = f64::from(charges(&[&service]).values().sum::<u32>() - before) * 0.002;
        assert!(paid > 0.0 && paid <= 0.04, "{paid}");
        judged.check(what, &service, &format!("{more} --max-cost-usd 5"), 0, &[]);
        // The echo's answers are judged in both directories, which share no ledger.
        let charged = service.charges();
        let expected = COUNT + if place == 0 { 0 } else { 3 * COUNT };
        assert_eq!(charged.len(), expected);
        assert_eq!(charged.values().sum::<u32>() as usize, COUNT * (1 + 4 * place));
    }
}

#[test]
fn a_planted_key_is_in_nothing_that_judging_writes() {
    for dialect in DIALECTS {
        let service = service(dialect, |asked| match number(asked) % 6 {
            0 => answer(
                asked,
                &json!({ "reason": format!("said {KEY}"), "score": 1, "winner": "A" }).to_string(),
            ),
            1 => Act::status(500, format!("bad key {KEY}")),
            2 => Act::status(200, format!("garbage {KEY}")),
            3 => Act::status(400, format!(r#"{{"error": {{"message": "not {KEY}"}}}}"#)),
            4 => answer(asked, KEY),
            _ => verdict(asked),
        });
        let judged = Judged::new(dialect, 12);
        let runs = [judged.answered_by("echo"), judged.answered_by("stuck")];
        let compare = format!("compare {} {} --out all", runs[0].display(), runs[1].display());
        for what in [compare, format!("{RUN} --model echo --out judged")] {
            let output = judged.command(&what, &service, "").output().unwrap();
            let both = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert!(!both.concat().contains(KEY), "{both:?}");
        }
        super::secrets::check_absent(&judged.questions);
    }
}

#[test]
fn the_text_of_a_panic_holds_no_key() {
    // The service's text reaches the judge, which panics with it.
    let service = service(Dialect::Openai, |asked| answer(asked, &format!("the key is {KEY}")));
    let judged = Judged::new(Dialect::Openai, 2);
    let judge = "run --model echo --task count -T n=2 --judge parrot --role judge=openai";
    let echo = plugin_file("fixture-echo").display().to_string();
    let file = judged.questions.bench.path("services.toml");
    let text = fs::read_to_string(&file).unwrap()
        + &format!("[plugins.parrots]\npath = {echo:?}\n[judges.parrot]\nplugin = \"parrots\"\n");
    fs::write(&file, text).unwrap();
    let settings = format!("-M openai:base_url={} -M openai:model=m", service.address());
    let mut command = judged
        .questions
        .bench
        .command(&format!("{judge} {settings} --registry services.toml"));
    let output = command.env("OPENAI_API_KEY", KEY).output().unwrap();
    let both = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(!both.concat().contains(KEY), "{both:?}");
    assert!(both.concat().contains("failed on 2 answers"), "{both:?}");
    super::secrets::check_absent(&judged.questions);
}
