//! Tests in this process; `host plugins check` tests more, on the built library.

use @CRATE@ as _; // else the linker drops the crate, and its adapters with it
use plugin_api::client::TaskClient;
use plugin_api::{make, Kind, Reply, Settings, NoCallbacks, Status};

fn task() -> TaskClient {
    let adapter = make(Kind::Task, "@NAME@", &Settings::default());
    TaskClient(adapter.expect("it needs no settings").into())
}

#[track_caller]
fn check(reply: &str, acc: f64, status: Status) {
    let sample = task().sample(3).expect("a sample");
    let score = task().score(&sample, &Reply::text(reply), &NoCallbacks).expect("a score");
    assert_eq!((score.values["acc"], score.status), (acc, status), "{reply:?}");
}

#[test]
fn it_asks() {
    let sample = task().sample(3).expect("a sample");
    let prompt = task().prompt(&sample).expect("a prompt");
    assert_eq!(prompt.last_user_text(), "What is 3 + 3?");
}

#[test]
fn it_scores() {
    check(" 6\n", 1.0, Status::Scored);
    check("7", 0.0, Status::Scored);
    check("six", 0.0, Status::NoAnswer);
}

#[test]
fn it_knows_where_it_ends() {
    let count = task().count().expect("a number");
    assert!(task().sample(count).is_err());
}
