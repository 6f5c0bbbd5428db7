//! What identifies a run, a score and a verdict: everything that can change them, and nothing else.

use crate::support::{Bench, clip_file};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines()
        .map(|line| serde_json::from_str(line).expect("whole lines"))
        .collect()
}

/// The one run directory in a folder.
fn only(bench: &Bench, out: &str) -> PathBuf {
    let names = bench.directories(out);
    assert_eq!(names.len(), 1, "{names:?}");
    bench.path(out).join(&names[0])
}

/// The identities of one command's run.
#[derive(Debug, PartialEq)]
struct Identities {
    run: String,
    keys: BTreeSet<String>,
    scores: BTreeSet<String>,
    verdicts: BTreeSet<String>,
}

fn identities(bench: &Bench, arguments: &str, out: &str) -> Identities {
    bench.check(&format!("run {arguments} --out {out}"), 0, &[]);
    let run = only(bench, out);
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let records = lines(&run.join("samples.jsonl"));
    let own = |record: &Value| text(&record["scores"][text(&record["task"])]["identity"]);
    Identities {
        run: run.file_name().unwrap().to_string_lossy().into_owned(),
        keys: records.iter().map(|record| text(&record["key"])).collect(),
        scores: records.iter().map(own).collect(),
        verdicts: lines(&run.join("scores.jsonl"))
            .iter()
            .map(|line| text(&line["score"]["identity"]))
            .collect(),
    }
}

/// Runs `base` and `base` with each change, and compares what changed with what should.
#[track_caller]
fn check(bench: &Bench, base: &str, cases: &[(&str, &str)]) {
    let before = identities(bench, base, "base");
    assert_eq!(before, identities(bench, base, "again"), "{base}");
    for (number, (change, expected)) in cases.iter().enumerate() {
        let after = identities(bench, &format!("{base} {change}"), &format!("case-{number}"));
        let changed = [
            ("run", before.run != after.run),
            ("score", !after.scores.is_subset(&before.scores)),
            ("verdict", !after.verdicts.is_subset(&before.verdicts)),
        ];
        let changed: Vec<&str> = changed
            .iter()
            .filter(|(_, changed)| *changed)
            .map(|(name, _)| *name)
            .collect();
        assert_eq!(changed.join(" "), *expected, "`{base}` with `{change}`");
        // The records' keys follow the run's identity: all of them change, or those in both runs stay equal.
        let common = before.keys.intersection(&after.keys).count();
        let stay = if before.run == after.run {
            before.keys.len().min(after.keys.len())
        } else {
            0
        };
        assert_eq!(common, stay, "the keys of `{base}` with `{change}`");
    }
}

#[test]
fn every_flag_that_can_change_a_number_changes_the_identity_of_what_it_changes() {
    let bench = Bench::new();
    for (folder, voice) in [("voice", "hm "), ("other", "er ")] {
        std::fs::create_dir(bench.path(folder)).unwrap();
        std::fs::write(bench.path(folder).join("voice.txt"), voice).unwrap();
    }
    check(
        &bench,
        "--model echo --task count -T n=3 --judge asker --role grader=stuck",
        &[
            ("-M echo:weights=voice", "run verdict"), // the judge is shown other answers
            ("-M echo:delay_ms=1", ""),               // declared `neutral`
            ("--seed 1", "run"),
            ("--lora none", "run"),
            ("-T n=4", "run score verdict"),
            ("-T generous=true", "run score verdict"),
            ("-M stuck:weights=voice", "verdict"),
            ("-J question=Isn't", "verdict"),
            ("--role other=echo", ""),
            ("--chains 2", ""),
            ("--limit 2", ""),
            ("--limit 0.5", ""),
            ("--sample-id number-1", ""),
            ("--batch-size 1", ""),
            ("--workers 2", ""),
            ("--time-limit 1h", ""),
            ("--fail-on-error 3", ""),
            ("--retry-errors", ""),
            ("--skip-hearing-test", ""),
            ("--groups", ""),
            ("--json", ""),
            ("--quiet", ""),
        ],
    );
}

#[test]
fn chains_without_chance_are_marked() {
    let bench = Bench::new();
    let run = "run --model echo --task count -T n=3";
    let mark = "all 2 answers to each question are the same";
    bench.check(&format!("{run} --chains 2"), 0, &[mark, "leave out `--chains`"]);
    let marks = results(&bench.directory("echo-count"))["host"]["marks"].to_string();
    assert!(marks.contains(mark), "{marks}");
    bench.check(&format!("{run} --out alone"), 0, &[]);
    let marks = results(&only(&bench, "alone"))["host"]["marks"].to_string();
    assert!(!marks.contains("answers to each question"), "{marks}");
}

#[test]
fn a_grader_identifies_the_score_of_a_task_that_asks_it() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("voice")).unwrap();
    std::fs::write(bench.path("voice/voice.txt"), "hm ").unwrap();
    let base = "--model echo --task count -T n=3 -T asks=true --judge agree --role grader=stuck";
    check(
        &bench,
        base,
        &[("-M stuck:weights=voice", "score verdict"), ("--role other=echo", "")],
    );
}

#[test]
fn a_transcriber_identifies_the_runs_that_need_one() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("clips")).unwrap();
    std::fs::copy(clip_file("sweep.flac"), bench.path("clips/1-plain.flac")).unwrap();
    let base = "--model stuck --task clips -T folder=clips --judge agree --ears scribe";
    check(&bench, base, &[("--ears-prompt Repeat", "run verdict")]);
    let deaf = "--model echo --task clips -T folder=clips --judge agree";
    let bench = Bench::new();
    std::fs::create_dir(bench.path("clips")).unwrap();
    std::fs::copy(clip_file("sweep.flac"), bench.path("clips/1-plain.flac")).unwrap();
    check(
        &bench,
        deaf,
        &[
            ("--ears scribe", ""),
            ("--keep-audio", ""),
            ("--audio reverse", "run verdict"),
            ("--audio mask:percent=0", "run"),
        ],
    );
}

#[test]
fn weights_count_by_what_is_in_them() {
    let bench = Bench::new();
    std::fs::create_dir(bench.path("voice")).unwrap();
    std::fs::write(bench.path("voice/voice.txt"), "hm ").unwrap();
    let command = "--model stuck --task count -M weights=voice";
    let before = identities(&bench, command, "a");
    std::fs::write(bench.path("voice/voice.txt"), "er ").unwrap();
    let after = identities(&bench, command, "b");
    assert!(before.run != after.run && before.keys.is_disjoint(&after.keys));
    assert_eq!(before.scores, after.scores);
}

fn results(run: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(run.join("results.json")).unwrap()).unwrap()
}

#[test]
fn another_grader_judges_anew_and_everybody_says_who_graded() {
    let bench = Bench::new();
    let command = |grader: &str| format!("run --model echo --task count --judge asker --role grader={grader}");
    let judged = |grader: &str, expected: usize| {
        bench.check(&command(grader), 0, &[]);
        let run = bench.directory("echo-count");
        assert_eq!(lines(&run.join("scores.jsonl")).len(), expected, "after {grader}");
        let found = results(&run)["host"]["judges"]["asker"]["graders"]["grader"].clone();
        assert_eq!((&found[0]["model"], &found[0]["answers"]), (&json!(grader), &json!(10)));
        let page = std::fs::read_to_string(run.join("report.html")).unwrap();
        assert!(page.contains(&format!("asked `{grader}` as grader")), "{page}");
    };
    judged("stuck", 10);
    judged("stuck", 10);
    judged("echo", 20);
    judged("stuck", 20);
    let run = bench.directory("echo-count");
    bench.check(
        &format!("score {} --judge asker --role grader=echo", run.display()),
        0,
        &[],
    );
    assert_eq!(
        results(&run)["host"]["judges"]["asker"]["graders"]["grader"][0]["model"],
        "echo"
    );
    let page = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(page.contains("asked `echo` as grader"), "{page}");
}

#[test]
fn another_grader_scores_anew_what_a_task_asked_the_former() {
    let bench = Bench::new();
    let command = "run --model echo --task count -T asks=true";
    let acc = |grader: &str, expected: f64| {
        bench.check(&format!("{command} --role grader={grader}"), 0, &[]);
        let found = results(&bench.directory("echo-count"));
        assert_eq!(found["results"]["count"]["acc,none"], expected, "{grader}");
        let graders = &found["host"]["scorers"]["count"]["graders"]["grader"];
        assert_eq!(
            (&graders[0]["model"], &graders[0]["answers"]),
            (&json!(grader), &json!(10))
        );
    };
    acc("stuck", 1.0);
    acc("echo", 0.0);
    acc("stuck", 1.0);
    let later = lines(&bench.directory("echo-count").join("scores.jsonl"));
    assert_eq!(later.len(), 10, "the first grader's scores are in the records");
    // Without a grader, existing scores stay.
    bench.check(command, 0, &[]);
    assert_eq!(lines(&bench.directory("echo-count").join("scores.jsonl")).len(), 10);
    // Samples that failed for lack of a grader are scored once there is one; the model is not asked again.
    let fresh = Bench::new();
    fresh.check(command, 1, &["no model plays the role `grader`"]);
    let answers = std::fs::read(fresh.directory("echo-count").join("samples.jsonl")).unwrap();
    fresh.check(&format!("{command} --role grader=stuck"), 0, &["1.0000"]);
    assert_eq!(
        std::fs::read(fresh.directory("echo-count").join("samples.jsonl")).unwrap(),
        answers
    );
}

#[test]
fn a_verdict_is_not_used_again_when_the_score_it_was_shown_changed() {
    let bench = Bench::new();
    bench.check("run --model stuck --task count --judge agree", 0, &[]);
    let run = bench.directory("stuck-count");
    let verdicts = || {
        let all = lines(&run.join("scores.jsonl"));
        all.iter().filter(|line| line["name"] == "agree").count()
    };
    let judge = format!("score {} --judge agree", run.display());
    bench.check(&judge, 0, &[]);
    assert_eq!(verdicts(), 10);
    bench.check(&format!("score {} -T generous=true", run.display()), 0, &[]);
    bench.check(&judge, 0, &[]);
    assert_eq!(verdicts(), 20);
    bench.check(&judge, 0, &[]);
    assert_eq!(verdicts(), 20);
}

#[test]
fn chains_are_records_of_their_own_with_seeds_of_their_own() {
    let bench = Bench::new();
    let one = "run --model echo --task count -T n=4";
    bench.check(one, 0, &[]);
    let run = bench.directory("echo-count");
    let first = std::fs::read(run.join("samples.jsonl")).unwrap();
    bench.check(&format!("{one} --chains 3"), 0, &[]);
    let all = std::fs::read(run.join("samples.jsonl")).unwrap();
    assert!(all.starts_with(&first), "the first chain is the run without chains");
    let records = lines(&run.join("samples.jsonl"));
    let of = |name: &str| {
        records
            .iter()
            .map(|record| record[name].to_string())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!((records.len(), of("key").len(), of("chain").len()), (12, 12, 3));
    let seeds: BTreeSet<String> = records
        .iter()
        .map(|record| record["given"]["want"]["sampling"]["seed"].to_string())
        .collect();
    assert_eq!(seeds.len(), 12, "{seeds:?}");
    let found = results(&run);
    assert_eq!(found["host"]["chains"], 3);
    assert_eq!(found["results"]["count"]["acc_n,none"], 12);
    assert_eq!(found["n-samples"]["count"]["effective"], 4);
    bench.check(&format!("{one} --chains 3"), 0, &[]);
    assert_eq!(std::fs::read(run.join("samples.jsonl")).unwrap(), all);
    bench.check(&format!("{one} --chains 0"), 2, &["`--chains` must be at least 1"]);
    let scored = bench.check(&format!("score {}", run.display()), 0, &[]);
    assert!(scored.contains("|12|") || scored.contains("12"), "{scored}");
}

#[test]
fn a_run_from_before_scores_is_read() {
    let bench = Bench::new();
    bench.check("run --model stuck --task count", 0, &[]);
    let run = bench.directory("stuck-count");
    let mut old = String::new();
    for mut record in lines(&run.join("samples.jsonl")) {
        let fields = record.as_object_mut().unwrap();
        for field in ["format", "scores", "given", "task", "chain"] {
            fields.remove(field);
        }
        old += &format!("{record}\n");
    }
    std::fs::write(run.join("samples.jsonl"), &old).unwrap();
    let exported = bench.path("csv");
    bench.check(
        &format!("export {} --format csv --out {}", run.display(), exported.display()),
        0,
        &[],
    );
    let table = std::fs::read_to_string(exported.join("records.csv")).unwrap();
    assert!(
        table.lines().nth(8).is_some_and(|line| line.contains(",scored,")),
        "{table}"
    );
    bench.check(&format!("score {} --judge agree", run.display()), 0, &["0.1000"]);
    bench.check(&format!("score {}", run.display()), 0, &["0.1000"]);
    bench.check("run --model stuck --task count", 0, &["0.1000"]);
    assert_eq!(std::fs::read_to_string(run.join("samples.jsonl")).unwrap(), old);
}
