//! All faults of a running plugin: the error that the caller gets, and that the next call is answered.

use crate::support::{BOTH, Bench, adapter, ask, settings, spec};
use host::failure::Exit;
use host::plugin::{OpenAdapter, WorkerControl};
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::{ModelClient, NextJob, Serving};
use plugin_api::{Callbacks, Code, Envelope, Error, Kind, Message, Prompt, Reply, Result};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

fn worker() -> PluginSpec {
    spec("fixture-broken", Isolation::Process)
}

fn broken(spec: &PluginSpec, model: &str) -> OpenAdapter {
    adapter(spec, Kind::Model, model, "{}")
}

/// Calls before, at and after the fault, twice: the model works, fails with these words, and works again.
#[track_caller]
fn check(spec: &PluginSpec, model: &str, code: Code, words: &[&str]) {
    let adapter = broken(spec, model);
    for _ in 0..2 {
        assert_eq!(ask(&adapter, "fine").expect("an answer").text, "fine");
        let error = ask(&adapter, "boom").expect_err("the fault");
        assert_eq!(error.code, code, "{error}");
        for words in words {
            assert!(error.to_string().contains(words), "`{words}` is not in: {error}");
        }
    }
    assert_eq!(ask(&adapter, "fine").expect("an answer").text, "fine");
}

#[test]
fn a_panic_is_an_error_with_its_text_and_place() {
    for isolation in BOTH {
        let spec = spec("fixture-broken", isolation);
        let words = [
            "panicked in `reply`",
            "this is the panic's text",
            "fixture-broken/src/lib.rs:",
        ];
        check(&spec, "panic", Code::PANIC, &words);
    }
}

#[test]
fn a_panic_whose_payload_panics_is_an_error() {
    for isolation in BOTH {
        check(
            &spec("fixture-broken", isolation),
            "panic-payload",
            Code::PANIC,
            &["a payload that is not text"],
        );
    }
}

#[test]
fn a_panic_in_a_thread_of_the_plugin_is_the_plugins_to_report() {
    for isolation in BOTH {
        let words = ["a thread of the model panicked"];
        check(&spec("fixture-broken", isolation), "panic-thread", Code::OTHER, &words);
    }
}

#[test]
fn a_panic_in_drop_harms_nobody() {
    for isolation in BOTH {
        let spec = spec("fixture-broken", isolation);
        let adapter = broken(&spec, "panic-drop");
        assert_eq!(ask(&adapter, "boom").expect("an answer").text, "not yet");
        drop(adapter);
        assert_eq!(
            ask(&broken(&spec, "panic-drop"), "fine").expect("an answer").text,
            "fine"
        );
    }
}

#[test]
fn a_panic_while_an_adapter_is_made_is_a_failure_of_making_it() {
    for isolation in BOTH {
        let plugin = host::plugin::open(&spec("fixture-broken", isolation)).expect("it opens");
        let failure = plugin
            .make(Kind::Model, "panic-make", &settings("{}"))
            .err()
            .expect("refused");
        assert_eq!(failure.exit, Exit::Refused);
        let text = failure.render();
        assert!(
            text.contains("cannot make model `panic-make` of plugin `broken`"),
            "{text}"
        );
        assert!(text.contains("made with 0 settings"), "{text}");
    }
}

/// Panics, in the host's own code, when the plugin asks it something.
struct Clumsy;

impl Callbacks for Clumsy {
    fn ask(&self, _what: &str, _input: Envelope) -> Result<Envelope> {
        panic!("the host is clumsy")
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        panic!("the host is clumsy")
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

#[test]
fn a_panic_of_the_host_during_a_call_is_an_error_and_not_the_plugins() {
    for isolation in BOTH {
        let adapter = adapter(&spec("fixture-echo", isolation), Kind::Model, "echo", "{}");
        let model = ModelClient(adapter.adapter.clone());
        let prompt = Prompt::new([Message::user("some words")]);
        let error = model.reply(&prompt, &Clumsy).expect_err("the host's fault");
        assert!(
            error
                .to_string()
                .contains("the host's own side panicked during `reply`"),
            "{error}"
        );
        assert_eq!(error.code, Code::OTHER);
        assert_eq!(ask(&adapter, "still here").expect("an answer").text, "still here");
    }
}

#[test]
fn a_double_panic_ends_the_worker_alone() {
    check(
        &worker(),
        "panic-twice",
        Code::DIED,
        &["died of signal 6 (abort) during `reply`"],
    );
}

#[test]
fn an_abort_ends_the_worker_alone() {
    check(
        &worker(),
        "abort",
        Code::DIED,
        &["plugin `broken` died of signal 6 (abort) during `reply`"],
    );
}

#[test]
fn a_segmentation_fault_ends_the_worker_alone() {
    let words = ["plugin `broken` died of signal 11 (segmentation fault) during `reply`"];
    check(&worker(), "segfault", Code::DIED, &words);
}

#[test]
fn a_stack_overflow_ends_the_worker_alone() {
    check(
        &worker(),
        "overflow",
        Code::DIED,
        &["plugin `broken` overflowed its stack during `reply`"],
    );
}

#[test]
fn an_exit_ends_the_worker_alone() {
    check(
        &worker(),
        "exit",
        Code::DIED,
        &["plugin `broken` exited with code 7 during `reply`"],
    );
    let plugin = host::plugin::open(&worker()).expect("it opens");
    let failure = plugin
        .make(Kind::Model, "exit-make", &settings("{}"))
        .err()
        .expect("refused");
    assert!(
        failure.to_string().contains("exited with code 3 during `make`"),
        "{failure}"
    );
}

#[test]
fn memory_has_a_limit() {
    let spec = PluginSpec {
        memory: Some(300_000_000),
        ..worker()
    };
    let words = ["plugin `broken` ran out of the 300 MB of memory that it may take during `reply`"];
    check(&spec, "memory", Code::MEMORY, &words);
}

#[test]
fn a_hang_ends_at_its_deadline() {
    let spec = PluginSpec {
        deadline: Some(Duration::from_secs(1)),
        ..worker()
    };
    check(
        &spec,
        "hang",
        Code::DEADLINE,
        &["plugin `broken` did not finish `reply` within 1s and was killed"],
    );
}

#[test]
fn a_plugin_that_prints_spoils_nothing() {
    let adapter = broken(&worker(), "print");
    for _ in 0..100 {
        assert_eq!(ask(&adapter, "boom").expect("an answer").text, "printed");
    }
}

#[test]
fn a_worker_that_always_dies_is_given_up() {
    let adapter = broken(&worker(), "abort");
    for _ in 0..5 {
        let error = ask(&adapter, "boom").expect_err("the fault");
        assert!(error.message.contains("died of signal 6"), "{error}");
    }
    for _ in 0..2 {
        let error = ask(&adapter, "fine").expect_err("given up");
        let words = "model `abort` of plugin `broken` failed 5 times in a row and is given up";
        assert_eq!((error.message.as_str(), error.code), (words, Code::DIED));
        assert!(error.causes[0].contains("died of signal 6"), "{error}");
    }
}

/// Requests a stop from the start.
struct Impatient;

impl Callbacks for Impatient {
    fn ask(&self, what: &str, _input: Envelope) -> Result<Envelope> {
        Err(Error::unsupported(what))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        true
    }
}

#[test]
fn a_wish_to_stop_reaches_a_call_that_is_under_way() {
    for isolation in BOTH {
        let adapter = broken(&spec("fixture-broken", isolation), "slow-stop");
        let prompt = Prompt::new([Message::user("boom")]);
        let begun = Instant::now();
        let error = ModelClient(adapter.adapter.clone())
            .reply(&prompt, &Impatient)
            .expect_err("it stops");
        assert_eq!(error.code, Code::CANCELLED, "{error}");
        assert!(begun.elapsed() < Duration::from_secs(5));
        assert_eq!(ask(&adapter, "fine").expect("an answer").text, "fine");
    }
}

#[test]
fn the_environment_is_the_workers_own() {
    let spec = PluginSpec {
        env: [("FIXTURE_WORD".to_owned(), "weather".to_owned())].into(),
        ..worker()
    };
    assert_eq!(
        ask(&broken(&spec, "environment"), "boom").expect("an answer").text,
        "weather"
    );
    assert!(std::env::var("FIXTURE_WORD").is_err());
}

#[test]
fn killing_a_worker_ends_the_pending_call_with_the_reason() {
    let adapter = broken(&worker(), "hang");
    let control = adapter.control.clone().expect("it is a worker");
    let first = control.pid().expect("it lives");
    assert!(control.peak_memory_bytes().is_some_and(|bytes| bytes > 1_000_000));
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        control.kill(Error::new(Code::DEADLINE, "this sample took too long"));
    });
    let error = ask(&adapter, "boom").expect_err("it is killed");
    killer.join().expect("the killer");
    assert_eq!(
        (error.message.as_str(), error.code),
        ("this sample took too long", Code::DEADLINE)
    );
    assert_eq!(ask(&adapter, "fine").expect("an answer").text, "fine");
    assert_ne!(adapter.control.expect("it is a worker").pid(), Some(first));
    assert!(!alive(first));
}

/// Gives out prompts and keeps the answers.
#[derive(Default)]
struct Desk {
    prompts: Mutex<Vec<&'static str>>,
    answers: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Desk {
    fn new(prompts: &[&'static str]) -> Self {
        Desk {
            prompts: Mutex::new(prompts.iter().rev().copied().collect()),
            ..Desk::default()
        }
    }
}

impl Serving for Desk {
    fn give(&self, wait: Duration) -> NextJob {
        let Some(prompt) = self.prompts.lock().expect("the prompts").pop() else {
            return NextJob::End;
        };
        if prompt == "wait" {
            std::thread::sleep(wait);
            return NextJob::Later;
        }
        NextJob::Job {
            id: 1,
            prompt: Box::new(Prompt::new([Message::user(prompt)])),
            deadline: None,
        }
    }

    fn take(&self, _job: u64, reply: Result<Reply>) -> bool {
        let text = reply.map_or_else(|error| error.message, |reply| reply.text);
        self.answers.lock().expect("the answers").push(text);
        true
    }

    fn stop_asked(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

#[test]
fn a_model_serves_until_there_are_no_more_prompts() {
    for isolation in BOTH {
        let model = ModelClient(adapter(&spec("fixture-echo", isolation), Kind::Model, "echo", "{}").adapter);
        let desk = Desk::new(&["one", "two", "three"]);
        model.serve(&desk).expect("served");
        assert_eq!(*desk.answers.lock().expect("the answers"), ["one", "two", "three"]);
    }
}

#[test]
fn a_death_while_serving_ends_the_serving_at_once_even_when_it_waits_for_a_job() {
    let adapter = broken(&worker(), "segfault");
    let model = ModelClient(adapter.adapter.clone());
    let desk = Desk::new(&["one", "boom", "two"]);
    let error = model.serve(&desk).expect_err("it dies");
    assert!(error.message.contains("during `serve`"), "{error}");
    model.serve(&desk).expect("a new worker serves the rest");
    assert_eq!(*desk.answers.lock().expect("the answers"), ["one", "two"]);

    let control = adapter.control.clone().expect("it is a worker");
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        control.kill(Error::msg("enough"));
    });
    let begun = Instant::now();
    let waits = Desk::new(&["wait"; 1000]);
    assert_eq!(model.serve(&waits).expect_err("it is killed").message, "enough");
    killer.join().expect("the killer");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
fn calls_of_many_threads_run_at_once_and_stay_apart() {
    let spec = spec("fixture-echo", Isolation::Process);
    let task = Arc::new(adapter(&spec, Kind::Task, "count", r#"{"n": 1000}"#));
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (task, read) = (plugin_api::client::TaskClient(task.adapter.clone()), &read);
            scope.spawn(move || {
                for index in (thread..200).step_by(4) {
                    assert_eq!(task.sample(index).expect("a sample").id, format!("number-{index}"));
                    read.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(read.load(Ordering::Relaxed), 200);
}

/// Plays the grader that a judge asks.
struct Grader(&'static str);

impl Callbacks for Grader {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        assert_eq!(what, "generate:grader");
        let question = input.read::<Prompt>()?.last_user_text();
        assert_eq!(question, "Is `4` right?");
        Envelope::of(&Reply::text(self.0))
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        true
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

#[test]
fn a_judge_asks_another_model_through_the_host() {
    for isolation in BOTH {
        let judge = adapter(&spec("fixture-echo", isolation), Kind::Judge, "asker", "{}").adapter;
        let case = plugin_api::Case {
            reply: Reply::text("4"),
            ..Default::default()
        };
        let judge = plugin_api::client::JudgeClient(judge);
        assert_eq!(judge.judge(&case, &Grader("yes")).expect("a verdict").value, Some(1.0));
        assert_eq!(judge.judge(&case, &Grader("maybe")).expect("a verdict").value, None);
    }
}

fn alive(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // A dead process whose parent has not yet looked is a zombie.
    !status.is_empty() && !status.contains(") Z ")
}

#[track_caller]
fn wait_until_dead(pid: u32) {
    let until = Instant::now() + Duration::from_secs(5);
    while alive(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!alive(pid), "process {pid} lives on");
}

#[test]
fn a_worker_leaves_when_its_adapter_is_dropped() {
    let adapter = broken(&worker(), "panic");
    let pid = adapter
        .control
        .as_ref()
        .and_then(|control| control.pid())
        .expect("it lives");
    drop(adapter);
    wait_until_dead(pid);
}

fn kill_from_outside(pid: u32) {
    let killed = Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.is_ok_and(|status| status.success()));
}

#[test]
fn an_idle_worker_that_died_is_replaced_unnoticed() {
    let adapter = broken(&worker(), "panic");
    let control = adapter.control.clone().expect("it is a worker");
    let first = control.pid().expect("it lives");
    kill_from_outside(first);
    let until = Instant::now() + Duration::from_secs(5);
    while control.pid().is_some() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(ask(&adapter, "fine").expect("an answer").text, "fine");
    assert!(control.pid().is_some_and(|second| second != first));
}

#[test]
fn programs_that_a_plugin_started_end_with_its_worker() {
    let ways: [fn(&dyn WorkerControl); 2] = [
        |worker| worker.kill(Error::msg("enough")),
        |worker| kill_from_outside(worker.pid().expect("it lives")),
    ];
    for end in ways {
        let adapter = broken(&worker(), "helper");
        let helper: u32 = ask(&adapter, "boom")
            .expect("an answer")
            .text
            .parse()
            .expect("a process id");
        assert!(alive(helper));
        end(&*adapter.control.expect("it is a worker"));
        wait_until_dead(helper);
    }
}

/// Run in a separate process by the next test: a host whose worker is in an endless call.
#[test]
#[ignore = "not a test: a host that is killed"]
fn a_host_to_be_killed() {
    let adapter = broken(&worker(), "hang");
    let pid = adapter
        .control
        .as_ref()
        .and_then(|control| control.pid())
        .expect("it lives");
    let file = std::env::var_os("WORKER_PID_FILE").expect("where to write the worker's id");
    let hanging = std::thread::spawn(move || ask(&adapter, "boom"));
    std::thread::sleep(Duration::from_millis(100));
    std::fs::write(file, pid.to_string()).expect("the worker's id is written");
    let _ = hanging.join();
}

#[test]
fn a_killed_host_leaves_no_worker_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("pid");
    let mut host = Command::new(std::env::current_exe().expect("this file"))
        .args(["--exact", "faults::a_host_to_be_killed", "--ignored"])
        .env("WORKER_PID_FILE", &file)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("a host");
    let until = Instant::now() + Duration::from_secs(20);
    let pid: u32 = loop {
        match std::fs::read_to_string(&file).map(|text| text.parse()) {
            Ok(Ok(pid)) => break pid,
            _ => assert!(Instant::now() < until, "the host never started its worker"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(alive(pid));
    host.kill().expect("killed");
    host.wait().expect("its end");
    wait_until_dead(pid);
}

#[test]
fn a_grader_that_hangs_costs_its_verdicts_and_not_the_run() {
    // Of four answers two are about `boom`, which the grader does not survive.
    let command = "run --model echo --task count -T n=4 -T boom=2 --judge asker --role grader=";
    let began = Instant::now();
    for (grader, failed) in [("hang", "failed on 2 answers"), ("hang-here", "failed on ")] {
        let bench = Bench::new();
        bench.check(&format!("{command}{grader}"), 0, &["judge asker ", failed]);
        assert_eq!(bench.records("echo-count").len(), 4);
    }
    let bench = Bench::new();
    bench.check(
        "run --model echo --task count -T n=4 -T boom=2 -T asks=true --role grader=hang-here",
        1,
        &["of 4 samples of echo on count failed"],
    );
    assert!(began.elapsed() < Duration::from_secs(60));
}
