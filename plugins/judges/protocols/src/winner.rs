//! The protocol `winner`: which of two replies is better? The question is asked in both orders, since models prefer
//! one position.

use crate::ask::{Asked, Asking, Question, add_cost, flag, in_words};
use crate::identity;
use crate::marks::{Marks, RULE};
use crate::panel::Protocol;
use plugin_api::{Call, Case, Code, Error, Judge, JudgeCard, Reply, Result, Ruling, Settings, Verdict};
use score::calls::Calls;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub(crate) struct Winner {
    asking: Asking,
    both_orders: bool,
}

impl Winner {
    pub fn load(settings: &Settings) -> Result<Winner> {
        let orders: u32 = settings.or("orders", 2)?;
        if !(1..=2).contains(&orders) {
            let message = format!("setting `orders` is {orders}, expected 1 or 2");
            return Err(Error::new(Code::SETTINGS, message));
        }
        Ok(Winner {
            asking: Asking::load(settings)?,
            both_orders: orders == 2,
        })
    }
}

/// Who won in one order, after undoing the swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    First,
    Second,
    Tie,
}

impl Side {
    fn word(self) -> &'static str {
        match self {
            Side::First => "first",
            Side::Second => "second",
            Side::Tie => "tie",
        }
    }

    fn ruling(self) -> (Ruling, f64) {
        match self {
            Side::First => (Ruling::First, 0.0),
            Side::Second => (Ruling::Second, 1.0),
            Side::Tie => (Ruling::Tie, 0.5),
        }
    }
}

impl Protocol for Winner {
    fn asking(&mut self) -> &mut Asking {
        &mut self.asking
    }
}

impl Judge for Winner {
    fn card(&self) -> JudgeCard {
        JudgeCard {
            compares: true,
            ..identity::card("winner", "1", &question(&Case::default(), "", "", self.asking.longest))
        }
    }

    fn judge(&self, case: &Case, call: &mut Call) -> Result<Verdict> {
        let Some(other) = &case.other else {
            let error = Error::unsupported("judge `winner` compares two replies, and there is one");
            return Err(error.help("`host compare FIRST SECOND --judge winner` shows it pairs"));
        };
        if alike(&case.reply, other) {
            return Ok(Verdict {
                ruling: Ruling::Tie,
                value: Some(0.5),
                why: Some("equal_without_asking".to_owned()),
                ..Verdict::unscored("both replies say the same")
            });
        }
        let swapped_alone = !self.both_orders && hash_bit(&case.sample.id);
        let orders: &[bool] = match (self.both_orders, swapped_alone) {
            (true, _) => &[false, true],
            (false, swapped) => {
                if swapped {
                    &[true]
                } else {
                    &[false]
                }
            }
        };
        let mut rounds = Vec::new();
        for swapped in orders {
            rounds.push((*swapped, self.round(case, other, *swapped, call)?));
        }
        Ok(combine(rounds, self.both_orders))
    }
}

impl Winner {
    fn round(&self, case: &Case, other: &Reply, swapped: bool, call: &mut Call) -> Result<Asked> {
        let (a, b) = if swapped {
            (other, &case.reply)
        } else {
            (&case.reply, other)
        };
        let question = question(case, &text_of(a), &text_of(b), self.asking.longest);
        self.asking.ask(&question, call)
    }
}

/// The same side twice wins; a tie and a side is a tie; opposite sides are inconsistent; one unparsable order leaves
/// the pair unscored.
fn combine(rounds: Vec<(bool, Asked)>, both_orders: bool) -> Verdict {
    let mut verdict = Verdict::default();
    let mut sides: Vec<Option<Side>> = Vec::new();
    let mut whys = Vec::new();
    for (swapped, asked) in rounds {
        let opinion = asked.majority();
        let side = opinion.word.as_deref().and_then(|word| match (word, swapped) {
            ("tie", _) => Some(Side::Tie),
            ("a", false) | ("b", true) => Some(Side::First),
            ("b", false) | ("a", true) => Some(Side::Second),
            _ => None,
        });
        let name = if swapped { "winner_backward" } else { "winner_forward" };
        let word = side.map_or(Value::Null, |side| side.word().into());
        verdict.other.insert(name.to_owned(), word);
        if let (Some(word), Some(_)) = (&opinion.word, side) {
            let slots = verdict.other.entry("slots").or_insert_with(|| json!([]));
            slots.as_array_mut().expect("made as a list").push(word.clone().into());
        }
        if verdict.reason.is_empty() {
            verdict.reason = opinion.reason();
        }
        whys.push(opinion.why);
        sides.push(side);
        let round = asked.verdict;
        add_cost(&mut verdict.cost, &round.cost);
        verdict.calls.extend(round.calls);
        round.flags.iter().for_each(|name| flag(&mut verdict, name));
        if let Some(raw) = round.raw {
            let so_far = verdict.raw.get_or_insert_with(String::new);
            so_far.push_str(if so_far.is_empty() { "" } else { "\n" });
            so_far.push_str(&raw);
        }
        verdict.model_version = verdict.model_version.or(round.model_version);
    }
    if !both_orders {
        flag(&mut verdict, "unswapped");
    }
    let why = |word: &str| Some(word.to_owned());
    let known: Option<Vec<Side>> = sides.iter().copied().collect();
    let Some(known) = known else {
        let unread = whys.into_iter().find(|why| *why != "ok").unwrap_or("unparsable");
        verdict.why = why(unread);
        verdict.reason = in_words(unread);
        return verdict;
    };
    let (one, two) = (known[0], *known.last().expect("one order at least"));
    let winner = match (one, two) {
        (one, two) if one == two => one,
        (Side::Tie, side) | (side, Side::Tie) => {
            verdict.other.insert("lean".to_owned(), side.word().into());
            Side::Tie
        }
        _ => {
            verdict.why = why("inconsistent");
            return verdict;
        }
    };
    let (ruling, value) = winner.ruling();
    (verdict.ruling, verdict.value, verdict.why) = (ruling, Some(value), why("ok"));
    verdict
}

fn alike(one: &Reply, other: &Reply) -> bool {
    let calls = |reply: &Reply| Calls::in_list(&reply.tool_calls);
    one.text.trim() == other.text.trim() && calls(one) == calls(other)
}

fn text_of(reply: &Reply) -> String {
    let calls = Calls::in_list(&reply.tool_calls);
    let lines = calls.calls.iter().map(|call| call.to_text());
    let parts: Vec<String> = [reply.text.trim().to_owned()].into_iter().chain(lines).collect();
    parts.join("\n").trim().to_owned()
}

fn hash_bit(id: &str) -> bool {
    Sha256::digest(id.as_bytes())[0] & 1 == 1
}

fn question(case: &Case, a: &str, b: &str, longest: usize) -> Question {
    let asked = case.prompt.as_ref().map(|prompt| prompt.last_user_text());
    let task = asked.unwrap_or_else(|| case.sample.doc.to_string());
    let gold = match &case.sample.target {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    let mut marks = Marks::of([task.as_str(), &gold, a, b], longest);
    let mut user = format!("The task:\n{}\n", marks.around(&task));
    if !gold.is_empty() {
        user += &format!("\nThe reference answer:\n{}\n", marks.around(&gold));
    }
    user += &format!(
        "\nAnswer A:\n{}\n\nAnswer B:\n{}\n\n{STEPS}",
        marks.around(a),
        marks.around(b)
    );
    Question {
        system: format!("You compare two answers to the same task. {RULE}"),
        user,
        schema: json!({
            "type": "object", "additionalProperties": false, "required": ["reason", "winner"],
            "properties": {
                "reason": { "type": "string" },
                "winner": { "type": "string", "enum": ["A", "B", "tie"] },
            },
        }),
        field: "winner",
        menu: ["a", "b", "tie"].map(str::to_owned).to_vec(),
        shortened: marks.shortened,
    }
}

const STEPS: &str = "\
Which answer does the task better? Judge what is done, not how it is worded: an answer that is right beats one that is \
wrong, whatever its length. When both are as good, say `tie`.

Answer with JSON only: {\"reason\": \"…\", \"winner\": \"A\"} where winner is A, B or tie.";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::Opinion;

    fn asked(word: Option<&str>) -> Asked {
        Asked {
            opinions: vec![Opinion {
                word: word.map(str::to_owned),
                why: if word.is_some() { "ok" } else { "unparsable" },
                object: serde_json::Map::new(),
            }],
            verdict: Verdict::default(),
        }
    }

    /// `forward` and `backward` are the model's words in the two orders.
    #[track_caller]
    fn check(forward: Option<&str>, backward: Option<&str>, ruling: Ruling, why: &str) {
        let verdict = combine(vec![(false, asked(forward)), (true, asked(backward))], true);
        assert_eq!(
            (verdict.ruling, verdict.why.as_deref()),
            (ruling, Some(why)),
            "{forward:?} {backward:?}"
        );
        assert_eq!(verdict.value.is_some(), ruling != Ruling::Unscored);
    }

    #[test]
    fn a_side_wins_only_in_both_orders() {
        check(Some("a"), Some("b"), Ruling::First, "ok");
        check(Some("b"), Some("a"), Ruling::Second, "ok");
        check(Some("tie"), Some("tie"), Ruling::Tie, "ok");
        check(Some("tie"), Some("a"), Ruling::Tie, "ok");
        check(Some("a"), Some("a"), Ruling::Unscored, "inconsistent");
        check(Some("a"), None, Ruling::Unscored, "unparsable");
        check(None, Some("b"), Ruling::Unscored, "unparsable");
    }

    #[test]
    fn a_tie_beside_a_side_keeps_the_lean() {
        let verdict = combine(vec![(false, asked(Some("tie"))), (true, asked(Some("a")))], true);
        assert_eq!(verdict.other["lean"], "second");
        assert_eq!(verdict.other["winner_backward"], "second");
    }
}
