//! Tests in this process; `host plugins check` tests more, on the built library.

use @CRATE@ as _; // else the linker drops the crate, and its adapters with it
use plugin_api::client::JudgeClient;
use plugin_api::serde_json::Value;
use plugin_api::{make, Case, Kind, Reply, Ruling, Sample, Settings, NoCallbacks};

#[track_caller]
fn check(target: Value, reply: &str, ruling: Ruling) {
    let adapter = make(Kind::Judge, "@NAME@", &Settings::default());
    let judge = JudgeClient(adapter.expect("it needs no settings").into());
    let sample = Sample { target, ..Sample::default() };
    let case = Case { sample, reply: Reply::text(reply), ..Case::default() };
    assert_eq!(judge.judge(&case, &NoCallbacks).expect("a verdict").ruling, ruling, "{reply:?}");
}

#[test]
fn it_rules() {
    check("Paris".into(), " paris\n", Ruling::Right);
    check("Paris".into(), "Rome", Ruling::Wrong);
    check(7.into(), "7", Ruling::Right);
}

#[test]
fn it_rules_on_nothing_that_it_cannot_know() {
    check(Value::Null, "Paris", Ruling::Unscored);
}
