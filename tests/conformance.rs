//! `host plugins check`, on plugins without faults, and on one with a single fault at a time.

use crate::building::{build, cargo, repository, target};
use crate::support::{host_program, plugin_file};
use host::conformance::{self, Report, Verdict};
use host::registry::Given;
use host::scaffold;
use plugin_api::Kind;
use std::collections::BTreeMap;
use std::path::Path;

fn checked(file: &Path, settings: &[(&str, &str)]) -> Report {
    host_program();
    let given = settings.iter().map(|(name, value)| {
        let setting = Given {
            value: (*value).into(),
            base: std::env::current_dir().expect("a current folder"),
            place: "--settings".to_owned(),
        };
        ((*name).to_owned(), setting)
    });
    conformance::check(file, &given.collect::<BTreeMap<_, _>>()).expect("the file is there")
}

fn found(report: &Report, verdict: Verdict) -> Vec<&str> {
    let found = report.checks.iter().filter(|check| check.verdict == verdict);
    found.map(|check| check.name.as_str()).collect()
}

/// No findings, except that it is a debug build.
#[track_caller]
fn check_fine(file: &Path) {
    let report = checked(file, &[]);
    assert!(report.passed(), "{}", report.render());
    assert_eq!(
        found(&report, Verdict::Warning),
        ["it is a release build"],
        "{}",
        report.render()
    );
    assert!(found(&report, Verdict::Skipped).is_empty(), "{}", report.render());
}

#[test]
fn a_plugin_that_behaves_passes() {
    check_fine(&plugin_file("fixture-unruly"));
}

#[test]
fn a_plugin_of_an_older_version_passes() {
    let built = build(&repository().join("tests/frozen"), &target("frozen"));
    let report = checked(&built.join("libold_plugin.so"), &[]);
    assert!(report.passed(), "{}", report.render());
}

/// Exactly these checks must fail (or warn), and no other.
#[track_caller]
fn check_found(vice: &str, of: &str, names: &[&str], verdict: Verdict) {
    let report = checked(&plugin_file("fixture-unruly"), &[("vice", vice)]);
    let worse = [Verdict::Failed, Verdict::Warning];
    let found: Vec<_> = report
        .checks
        .iter()
        .filter(|check| worse.contains(&check.verdict) && check.name != "it is a release build")
        .map(|check| (check.of.as_str(), check.name.as_str(), check.verdict))
        .collect();
    let expected: Vec<_> = names.iter().map(|name| (of, *name, verdict)).collect();
    assert_eq!(found, expected, "{vice}:\n{}", report.render());
}

#[test]
fn every_vice_of_a_model_is_found() {
    let model = |vice: &str, name: &str| check_found(vice, "model unruly", &[name], Verdict::Failed);
    model("has no name", "its card answers");
    model("streams otherwise", "what is streamed is what is answered");
    model("talks on", "it keeps to the most tokens");
    model("never stops", "it stops when it is asked to");
    model("is touchy", "odd prompts don't break it");
    model("is too sure", "options are scored");
    model("drops an option", "options are scored");
    model("forgets", "together gives what one by one gives");
    model("mixes up", "together gives what one by one gives");
    check_found("prints", "load", &["standard output stays empty"], Verdict::Failed);
    check_found(
        "talks through stops",
        "model unruly",
        &["it ends before a stop string"],
        Verdict::Warning,
    );
}

#[test]
fn every_vice_of_a_task_is_found() {
    let task = |vice: &str, names: &[&str]| check_found(vice, "task sums", names, Verdict::Failed);
    task("has twins", &["its samples have ids of their own"]);
    task("has no end", &["an index out of range is an error"]);
    task("panics at the end", &["an index out of range is an error"]);
    task("asks at random", &["it asks about its samples", "four threads at once"]);
    task("scores nonsense", &["it scores whatever is replied"]);
    task("names another metric", &["it scores whatever is replied"]);
}

#[test]
fn every_vice_of_a_judge_is_found() {
    let judge = |vice: &str| {
        check_found(
            vice,
            "judge equal",
            &["it rules on whatever it is shown"],
            Verdict::Failed,
        )
    };
    judge("rules without a value");
    judge("counts what it doesn't know");
}

#[test]
fn files_that_take_every_word_for_a_format_are_found() {
    let report = checked(&plugin_file("fixture-echo"), &[("folder", ".")]);
    let of_files = |check: &&host::conformance::Check| check.of == "files of task `count`";
    let failed = report
        .checks
        .iter()
        .filter(of_files)
        .filter(|check| check.verdict == Verdict::Failed);
    let failed: Vec<_> = failed.map(|check| check.name.as_str()).collect();
    assert_eq!(
        failed,
        ["a format that they don't know is an error"],
        "{}",
        report.render()
    );
    assert_eq!(report.checks.iter().filter(of_files).count(), 5, "{}", report.render());
}

#[test]
fn a_mood_is_found_wherever_it_shows() {
    let report = checked(&plugin_file("fixture-unruly"), &[("vice", "is moody")]);
    let failed = |name: &str| {
        report
            .checks
            .iter()
            .any(|check| check.name == name && check.verdict == Verdict::Failed)
    };
    assert!(
        failed("the same again gives the same") && failed("four threads at once"),
        "{}",
        report.render()
    );
}

#[test]
fn what_is_no_plugin_is_said_so_and_not_loaded() {
    let report = checked(&repository().join("Cargo.toml"), &[]);
    assert_eq!(report.checks.len(), 1, "{}", report.render());
    assert!(
        report.checks[0].found.contains("not an ELF file"),
        "{}",
        report.render()
    );
    let other_wire = build(&repository().join("tests/frozen"), &target("frozen")).join("libnext_wire.so");
    let report = checked(&other_wire, &[]);
    assert!(!report.passed());
    assert!(
        report.checks.iter().all(|check| check.of == "file"),
        "{}",
        report.render()
    );
    assert!(
        report
            .render()
            .contains("speaks plugin-api 0.9.0 (wire 3), this host speaks 0."),
        "{}",
        report.render()
    );
}

#[test]
fn a_setting_that_nothing_has_is_refused_with_the_nearest() {
    host_program();
    let setting = Given {
        value: "x".into(),
        base: repository(),
        place: "--settings".to_owned(),
    };
    let given = BTreeMap::from([("vise".to_owned(), setting)]);
    let failure = conformance::check(&plugin_file("fixture-unruly"), &given).expect_err("a misspelt name");
    assert!(failure.render().contains("did you mean `vice`?"), "{failure:?}");
}

/// The output of `plugins new` builds, passes its own tests, and passes the check, without changes.
#[test]
fn a_new_plugin_of_every_kind_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = target("new"); // one for all three: what they stand on is compiled once
    for kind in [Kind::Model, Kind::Task, Kind::Judge] {
        let made = scaffold::create(&scaffold::Request {
            name: format!("my-{kind}"),
            kind,
            out: Some(folder.path().join(kind.word())),
            api: None,
        });
        let made = made.expect("a new crate");
        // Uses the versions that this repository was built with, which are already on this machine.
        std::fs::copy(repository().join("Cargo.lock"), made.join("Cargo.lock")).expect("the lock file");
        cargo(&made, &target, &["test", "--quiet"]);
        cargo(&made, &target, &["build", "--quiet"]);
        check_fine(&target.join(format!("debug/libmy_{kind}.so")));
    }
}
