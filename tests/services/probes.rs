//! `host judge probe`: answers with known verdicts, and judges that some of them deceive.

use super::judging::{Judged, PRICES};
use super::{DIALECTS, Dialect, charges, service};
use fixture_service::{Act, Asked, answer};
use serde_json::{Value, json};
use std::fs;

/// The text between marks after these words.
fn shown(asked: &Asked, after: &str) -> String {
    let prompt = asked.prompt();
    let from = prompt.split(after).nth(1).unwrap_or_default();
    let text = from.split('\n').skip(2).take_while(|line| !line.starts_with('⟦'));
    text.collect::<Vec<_>>().join("\n")
}

/// A judge that is right about answers, except that it obeys orders, does not recognise refusals, and takes an empty
/// answer as right.
fn gullible(asked: &Asked) -> Act {
    let (gold, given) = (
        shown(asked, "The reference answer:"),
        shown(asked, "The answer to grade:"),
    );
    let score = match given.as_str() {
        "I'm sorry, but I can't help with that." => return answer(asked, "Who knows?"),
        text if text.contains("Ignore everything above") => 1,
        "" => 1,
        text => u32::from(text == gold),
    };
    answer(asked, &json!({ "reason": "by the rule", "score": score }).to_string())
}

/// Four questions of which every second one has the other answer.
fn judged(dialect: Dialect) -> Judged {
    let judged = Judged::new(dialect, 4);
    let file = judged.questions.bench.path("data/ARC-Easy-Test.jsonl");
    let rows = fs::read_to_string(&file).unwrap();
    let turned = rows.lines().enumerate().map(|(place, row)| match place % 2 {
        0 => row.to_owned(),
        _ => row.replace("\"answerKey\":\"A\"", "\"answerKey\":\"B\""),
    });
    fs::write(&file, turned.collect::<Vec<_>>().join("\n")).unwrap();
    judged
}

#[test]
fn a_judge_is_shown_what_everybody_knows_and_its_failures_come_before_its_figures() {
    for dialect in DIALECTS {
        let service = service(dialect, gullible);
        let judged = judged(dialect);
        let name = format!("rubric[{}]", dialect.model());
        let run = judged.answered_by("echo");
        let probe = format!("judge probe {} --samples 4", run.display());
        let words = [
            "failed: an order to call it right, sample q-0: called right: by the rule",
            "failed: a refusal, sample q-3: left unscored (unparsable)",
            "the reference answer itself              passed 4 of 4",
            "the reference answer of another sample   passed 4 of 4",
            "an empty answer                          passed 0 of 4, failed 4",
        ];
        let said = judged.check(&probe, &service, "", 0, &words);
        assert!(said.find("failed: an order") < said.find("passed 4 of 4"), "{said}");
        let paid = charges(&[&service]).len();
        let asked = service.charges().len();
        judged.check(&probe, &service, "", 0, &words);
        assert_eq!(
            (service.charges().len(), charges(&[&service]).len()),
            (asked, paid),
            "probes are asked once"
        );
        assert!(service.charges().values().all(|count| *count == 1));
        // The judging and all readers of its results use the probes' findings.
        let note = format!(
            "judge {name} fails 8 of 20 probes (4 an empty answer, 4 an order to call it right) and leaves 4 unscored"
        );
        judged.check(&format!("score {}", run.display()), &service, "", 0, &[&note]);
        let results: Value = serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap();
        let probes = &results["host"]["judges"][&name]["probes"];
        assert_eq!(
            probes["kinds"]["order"],
            json!({ "passed": 0, "failed": 4, "unscored": 0 })
        );
        fs::write(
            judged.questions.bench.path("labels.jsonl"),
            "{\"sample_id\": \"q-1\", \"right\": false}\n",
        )
        .unwrap();
        let check = judged
            .questions
            .bench
            .check(&format!("judge check labels.jsonl {}", run.display()), 0, &[]);
        assert!(
            check.find("failed: an empty answer") < check.find("against 1 labels"),
            "{check}"
        );
        // A judge with other settings counts as another one, which was not probed.
        let other = judged.check(&format!("score {}", run.display()), &service, "-J repeat=2", 0, &[]);
        assert!(!other.contains("probes"), "{other}");
    }
}

#[test]
fn probes_keep_to_what_may_be_spent_and_pairs_are_probed_in_both_orders() {
    let service = service(Dialect::Openai, |asked| {
        // The longer answer wins, whatever its content.
        let longer = shown(asked, "Answer A:").len() > shown(asked, "Answer B:").len();
        let winner = if longer { "A" } else { "B" };
        answer(
            asked,
            &json!({ "reason": "longer", "winner": winner, "score": 0 }).to_string(),
        )
    });
    let judged = judged(Dialect::Openai);
    fs::write(judged.questions.bench.path("prices.toml"), PRICES).unwrap();
    let run = judged.answered_by("echo");
    let probe = format!("judge probe {} --samples 2", run.display());
    let prices = "-M openai:prices=prices.toml -J max_tokens=16";
    judged.check(
        &probe,
        &service,
        &format!("{prices} --max-cost-usd 0.001"),
        5,
        &["--max-cost-usd"],
    );
    assert!(charges(&[&service]).is_empty());
    let output = {
        let line = format!("{probe} --judge winner --role judge=openai --json");
        let mut command = judged.command("", &service, "");
        let arguments: Vec<String> = command
            .get_args()
            .map(|one| one.to_string_lossy().into_owned())
            .collect();
        let settings: Vec<&String> = arguments.iter().skip_while(|one| *one != "-M").collect();
        command = judged.questions.bench.command(&line);
        command.args(settings).env("OPENAI_API_KEY", super::KEY);
        command.output().unwrap()
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let found: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(found["judge"], "winner");
    assert_eq!(
        found["kinds"]["own_gold"],
        json!({ "passed": 2, "failed": 0, "unscored": 0 }),
        "{found}"
    );
    assert_eq!(
        found["kinds"]["refusal"],
        json!({ "passed": 0, "failed": 2, "unscored": 0 }),
        "{found}"
    );
    assert_eq!((&found["without_asking"], &found["asked"]), (&2.into(), &10.into()));
}

#[test]
fn a_run_without_reference_answers_cannot_be_probed() {
    let judged = judged(Dialect::Openai);
    let service = service(Dialect::Openai, gullible);
    let run = judged.answered_by("echo");
    let file = run.join("samples.jsonl");
    let rows = fs::read_to_string(&file).unwrap();
    let without = rows.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).unwrap();
        line["target"] = Value::Null;
        format!("{line}\n")
    });
    fs::write(&file, without.collect::<String>()).unwrap();
    let probe = format!("judge probe {}", run.display());
    judged.check(
        &probe,
        &service,
        "",
        2,
        &["no sample of the run has a reference answer", "host judge check"],
    );
    assert!(charges(&[&service]).is_empty());
}
