//! Several models as one judge: each is asked once, a majority rules, and their agreement is reported.

use super::judging::{Judged, RUN};
use super::{Dialect, KEY, number, said, service};
use fixture_service::{Act, Asked, Service, answer};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;

/// The members: two services in one dialect and one in the other.
const MEMBERS: [(&str, Dialect); 3] = [
    ("openai", Dialect::Openai),
    ("gemini", Dialect::Gemini),
    ("third", Dialect::Openai),
];

/// A member's answers, a letter for each question: `r` right, `w` wrong, `u` no verdict.
fn says(words: &'static str) -> impl Fn(&Asked) -> Act {
    move |asked| {
        let letter = words.as_bytes()[number(asked)];
        let (score, winner) = match letter {
            b'r' => (1, "A"),
            b'w' => (0, "B"),
            _ => return answer(asked, "It is hard to say."),
        };
        answer(
            asked,
            &json!({ "reason": "by the rule", "score": score, "winner": winner }).to_string(),
        )
    }
}

struct Panel {
    judged: Judged,
    services: Vec<Service>,
}

impl Panel {
    /// What each member says to each of this many questions.
    fn new(words: [&'static str; 3]) -> Panel {
        let judged = Judged::new(Dialect::Openai, words[0].len());
        let file = judged.questions.bench.path("services.toml");
        let text = fs::read_to_string(&file).unwrap() + "[models.third]\nplugin = \"openai\"\nadapter = \"openai\"\n";
        fs::write(&file, text).unwrap();
        let services = MEMBERS
            .iter()
            .zip(words)
            .map(|((_, dialect), words)| service(*dialect, says(words)));
        Panel {
            services: services.collect(),
            judged,
        }
    }

    fn command(&self, what: &str, more: &str) -> Command {
        let settings: String = MEMBERS
            .iter()
            .zip(&self.services)
            .map(|((name, dialect), service)| {
                format!(
                    " -M {name}:base_url={} -M {name}:model={} -M {name}:first_pause=0.02 -M {name}:wait_for_engine=1",
                    service.address(),
                    dialect.served()
                )
            })
            .collect();
        let line = format!("{what} --registry services.toml{settings} {more}");
        let mut command = self.judged.questions.bench.command(&line);
        command
            .env("OPENAI_API_KEY", KEY)
            .env("GOOGLE_API_KEY", KEY)
            .env_remove("GEMINI_API_KEY")
            .env("XDG_CACHE_HOME", self.judged.questions.bench.path("cache"));
        command
    }

    #[track_caller]
    fn check(&self, what: &str, more: &str, exit: i32, words: &[&str]) -> String {
        said(self.command(what, more).output().expect("it starts"), exit, words)
    }

    /// How often each service was asked.
    fn asked(&self) -> Vec<u32> {
        self.services
            .iter()
            .map(|service| service.charges().values().sum())
            .collect()
    }
}

const NAME: &str = "rubric[openai+gemini+third]";

#[test]
fn more_than_half_of_a_panel_rule_and_each_members_word_is_kept() {
    // Six unanimous or two to one, a tie with one silent, a single voice, and three silent ones.
    let panel = Panel::new(["rrwwrrru", "rrwrwuuu", "rwwwruwu"]);
    let what = format!("{RUN} --model echo --judge auto -J panel=openai,gemini,third");
    let words = [
        "panel rubric[openai+gemini+third]: openai alone 0.7143 (scored 7, unscored 1)",
        "gemini and openai agree on 0.6000 of 5 answers, kappa 0.1667, AC1 0.2308",
        "all members alike on 0.4000 of 5 answers",
        "left 3 answers unscored",
    ];
    panel.check(&what, "", 0, &words);
    let run = panel.judged.questions.bench.directory("");
    let results = || -> Value { serde_json::from_slice(&fs::read(run.join("results.json")).unwrap()).unwrap() };
    let found = results();
    let judge = &found["host"]["judges"][NAME];
    assert_eq!((&judge["n"], &judge["unscored"]), (&5.into(), &3.into()), "{judge}");
    assert_eq!(
        judge["why"],
        json!({ "ok": 5, "no_majority": 1, "tied_votes": 1, "unparsable": 1 }),
        "{judge}"
    );
    let figures = found["results"].as_object().unwrap().values().next().unwrap();
    assert_eq!(figures[format!("{NAME},judge")], 0.6);
    assert_eq!(judge["panel"]["members"]["gemini"]["unscored"], 3);
    assert_eq!(judge["calls"], 24);
    assert_eq!(judge["graders"]["judge/third"][0]["model"], "third");
    let text = fs::read_to_string(run.join("scores.jsonl")).unwrap();
    let kept = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(
        kept.into_iter()
            .all(|line| line["score"]["details"]["panel"].as_object().unwrap().len() == 3)
    );
    // No model is asked twice, by the run or by a later judging.
    panel.check(&what, "", 0, &[]);
    panel.check(
        &format!("score {} --judge rubric", run.display()),
        "-J panel=openai,gemini,third",
        0,
        &[],
    );
    assert_eq!(panel.asked(), [8, 8, 8]);
    // The same members in another number are another judge, by the answers that are there.
    panel.check(
        &format!("score {} --judge auto", run.display()),
        "-J panel=openai,third",
        0,
        &[],
    );
    assert_eq!(panel.asked(), [8, 8, 8]);
    assert_eq!(results()["host"]["judges"]["rubric[openai+third]"]["unscored"], 4);
}

#[test]
fn a_panel_rules_on_pairs_by_its_majority() {
    // Each member prefers the first position, so its two orders disagree.
    let panel = Panel::new(["rrr", "rrr", "rrr"]);
    let runs = [panel.judged.answered_by("echo"), panel.judged.answered_by("stuck")];
    let compare = format!(
        "compare {} {} --judge auto --out all",
        runs[0].display(),
        runs[1].display()
    );
    let words = [
        "by winner[openai+gemini+third]",
        "3 inconsistent",
        "both orders alike 0.0%; first slot chosen 100.0%",
    ];
    panel.check(&compare, "-J panel=openai,gemini,third", 0, &words);
    // Two single runs and the pair in two orders, on three questions.
    assert_eq!(panel.asked(), [12, 12, 12]);
    panel.check(&compare, "-J panel=openai,gemini,third", 0, &words);
    assert_eq!(panel.asked(), [12, 12, 12]);
}

#[test]
fn a_panel_that_cannot_be_is_refused_before_the_first_sample() {
    let panel = Panel::new(["r", "r", "r"]);
    for (more, exit, words) in [
        (
            "--judge openai -J panel=gemini,third",
            2,
            "`--judge openai` names one model that judges, and `panel` names others",
        ),
        ("--judge auto -J panel=thirt,openai", 3, "did you mean `third`?"),
        ("--judge auto -J panel=openai", 2, "a panel needs at least two models"),
        ("--judge auto -J panel=openai,openai", 2, "occurs twice"),
        (
            "--judge auto -J panel=openai,third -M gemini:model=x",
            2,
            "which this command does not use",
        ),
    ] {
        let line = format!("{RUN} --model echo {more} --registry services.toml");
        said(
            panel.judged.questions.bench.command(&line).output().expect("it starts"),
            exit,
            &[words],
        );
        assert!(
            !panel.judged.questions.bench.path("runs").exists(),
            "{more}: nothing was run"
        );
    }
    assert_eq!(panel.asked(), [0, 0, 0]);
}
