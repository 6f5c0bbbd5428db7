//! The boundary between host and plugin: what is refused before it is loaded, and what crosses it.

use crate::support::{BOTH, adapter, plugin_file, settings, spec};
use host::failure::Exit;
use host::registry::spec::{Isolation, PluginSpec};
use plugin_api::client::{JudgeClient, ModelClient, TaskClient};
use plugin_api::{Adapter, Case, Clip, Kind, Message, Prompt, Reply, Ruling, Silent};
use std::sync::Arc;

fn echo(isolation: Isolation, kind: Kind, name: &str, json: &str) -> Arc<dyn Adapter> {
    adapter(&spec("fixture-echo", isolation), kind, name, json).adapter
}

#[test]
fn a_model_answers_here_and_in_a_worker() {
    for isolation in BOTH {
        let model = ModelClient(echo(isolation, Kind::Model, "echo", "{}"));
        assert_eq!(model.card().expect("a card").name, "echo");
        let mut prompt = Prompt::new([Message::user("good morning")]);
        prompt.clips = vec![Clip::new(16_000, vec![0.5; 8_000])];
        let reply = model.reply(&prompt, &Silent).expect("a reply");
        assert_eq!(reply.text, "good morning [heard 0.500 s, sum 4000.000]");
    }
}

#[test]
fn a_task_and_a_judge_answer_here_and_in_a_worker() {
    for isolation in BOTH {
        let task = TaskClient(echo(isolation, Kind::Task, "count", r#"{"n": 3, "broken": 1}"#));
        assert_eq!(task.count().expect("a length"), 3);
        assert!(task.sample(1).unwrap_err().message.contains("sample 1 is broken"));
        let sample = task.sample(2).expect("a sample");
        assert_eq!(task.prompt(&sample).expect("a prompt").last_user_text(), "2");
        let reply = Reply::text("2");
        assert_eq!(
            task.score(&sample, &reply, &Silent).expect("a score").values["acc"],
            1.0
        );
        let judge = JudgeClient(echo(isolation, Kind::Judge, "agree", "{}"));
        let case = Case {
            sample,
            reply,
            ..Case::default()
        };
        assert_eq!(judge.judge(&case, &Silent).expect("a verdict").ruling, Ruling::Right);
    }
}

#[track_caller]
fn check_refused(spec: PluginSpec, exit: Exit, words: &str) {
    let failure = host::plugin::open(&spec).err().expect("it is refused");
    assert!(failure.render().contains(words), "{}", failure.render());
    assert_eq!(failure.exit, exit, "{}", failure.render());
}

#[test]
fn what_the_registry_does_not_allow_is_refused() {
    let here = || spec("fixture-echo", Isolation::InProcess);
    let pinned = Some("00ff".to_owned());
    check_refused(
        PluginSpec {
            sha256: pinned,
            ..here()
        },
        Exit::Refused,
        "run `host plugins pin echo`",
    );
    let version = Some(">=7".to_owned());
    check_refused(
        PluginSpec { version, ..here() },
        Exit::Refused,
        "the registry allows `>=7`",
    );
    let env = [("RAYON_NUM_THREADS".to_owned(), "2".to_owned())].into();
    check_refused(PluginSpec { env, ..here() }, Exit::Usage, "plugin `echo` has `env`");
    check_refused(
        PluginSpec {
            memory: Some(1),
            ..here()
        },
        Exit::Usage,
        "plugin `echo` has `memory`",
    );
    let path = plugin_file("fixture-echo").file_name().expect("a name").into();
    check_refused(PluginSpec { path, ..here() }, Exit::Usage, "is not absolute");
}

#[test]
fn an_adapter_that_is_not_there_or_a_wrong_setting_is_named() {
    let plugin = host::plugin::open(&spec("fixture-echo", Isolation::InProcess)).expect("it opens");
    let failure = plugin
        .make(Kind::Model, "ecco", &settings("{}"))
        .err()
        .expect("refused");
    assert!(failure.render().contains("holds no model `ecco`") && failure.render().contains("model `echo`"));
    let failure = plugin
        .make(Kind::Model, "echo", &settings(r#"{"delay": 1}"#))
        .err()
        .expect("refused");
    assert!(
        failure.render().contains("model `echo` has no setting `delay`"),
        "{}",
        failure.render()
    );
    assert_eq!(failure.exit, Exit::Usage);
}
