//! The traps of the boundary, each sprung: panics in every place, layouts that grew, samples that must not be copied.

use super::*;
use crate::export::lib_header;
use crate::{register_model, Call, Clip, Message, Model, ModelCard, Prompt, Reply};

static HEADER: LibHeader = lib_header();

/// Breaks in the way that the prompt names.
struct Breaker;

impl Model for Breaker {
    fn card(&self) -> ModelCard {
        ModelCard::text("breaker")
    }

    fn reply(&mut self, prompt: &Prompt, call: &mut Call) -> Result<Reply> {
        match prompt.last_user_text().as_str() {
            "panic" => panic!("the model is unwell"),
            "payload" => std::panic::panic_any(Bomb),
            "token" => Ok(Reply::text(call.token("a piece").to_string())),
            "address" => Ok(Reply::text(format!("{:p}", prompt.clips[0].samples()))),
            text => Ok(Reply::text(text)),
        }
    }

    fn run_command(
        &mut self,
        command: &str,
        request: &serde_json::Value,
        call: &mut Call,
    ) -> Result<serde_json::Value> {
        let went_on = call.progress(0.5, command);
        Ok(serde_json::json!({ "command": command, "request": request, "went_on": went_on }))
    }
}

/// Panics when it is dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct DropsBadly(#[allow(dead_code)] Bomb);

impl Model for DropsBadly {
    fn card(&self) -> ModelCard {
        ModelCard::text("drops-badly")
    }

    fn reply(&mut self, _prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
        Ok(Reply::text("still here"))
    }
}

register_model!("breaker", "Breaks as it is told", |_settings| Ok(Breaker));
register_model!("drops-badly", "Panics when it is dropped", |_settings| Ok(DropsBadly(
    Bomb
)));
register_model!("never", "Panics when it is made", |_settings| -> Result<Breaker> {
    panic!("no model today")
});

fn plugin() -> Plugin {
    Plugin::open(&HEADER).expect("this very crate's layout fits itself")
}

fn made(name: &str) -> Arc<dyn Adapter> {
    let adapter = plugin().make(Kind::Model, name, &Settings::default());
    adapter.expect("the adapter is registered above")
}

fn ask(adapter: &dyn Adapter, text: &str, host: &dyn Callbacks) -> Result<Reply> {
    let input = Envelope::of(&Prompt::new([Message::user(text)]))?;
    adapter.call("reply", input, host)?.read()
}

#[track_caller]
fn check(text: &str, host: &dyn Callbacks, code: Code, says: &str) -> Arc<dyn Adapter> {
    let adapter = made("breaker");
    let error = ask(adapter.as_ref(), text, host).expect_err("it was told to break");
    assert_eq!(error.code, code, "{error}");
    assert!(error.message.contains(says), "{error}");
    adapter
}

#[test]
fn a_panic_becomes_an_error_and_the_adapter_answers_no_more() {
    let adapter = check("panic", &crate::NoCallbacks, Code::PANIC, "the model is unwell");
    let error = ask(adapter.as_ref(), "hello", &crate::NoCallbacks).expect_err("it is poisoned");
    assert_eq!(error.code, Code::POISONED);
    assert_eq!(
        ask(made("breaker").as_ref(), "hello", &crate::NoCallbacks)
            .expect("a new one")
            .text,
        "hello"
    );
}

#[test]
fn a_payload_that_panics_when_dropped_is_not_dropped() {
    check(
        "payload",
        &crate::NoCallbacks,
        Code::PANIC,
        "a payload that is not text",
    );
}

#[test]
fn a_panic_in_drop_stays_inside() {
    let adapter = made("drops-badly");
    assert_eq!(
        ask(adapter.as_ref(), "", &crate::NoCallbacks)
            .expect("it only drops badly")
            .text,
        "still here"
    );
    drop(adapter);
}

#[test]
fn a_panic_while_an_adapter_is_made_is_an_error() {
    let error = plugin()
        .make(Kind::Model, "never", &Settings::default())
        .err()
        .expect("it panics");
    assert_eq!(error.code, Code::PANIC);
    assert!(error.message.contains("no model today"), "{error}");
}

/// Hears of progress, and wants no more of it.
struct Weary(std::sync::Mutex<Vec<String>>);

impl Callbacks for Weary {
    fn ask(&self, what: &str, input: Envelope) -> Result<Envelope> {
        crate::NoCallbacks.ask(what, input)
    }

    fn emit(&self, what: &str, _note: Envelope) -> bool {
        self.0.lock().expect("no test panics here").push(what.to_owned());
        false
    }

    fn stop_asked(&self) -> bool {
        false
    }
}

#[test]
fn a_command_carries_its_request_and_how_far_it_is() {
    let (client, host) = (crate::client::ModelClient(made("breaker")), Weary(Vec::new().into()));
    let request = serde_json::json!({ "out": "/there" });
    let answer = client.run_command("merge", &request, &host).expect("it works");
    let expected = serde_json::json!({ "command": "merge", "request": request, "went_on": false });
    assert_eq!(answer, expected);
    assert_eq!(*host.0.lock().expect("no test panics here"), ["progress"]);
    let other = crate::client::ModelClient(made("drops-badly"));
    let error = other
        .run_command("merge", &request, &host)
        .expect_err("it runs no commands");
    assert_eq!(error.code, Code::NOT_IMPLEMENTED);
    assert!(error.message.contains("`merge`"), "{error}");
}

#[test]
fn a_host_can_ask_for_a_panic() {
    let adapter = made("breaker");
    let error = adapter
        .call(PANIC_ON_PURPOSE, Envelope::default(), &crate::NoCallbacks)
        .expect_err("it was asked to");
    assert_eq!(error.code, Code::PANIC);
    let error = adapter
        .call("card", Envelope::default(), &crate::NoCallbacks)
        .expect_err("it is poisoned");
    assert_eq!(error.code, Code::POISONED);
}

/// A host whose every callback panics.
struct PanickingHost;

impl Callbacks for PanickingHost {
    fn ask(&self, _what: &str, _input: Envelope) -> Result<Envelope> {
        panic!("the host is unwell")
    }

    fn emit(&self, _what: &str, _note: Envelope) -> bool {
        panic!("the host is unwell")
    }

    fn stop_asked(&self) -> bool {
        panic!("the host is unwell")
    }
}

#[test]
fn a_panic_of_the_host_is_not_blamed_on_the_plugin() {
    let adapter = check(
        "token",
        &PanickingHost,
        Code::OTHER,
        "the host's own side panicked during `reply`",
    );
    assert_eq!(
        ask(adapter.as_ref(), "hello", &crate::NoCallbacks)
            .expect("not poisoned")
            .text,
        "hello"
    );
}

#[test]
fn a_host_is_introduced_once() {
    plugin()
        .init(Box::new(crate::NoCallbacks))
        .expect("the first introduction");
    let error = plugin().init(Box::new(crate::NoCallbacks)).expect_err("the second");
    assert!(error.message.contains("already connected to a host"), "{error}");
}

#[test]
fn samples_cross_without_a_copy() {
    let clip = Clip::new(16_000, vec![0.25; 480_000]);
    let address = format!("{:p}", clip.samples());
    let mut input = Envelope::of(&Prompt::new([Message::user("address")])).expect("a plain prompt");
    input.clips = vec![clip];
    let reply: Reply = made("breaker")
        .call("reply", input, &crate::NoCallbacks)
        .and_then(|it| it.read())
        .expect("an answer");
    assert_eq!(reply.text, address);
}

#[test]
fn about_is_sorted_by_kind_and_name() {
    let notes: Vec<crate::AdapterNote> = serde_json::from_str(&plugin().about()).expect("a list of notes");
    let names: Vec<_> = notes.iter().map(|note| note.name.as_str()).collect();
    assert_eq!(names, ["breaker", "drops-badly", "heavy", "never", "threads"]);
}

/// Hands out these prompts and keeps what is answered.
struct Asking(std::sync::Mutex<(Vec<Prompt>, Vec<Result<Reply>>)>);

impl crate::client::Serving for Asking {
    fn give(&self, _wait: std::time::Duration) -> crate::client::NextJob {
        match self.0.lock().expect("no panic").0.pop() {
            Some(prompt) => crate::client::NextJob::Job {
                id: 7,
                prompt: Box::new(prompt),
                deadline: None,
            },
            None => crate::client::NextJob::End,
        }
    }

    fn take(&self, job: u64, reply: Result<Reply>) -> bool {
        assert_eq!(job, 7);
        self.0.lock().expect("no panic").1.push(reply);
        true
    }
}

/// Answers each job on a thread of its own, the last one first.
struct Threads;

impl Model for Threads {
    fn card(&self) -> ModelCard {
        ModelCard::text("threads")
    }

    fn reply(&mut self, prompt: &Prompt, _call: &mut Call) -> Result<Reply> {
        Ok(Reply::text(prompt.last_user_text()))
    }

    fn serve(&mut self, jobs: &mut crate::Jobs) -> Result<()> {
        let mut waiting: Vec<crate::Job> = std::iter::from_fn(|| jobs.next()).collect();
        std::thread::scope(|scope| {
            while let Some(job) = waiting.pop() {
                let answers = jobs.answers();
                let done = scope.spawn(move || answers.done(job.id, Ok(Reply::text(job.prompt.last_user_text()))));
                assert!(done.join().expect("no panic"));
            }
        });
        Ok(())
    }
}

register_model!("threads", "Answers from other threads", |_settings| Ok(Threads));

#[test]
fn threads_hand_answers_back() {
    let asked = ["one", "two"].map(|text| Prompt::new([Message::user(text)]));
    let asking = Asking(std::sync::Mutex::new((asked.to_vec(), Vec::new())));
    crate::client::ModelClient(made("threads"))
        .serve(&asking)
        .expect("it serves to the end");
    let answers = asking.0.into_inner().expect("no panic").1;
    let texts: Vec<_> = answers
        .iter()
        .map(|it| it.as_ref().expect("an answer").text.as_str())
        .collect();
    assert_eq!(texts, ["one", "two"]);
}

#[test]
fn what_a_card_rules_out_is_refused_before_the_model_sees_it() {
    let mut with_clip = Prompt::new([Message::user("panic")]);
    with_clip.messages[0].parts.push(crate::Part::clip(0));
    let mut from_later = Prompt::new([Message::user("panic")]);
    from_later.messages[0].parts.push(crate::Part::Unknown);
    let wants_later = Prompt {
        want: crate::Want::Unknown,
        ..Prompt::new([Message::user("panic")])
    };
    let choice = Prompt::plain("panic").choose(["a", "b"]);
    let refused = vec![with_clip, from_later, wants_later, choice];
    let model = crate::client::ModelClient(made("breaker"));
    for prompt in &refused {
        let error = model
            .reply(prompt, &crate::NoCallbacks)
            .expect_err("its card rules it out");
        assert_eq!(error.code, Code::UNSUPPORTED, "{error}");
    }
    let mut asked = refused;
    asked.insert(0, Prompt::new([Message::user("hello")]));
    let asking = Asking(std::sync::Mutex::new((asked, Vec::new())));
    model.serve(&asking).expect("it serves to the end");
    let answers = asking.0.into_inner().expect("no panic").1;
    let refusals = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert_eq!(refusals.filter(|error| error.code == Code::UNSUPPORTED).count(), 4);
    let last = answers.last().and_then(|answer| answer.as_ref().ok());
    assert_eq!(last.map(|reply| reply.text.as_str()), Some("hello"));
}

// --- layouts that grew -------------------------------------------------------------------------------------------

macro_rules! root_module {
    ($version:ident { $($field:tt)* }) => {
        #[allow(dead_code)] // only the layouts are looked at
        mod $version {
            use abi_stable::StableAbi;

            #[repr(C)]
            #[derive(StableAbi)]
            #[sabi(kind(Prefix(prefix_ref = RootRef)))]
            #[sabi(missing_field(option))]
            pub struct Root { $($field)* }

            pub fn layout() -> &'static abi_stable::type_layout::TypeLayout {
                <RootRef as StableAbi>::LAYOUT
            }
        }
    };
}

root_module!(older { #[sabi(last_prefix_field)] pub init: extern "C" fn() });
root_module!(today { #[sabi(last_prefix_field)] pub init: extern "C" fn(), pub second: extern "C" fn() });
root_module!(newer { #[sabi(last_prefix_field)] pub init: extern "C" fn(), pub second: extern "C" fn(), pub third: extern "C" fn(u8) });
root_module!(forked { #[sabi(last_prefix_field)] pub init: extern "C" fn(u64), pub second: extern "C" fn() });

#[test]
fn the_checker_alone_refuses_every_older_minor() {
    // Why the check is asked both ways. Should this ever fail, one way is enough.
    let one_way = |a, b| check_layout_compatibility_with_globals(a, b, &CheckingGlobals::new());
    assert!(one_way(today::layout(), newer::layout()).is_ok());
    assert!(one_way(today::layout(), older::layout()).is_err());
}

#[test]
fn older_and_newer_minors_fit_in_every_order_of_loading() {
    let (older, newer) = (older::layout(), newer::layout());
    for theirs in [older, newer, older, newer, newer, older] {
        assert!(either_way(today::layout(), theirs).is_ok());
    }
}

#[test]
fn a_layout_that_differs_is_named_in_a_line() {
    let errors = either_way(today::layout(), forked::layout()).expect_err("a parameter more");
    let lines = differences(&errors);
    assert!(!lines.is_empty() && lines.len() <= 8, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("init")), "{lines:?}");
    assert!(lines.iter().all(|line| line.len() < 200), "{lines:?}");
}
