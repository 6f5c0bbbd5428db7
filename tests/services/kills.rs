//! Kills at any instant, and servers that go down: no answered call is paid for twice.

use super::judging::{Judged, RUN, check_books, verdict};
use super::{DIALECTS, Dialect, Questions, charges, right, service};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::process::Stdio;
use std::time::{Duration, Instant};

const COUNT: usize = 60;

#[test]
fn after_kills_only_what_was_under_way_is_paid_for_twice() {
    for dialect in DIALECTS {
        let service = service(dialect, |asked| right(asked).after(Duration::from_millis(15)));
        let questions = Questions::new(COUNT);
        for reached in [8, 25, 41] {
            let mut command = questions.command(dialect, &service.address(), "-M concurrency=6-6-6");
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            questions.wait(&service, reached);
            child.kill().unwrap();
            child.wait().unwrap();
        }
        questions.check(dialect, &service, "-M concurrency=6-6-6", 0, &[]);
        assert_eq!(questions.records().len(), COUNT);
        let (lines, charged) = (questions.calls(), charges(&[&service]));
        assert_eq!(charged.len(), COUNT);
        // Unanswered requests may have been charged: at each kill six calls at most.
        let of = |event: &str| -> BTreeMap<String, Vec<u64>> {
            let mut all: BTreeMap<String, Vec<u64>> = BTreeMap::new();
            for line in lines.iter().filter(|line| line["event"] == event) {
                let attempts = all.entry(line["call"].as_str().unwrap().to_owned()).or_default();
                attempts.push(line["attempt"].as_u64().unwrap());
            }
            all
        };
        let (sent, got) = (of("sent"), of("got"));
        let orphans: usize = sent
            .iter()
            .map(|(call, all)| all.len() - got.get(call).map_or(0, Vec::len))
            .sum();
        let twice: u32 = charged.values().map(|count| count - 1).sum();
        assert!(
            orphans <= 18 && twice as usize <= orphans,
            "{twice} paid twice, {orphans} under way"
        );
        assert!(
            got.values().all(|attempts| attempts.len() == 1),
            "an answered call was sent again"
        );
        let results: Value =
            serde_json::from_slice(&std::fs::read(questions.bench.directory("").join("results.json")).unwrap())
                .unwrap();
        let sums = &results["host"]["calls"]["model"];
        assert_eq!(
            (sums["answered"].as_u64(), sums["maybe"].as_u64()),
            (Some(COUNT as u64), Some(orphans as u64))
        );
    }
}

#[test]
fn an_address_that_dies_costs_its_calls_in_flight() {
    let slow = |asked: &fixture_service::Asked| right(asked).after(Duration::from_millis(10));
    let (one, two) = (service(Dialect::Openai, slow), service(Dialect::Openai, slow));
    let questions = Questions::new(COUNT);
    let addresses = format!("{},{}", one.address(), two.address());
    let mut command = questions.command(Dialect::Openai, &addresses, "-M concurrency=4-4-4 -M resend=2");
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    questions.wait(&one, 10);
    one.kill();
    super::said(child.wait_with_output().unwrap(), 0, &[]);
    assert_eq!(questions.records().len(), COUNT);
    let charged = charges(&[&one, &two]);
    assert!(
        charged.len() == COUNT && charged.values().all(|count| *count == 1),
        "{charged:?}"
    );
    assert!(charges(&[&one]).len() >= 10 && charges(&[&two]).len() >= 20);
    let addresses: BTreeSet<String> = questions
        .records()
        .values()
        .filter_map(|record| record["reply"]["address"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(addresses.len(), 2);
}

#[test]
fn a_judging_that_is_killed_at_any_instant_pays_for_no_answered_call_twice() {
    const CASES: usize = 20;
    let what = format!("{RUN} --model echo");
    for dialect in DIALECTS {
        let start = || service(dialect, |asked| verdict(asked).after(Duration::from_millis(15)));
        // The time of an undisturbed command on this machine.
        let began = Instant::now();
        Judged::new(dialect, CASES).check(&what, &start(), "", 0, &[]);
        let whole = began.elapsed();
        for round in 0..10 {
            let (service, judged) = (start(), Judged::new(dialect, CASES));
            let share = RandomState::new().hash_one(round) as f64 / u64::MAX as f64;
            let instant = whole.mul_f64(share);
            let mut command = judged.command(&what, &service, "");
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(instant);
            child.kill().unwrap();
            child.wait().unwrap();
            let paid = charges(&[&service]).len();
            let said = judged.check(&what, &service, "", 0, &[]);
            assert!(
                !said.contains("unscored"),
                "killed after {instant:?} with {paid} paid:\n{said}"
            );
            check_books(&service, &[judged.questions.bench.directory("")], CASES, 1);
        }
    }
}
