//! A judge and its host, over the wire.

use super::*;
use crate::client::{JudgeClient, Judging, NextCase};
use crate::{Code, Message, Prompt, Reply, Ruling};
use std::sync::{Arc, Barrier};
use std::time::Duration;

/// Asks a model about each case; two cases must be under way at a time before either is answered.
struct Asks;

impl Judge for Asks {
    fn card(&self) -> JudgeCard {
        JudgeCard {
            batch: 2,
            asks: vec!["judge".to_owned()],
            ..JudgeCard::new("asks", "1")
        }
    }

    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
        call.progress(0.5, "asking");
        let reply = call.generate("judge", &Prompt::new([Message::user(&case.reply.text)]))?;
        match reply.text.as_str() {
            "panic" => panic!("the judge is unwell"),
            "fail" => Err(Error::msg("no verdict today")),
            text => Ok(Verdict::of(text == "right", text)),
        }
    }
}

struct Court {
    waiting: Mutex<Vec<(u64, &'static str)>>,
    ruled: Mutex<Ruled>,
    heard: Mutex<Vec<(Option<u64>, String)>>,
    asked: Mutex<Vec<(Option<u64>, String)>>,
    together: Barrier,
}

impl Judging for Court {
    fn give(&self, _wait: Duration) -> NextCase {
        let Some((id, text)) = self.waiting.lock().unwrap().pop() else {
            return NextCase::End;
        };
        let case = Case {
            reply: Reply::text(text),
            ..Case::default()
        };
        let (case, deadline) = (Box::new(case), None);
        NextCase::Case { id, case, deadline }
    }

    fn take(&self, id: u64, verdict: Result<Verdict>) -> bool {
        self.ruled.lock().unwrap().push((id, verdict));
        true
    }

    fn generate(&self, id: Option<u64>, role: &str, prompt: Prompt) -> Result<Reply> {
        assert_eq!(role, "judge");
        self.asked.lock().unwrap().push((id, prompt.last_user_text()));
        self.together.wait();
        Ok(Reply::text(prompt.last_user_text()))
    }

    fn progress(&self, id: Option<u64>, _share: f64, words: &str) -> bool {
        self.heard.lock().unwrap().push((id, words.to_owned()));
        true
    }
}

type Ruled = Vec<(u64, Result<Verdict>)>;

fn rule(cases: &[(u64, &'static str)]) -> (Result<()>, Ruled, Court) {
    let court = Court {
        waiting: Mutex::new(cases.iter().rev().copied().collect()),
        ruled: Mutex::default(),
        heard: Mutex::default(),
        asked: Mutex::default(),
        together: Barrier::new(2),
    };
    let adapter: Arc<dyn Adapter> = Arc::new(JudgeAdapter(Box::new(Asks)));
    let outcome = JudgeClient(adapter).serve(&court);
    let mut ruled = std::mem::take(&mut *court.ruled.lock().unwrap());
    ruled.sort_by_key(|(id, _)| *id);
    (outcome, ruled, court)
}

#[test]
fn as_many_cases_are_under_way_as_the_card_says() {
    let (outcome, ruled, court) = rule(&[(1, "right"), (2, "wrong"), (3, "fail"), (4, "right")]);
    outcome.unwrap();
    let rulings: Vec<_> = ruled
        .iter()
        .map(|(_, verdict)| verdict.as_ref().map(|it| it.ruling))
        .collect();
    assert_eq!(rulings[0], Ok(Ruling::Right));
    assert_eq!(rulings[1], Ok(Ruling::Wrong));
    assert_eq!(rulings[2].as_ref().unwrap_err().message, "no verdict today");
    assert_eq!(rulings[3], Ok(Ruling::Right));
    let mut heard = court.heard.into_inner().unwrap();
    heard.sort();
    assert_eq!(heard[0], (Some(1), "asking".to_owned()));
    assert_eq!(heard.len(), 4);
    let mut asked = court.asked.into_inner().unwrap();
    asked.sort();
    assert_eq!(
        asked[1],
        (Some(2), "wrong".to_owned()),
        "a question to a model names its case"
    );
}

#[test]
fn a_panic_costs_its_case_and_ends_the_judge() {
    let (outcome, ruled, _) = rule(&[(1, "panic"), (2, "right")]);
    assert_eq!(outcome.unwrap_err().code, Code::PANIC);
    assert_eq!(ruled[0].1.as_ref().unwrap_err().code, Code::PANIC);
    assert_eq!(ruled[1].1.as_ref().unwrap().ruling, Ruling::Right);
}
