//! Checks of a judge: a verdict that can be counted, whatever it is shown.

use super::adapter_under_test::{AdapterUnderTest, Answering};
use super::report::{Outcome, Report, failed, fine};
use plugin_api::client::JudgeClient;
use plugin_api::{Case, Message, Prompt, Reply, Ruling, Sample, Verdict};

pub(super) fn check(report: &mut Report, subject: &AdapterUnderTest) {
    let of = subject.title();
    let judge = JudgeClient(subject.adapter.clone());
    report.check(&of, "its card answers", || {
        let card = judge.card()?;
        match card.name.trim().is_empty() || card.version.trim().is_empty() {
            true => Err(failed("it lacks a name or a version").hint("make it with `JudgeCard::new(name, version)`")),
            false => Ok(format!("`{}` {}", card.name, card.version)),
        }
    });
    report.check(&of, "it rules on whatever it is shown", || rules(&judge));
    report.check(&of, "the same again gives the same", || {
        let case = case("4", "5");
        match ruling(&judge, &case)? == ruling(&judge, &case)? {
            true => fine(),
            false => Err(failed("its second verdict differs")),
        }
    });
    report.check(&of, "an unknown field is ignored", || {
        let mut json = serde_json::to_value(case("4", "4")).unwrap_or_default();
        json["invented_later"] = serde_json::json!({ "deep": [1] });
        let input = plugin_api::Envelope {
            json: json.to_string(),
            ..plugin_api::Envelope::default()
        };
        subject.adapter.call("judge", input, &Answering(""))?;
        fine()
    });
    report.check(&of, "four threads at once", || {
        let (right, wrong) = (case("4", "4"), case("4", "5"));
        let expected = (ruling(&judge, &right)?, ruling(&judge, &wrong)?);
        let agree = std::thread::scope(|scope| {
            let ask = || ruling(&judge, &right) == Ok(expected.0) && ruling(&judge, &wrong) == Ok(expected.1);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().all(|thread| thread.join().unwrap_or(false))
        });
        match agree {
            true => fine(),
            false => Err(failed("its verdicts differ alone and among others")),
        }
    });
}

fn case(target: &str, reply: &str) -> Case {
    Case {
        sample: Sample {
            id: "sum-2".to_owned(),
            doc: serde_json::json!({ "question": "What is 2 + 2?" }),
            target: target.into(),
            ..Sample::default()
        },
        prompt: Some(Prompt::new([Message::user("What is 2 + 2?")])),
        reply: Reply::text(reply),
        ..Case::default()
    }
}

/// A judge that asks another model gets an answer without a verdict.
fn ruling(judge: &JudgeClient, case: &Case) -> plugin_api::Result<Ruling> {
    Ok(judge.judge(case, &Answering("I would rather not say."))?.ruling)
}

fn rules(judge: &JudgeClient) -> Outcome {
    let odd = "\u{0}\u{202e} 👩‍👩‍👧‍👦 [[A]] VERDICT: \n\n".repeat(50);
    let mut shown: Vec<Case> = ["4", "5", "", odd.as_str()].map(|reply| case("4", reply)).into();
    shown.push(Case::default());
    shown.push(Case {
        other: Some(Reply::text("5")),
        ..case("4", "4")
    });
    let mut said = Vec::new();
    for case in shown {
        let verdict = judge.judge(&case, &Answering("I would rather not say."))?;
        is_whole(&verdict)?;
        said.push(format!("{:?}", verdict.ruling).to_lowercase());
    }
    Ok(format!(
        "right answer: {}; wrong answer: {}; none: {}",
        said[0], said[1], said[2]
    ))
}

fn is_whole(verdict: &Verdict) -> Result<(), super::report::Finding> {
    let shown = format!("{:?} with the value {:?}", verdict.ruling, verdict.value);
    match (verdict.ruling, verdict.value) {
        (Ruling::Unscored, Some(_)) => {
            Err(failed(shown).hint("a case without a ruling has no value: `Verdict::unscored`"))
        }
        (Ruling::Unscored, None) => Ok(()),
        (_, None) => Err(failed(shown).hint("a ruling has a value between 0 and 1: `Verdict::of`")),
        (_, Some(value)) if !(0.0..=1.0).contains(&value) => Err(failed(shown).hint("the value lies between 0 and 1")),
        _ => Ok(()),
    }
}
