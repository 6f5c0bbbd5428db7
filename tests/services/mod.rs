//! The real program in front of services that fail in every way they have been seen to fail: what it says, what it
//! keeps, and what each prompt was charged by the service's own books.
//!
//! What judging by a service has to fulfil, and the tests that show it:
//!
//! | condition | tests |
//! |---|---|
//! | rate limits with and without a wait, 5xx, refused connections: asked again | `faults::a_service_that_is_busy_or_ill_for_a_moment_is_asked_again` |
//! | slow, hanging and cut answers: asked once more, and counted as maybe charged | `faults::what_may_have_been_charged_…`, `faults::a_stream_that_ends_early_or_never_is_no_answer` |
//! | garbage, another content type, an empty body | `faults::nonsense_is_no_answer` |
//! | blocked prompts and answers, thoughts only | `faults::a_blocked_answer_is_an_answer`, `judging::each_answer_comes_to_its_word` |
//! | fenced answers, two verdicts, off the menu, another model version: each its own `why` | `verdicts::each_fault_of_a_service_costs_its_own_verdict_alone`, `judging::each_answer_comes_to_its_word` |
//! | redirects | `faults::a_redirect_is_not_followed_and_takes_no_key_elsewhere` |
//! | 400 and 413 fail one case, and the same three times in a row end the work | `faults::three_refusals_in_the_same_words_end_the_run` |
//! | 401, 402, 403, 404: found before the first sample, or ending the work with everything kept | `faults::a_key_credit_or_model_that_fails_…`, `faults::a_key_that_fails_under_way_…`, `judging::a_missing_or_wrong_key_…`, `verdicts::what_ends_judging_keeps_every_verdict_…` |
//! | quotas per day | `faults::a_daily_quota_ends_the_run_…`, `judging::a_daily_quota_ends_judging_at_once_…` |
//! | both dialects | all of the above |
//! | each prompt is charged once over any number of kills and resumes, except the maybe class | `kills`, `judging::a_killed_judging_…`, `judging::a_killed_comparison_…`, `transcribing::a_clip_that_a_service_has_heard_is_paid_for_once` |
//! | the maybe class is reported in dollars, and spending stops at its limit | `money`, `judging::results_say_what_was_asked_of_whom_…`, `judging::what_judging_may_cost_is_kept_to` |
//! | the key is nowhere | `secrets`, `judging::a_planted_key_…`, `judging::the_text_of_a_panic_holds_no_key` |
//! | a changed parser reads stored answers again | `verdicts::when_the_reader_changes_…` |
//! | any protocol with `gemini`, an OpenAI endpoint and a local model by one flag | `judging::one_flag_chooses_who_judges`, `panel` |
//! | unscored is neither wrong, right nor a tie, and bounds are printed | `verdicts::a_comparison_says_how_far_it_could_move_by_what_is_unscored` |
//! | `host compare` of a run with itself: 0, p = 1, no flips | `compare::a_run_compared_with_itself_differs_in_nothing` |
//! | statistics to 1e-6 | the unit tests of the crate `statistics` |
//! | 64 calls under way | `a_thousand_prompts_keep_a_service_full` of the plugin `gemini`, without a clock; `examples/judging/measure.py` measures the time beside the service's own |

mod faults;
mod judging;
mod kills;
mod money;
mod panel;
mod probes;
mod secrets;
mod transcribing;
mod verdicts;

use crate::support::{Bench, plugin_file};
use fixture_service::{Act, Asked, Service, answer};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

pub const KEY: &str = "planted-Zq7Lw-key-that-nobody-may-see";

/// The dialect of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    Openai,
    Gemini,
}

pub const DIALECTS: [Dialect; 2] = [Dialect::Openai, Dialect::Gemini];

impl Dialect {
    pub fn model(self) -> &'static str {
        match self {
            Dialect::Openai => "openai",
            Dialect::Gemini => "gemini",
        }
    }

    /// The name that the service gives its model.
    pub fn served(self) -> &'static str {
        match self {
            Dialect::Openai => "m",
            Dialect::Gemini => "gemini-3.8-flash",
        }
    }

    fn listing(self, asked: &Asked) -> Act {
        let name = self.served();
        let known = json!({ "name": format!("models/{name}"), "version": "3.8", "inputTokenLimit": 1_000_000 });
        match asked.path.as_str() {
            "/v1/models" => Act::status(
                200,
                json!({ "object": "list", "data": [{ "id": name, "owned_by": "nobody" }] }).to_string(),
            ),
            path if path == format!("/v1beta/models/{name}") => Act::status(200, known.to_string()),
            path if path.starts_with("/v1beta/models?") => Act::status(200, json!({ "models": [known] }).to_string()),
            _ => Act::status(
                404,
                json!({ "error": { "code": 404, "message": "no such model" } }).to_string(),
            ),
        }
    }
}

/// A service that lists its model and answers prompts by a script.
pub fn service(dialect: Dialect, script: impl Fn(&Asked) -> Act + Send + Sync + 'static) -> Service {
    Service::start(move |asked| match asked.lists() {
        true => dialect.listing(asked),
        false => script(asked),
    })
}

/// The number of the question in a prompt.
pub fn number(asked: &Asked) -> usize {
    number_in(&asked.prompt())
}

fn number_in(prompt: &str) -> usize {
    let after = prompt.split("number ").nth(1).unwrap_or_default();
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(usize::MAX)
}

/// An answer that the task reads as its first option.
pub fn right(asked: &Asked) -> Act {
    answer(asked, "A")
}

/// A folder with this many questions of a task whose answers are read from free text.
pub struct Questions {
    pub bench: Bench,
}

impl Questions {
    pub fn new(count: usize) -> Questions {
        let bench = Bench::new();
        let row = |number: usize| {
            json!({ "id": format!("q-{number}"), "question": format!("What is number {number} good for?"),
                    "choices": { "text": ["much", "nothing"], "label": ["A", "B"] }, "answerKey": "A" })
            .to_string()
        };
        let rows: Vec<String> = (0..count).map(row).collect();
        fs::create_dir(bench.path("data")).expect("a folder");
        fs::write(bench.path("data/ARC-Easy-Test.jsonl"), rows.join("\n")).expect("questions");
        let plugins = ["openai", "gemini", "arc"].map(|name| {
            let path = plugin_file(name).display().to_string();
            format!("[plugins.{name}]\npath = {path:?}\nisolation = \"in-process\"\n")
        });
        let apart = plugin_file("openai").display().to_string();
        let apart = format!("[plugins.openai-apart]\npath = {apart:?}\n[models.apart]\nplugin = \"openai-apart\"\n");
        fs::write(bench.path("services.toml"), plugins.concat() + &apart).expect("a registry");
        Questions { bench }
    }

    /// A run on all questions, at these addresses, with short timeouts.
    pub fn command(&self, dialect: Dialect, address: &str, more: &str) -> Command {
        self.command_of(dialect.model(), dialect.served(), address, more)
    }

    pub fn command_of(&self, model: &str, served: &str, address: &str, more: &str) -> Command {
        let quick = "-M first_pause=0.02 -M patience=3 -M silence=1 -M deadline=3 -M wait_for_engine=1 -M connect=1";
        let arguments = format!(
            "run --model {model} --task arc -T data=data -T mode=generate -M base_url={address} -M model={served} {quick} \
             --registry services.toml {more}"
        );
        let mut command = self.bench.command(&arguments);
        command
            .env("OPENAI_API_KEY", KEY)
            .env("GOOGLE_API_KEY", KEY)
            .env_remove("GEMINI_API_KEY")
            .env("XDG_CACHE_HOME", self.bench.path("cache"));
        command
    }

    /// Runs a command, expects this exit code and this text, and returns all output.
    #[track_caller]
    pub fn check(&self, dialect: Dialect, service: &Service, more: &str, exit: i32, words: &[&str]) -> String {
        said(
            self.command(dialect, &service.address(), more)
                .output()
                .expect("it starts"),
            exit,
            words,
        )
    }

    /// The records of the only run, by the number of their question.
    pub fn records(&self) -> BTreeMap<usize, Value> {
        let runs = self.bench.directories("runs");
        assert_eq!(runs.len(), 1, "{runs:?}");
        let records = self.bench.records(&runs[0]).into_values();
        records
            .map(|record| {
                let id = record["sample_id"].as_str().unwrap_or_default();
                (id.trim_start_matches("q-").parse().expect("a number"), record)
            })
            .collect()
    }

    /// The ledger of the only run.
    pub fn calls(&self) -> Vec<Value> {
        let run = self.bench.directory("");
        let text = fs::read_to_string(run.join("calls.jsonl")).unwrap_or_default();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until the service has received this many requests.
    pub fn wait(&self, service: &Service, asked: usize) {
        let began = Instant::now();
        while service.charges_so_far().values().sum::<u32>() < asked as u32 {
            assert!(began.elapsed() < Duration::from_secs(300), "nothing was asked");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[track_caller]
pub fn said(output: Output, exit: i32, words: &[&str]) -> String {
    let both = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let both = both.join("\n");
    assert_eq!(output.status.code(), Some(exit), "{both}");
    for words in words {
        assert!(both.contains(words), "`{words}` is not in what it said:\n{both}");
    }
    assert!(!both.contains("panicked at") && !both.contains(KEY), "{both}");
    both
}

/// How often each question was charged, by its number.
pub fn charges(services: &[&Service]) -> BTreeMap<usize, u32> {
    let mut all = BTreeMap::new();
    for service in services {
        for (prompt, count) in service.charges() {
            *all.entry(number_in(&prompt)).or_default() += count;
        }
    }
    all
}
