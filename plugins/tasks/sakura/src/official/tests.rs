//! What the official extraction makes of a judge's words, malformed ones included. Each expectation is what Python's
//! `re.search(r"Explanation: (.*?)\nJudgement: (.*?)(?:\n\n|$)", reply, re.DOTALL)` finds.

use super::{Count, Judgement, NOTHING, Verdict};

#[track_caller]
fn check(reply: &str, explanation: &str, judgement: &str, verdict: Verdict) {
    let read = Judgement::read(reply);
    assert_eq!(
        (read.explanation, read.judgement),
        (explanation, judgement),
        "{reply:?}"
    );
    assert_eq!(read.verdict(), verdict, "{reply:?}");
}

#[track_caller]
fn check_nothing(reply: &str) {
    assert_eq!(Judgement::read(reply), NOTHING, "{reply:?}");
    assert_eq!(NOTHING.verdict(), Verdict::Invalid);
}

#[test]
fn a_reply_in_the_form_that_was_asked_for() {
    check(
        "Explanation: Fine.\nJudgement: correct",
        "Fine.",
        "correct",
        Verdict::Correct,
    );
    check(
        "Explanation: No.\nJudgement: incorrect\n",
        "No.",
        "incorrect",
        Verdict::Incorrect,
    );
    check(
        "Explanation: a\nb\nJudgement:  INCORRECT ",
        "a\nb",
        " INCORRECT ",
        Verdict::Incorrect,
    );
    check(
        "Well.\nExplanation: x\nJudgement: Correct\n\nBye",
        "x",
        "Correct",
        Verdict::Correct,
    );
    check(
        "Explanation: \nJudgement: correct\u{1f}",
        "",
        "correct\u{1f}",
        Verdict::Correct,
    );
    check(
        "Explanation: a Explanation: b\nJudgement: correct",
        "a Explanation: b",
        "correct",
        Verdict::Correct,
    );
    check(
        "Explanation: x\nJudgement: correct\u{2028}",
        "x",
        "correct\u{2028}",
        Verdict::Correct,
    );
}

#[test]
fn a_judgement_that_is_neither_word_is_invalid() {
    check("Explanation: x\nJudgement: correct.", "x", "correct.", Verdict::Invalid);
    check(
        "Explanation: x\nJudgement: correct\nBye",
        "x",
        "correct\nBye",
        Verdict::Invalid,
    );
    check(
        "Explanation: x\nJudgement: \"correct\"",
        "x",
        "\"correct\"",
        Verdict::Invalid,
    );
    check("Explanation: x\nJudgement: ", "x", "", Verdict::Invalid);
    check("Explanation: x\nJudgement: \n\ncorrect", "x", "", Verdict::Invalid);
    check("Explanation: x\nJudgement: \n", "x", "", Verdict::Invalid);
    check(
        "Explanation: x\nJudgement: correct\nJudgement: correct",
        "x",
        "correct\nJudgement: correct",
        Verdict::Invalid,
    );
    check(
        "Explanation: x\nJudgement: correct\r\n\r\n",
        "x",
        "correct\r\n\r",
        Verdict::Correct,
    );
}

#[test]
fn a_reply_in_another_form_holds_no_judgement() {
    check_nothing("");
    check_nothing("no format at all");
    check_nothing("Judgement: correct");
    check_nothing("Explanation:x\nJudgement: correct");
    check_nothing("Explanation: x\nJudgement:correct");
    check_nothing("Explanation: x\nJudgment: correct");
    check_nothing("Explanation: x\njudgement: correct");
    check_nothing("Explanation: x Judgement: correct");
    check_nothing("Judgement: correct\nExplanation: x");
    check_nothing("**Explanation:** x\n**Judgement:** correct");
    check_nothing("Explanation: x\n Judgement: correct");
    check_nothing("Explanation: x\r\nJudgement:\u{a0}correct");
}

#[test]
fn invalid_judgements_stay_in_the_denominator() {
    let mut count = Count::default();
    assert_eq!(count.accuracy(), None);
    for verdict in [Verdict::Correct, Verdict::Incorrect, Verdict::Invalid, Verdict::Invalid] {
        count.add(verdict);
    }
    assert_eq!((count.total(), count.accuracy()), (4, Some(0.25)));
}
